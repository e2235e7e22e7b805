"""What is compared: contestants by name, each a training configuration, and the one that gains are counted from."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from model.train_config import TrainConfig, TrainingFailed
from model.zoo import ARCHITECTURES, UnknownArchitecture, check_params, first_wrong
from service.errors import ServiceError

WIDE_DEEP = "wide_deep"
HALVES: Mapping[str, Mapping[str, Any]] = {
    "wide": {"architecture": WIDE_DEEP, "params": {"deep": False}},
    "deep": {"architecture": WIDE_DEEP, "params": {"wide": False}},
}
"""Either half of Wide & Deep alone, by the name it may be asked for with."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+ -]{0,39}")
KNOWN = {"contestants", "baseline", "seeds", "defaults"}


class PlanRefused(ServiceError):
    """No comparison can be made of what was asked for."""


@dataclass(frozen=True)
class Contestant:
    """A configuration under a name. config.seed: of its first run; the next runs' are the next numbers."""

    name: str
    config: TrainConfig

    def run(self, place: int) -> TrainConfig:
        """The configuration of its run at `place`, from 0."""
        return self.config.model_copy(update={"seed": self.config.seed + place})


@dataclass(frozen=True)
class Plan:
    """Contestants, the baseline's name, and how many seeds each is trained with."""

    contestants: tuple[Contestant, ...]
    baseline: str
    seeds: int

    def runs(self) -> Iterator[tuple[Contestant, int]]:
        """Every run, all first seeds first, so that a comparison cut short has each contestant once."""
        return ((one, place) for place in range(self.seeds) for one in self.contestants)

    def halves(self) -> tuple[str, str, str] | None:
        """The names of a Wide & Deep, of its wide half alone and of its deep half alone, where all else is equal."""
        for whole in self.contestants:
            wide, deep = (self._half(whole, missing) for missing in ("deep", "wide"))
            if wide and deep:
                return whole.name, wide, deep
        return None

    def _half(self, whole: Contestant, missing: str) -> str | None:
        params = {**whole.config.params, missing: False}
        alone = whole.config.model_copy(update={"params": params})
        same = [one.name for one in self.contestants if one.config == alone and one is not whole]
        return same[0] if same and whole.config.architecture == WIDE_DEEP else None


def named(names: Sequence[str], options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Contestants by the names of architectures, and `wide` and `deep` for the halves; options: of all of them.

    Raises PlanRefused naming one that there is not.
    """
    for name in names:
        if name not in (*ARCHITECTURES, *HALVES):
            there = ", ".join([*ARCHITECTURES, *HALVES])
            raise PlanRefused(f"no architecture {name[:80]!r} to compare; there are {there} (the last two: halves)")
    return [{"name": name, **options} for name in names]


def every() -> tuple[str, ...]:
    """The names of the whole zoo and both halves."""
    return (*ARCHITECTURES, *HALVES)


def plan_of(told: Mapping[str, Any], options: Mapping[str, Any]) -> Plan:
    """The plan of a `compare.yaml`; options: what goes before whatever the file says, None for nothing.

    A contestant is a name and what `appshelf train --config` takes, `arch` being short for `architecture`; one that
    has the name of an architecture or of a half, and no `arch`, is that one. Raises PlanRefused naming the first thing
    that is wrong, before an hour has gone into the contestants before it.
    """
    if unknown := set(told) - KNOWN:
        raise PlanRefused(f"a comparison has no {', '.join(sorted(map(str, unknown)))}; there are {_list(KNOWN)}")
    given = {name: value for name, value in options.items() if value is not None}
    entries, defaults = told.get("contestants"), told.get("defaults") or {}
    if not isinstance(entries, list) or not entries or not isinstance(defaults, Mapping):
        raise PlanRefused("a comparison needs contestants, a list of names with their options, and defaults by name")
    over = {name: value for name, value in given.items() if name not in KNOWN}
    contestants = tuple(_contestant(entry, defaults, over) for entry in entries)
    names = [one.name for one in contestants]
    if twice := {name for name in names if names.count(name) > 1}:
        raise PlanRefused(f"contestants are told apart by name, and {_list(twice)} came twice; give each its own")
    baseline = given.get("baseline", told.get("baseline", WIDE_DEEP if WIDE_DEEP in names else names[0]))
    if baseline not in names:
        raise PlanRefused(f"the baseline {baseline!r} is not among the contestants; there are {', '.join(names)}")
    return Plan(contestants, baseline, _seeds(given.get("seeds", told.get("seeds", 1))))


def _contestant(entry: object, defaults: Mapping[str, Any], over: Mapping[str, Any]) -> Contestant:
    if not isinstance(entry, Mapping):
        raise PlanRefused(f"a contestant is a name with options, and {entry!r} is none; write `- name: {entry}`")
    options = {**defaults, **entry, **over}
    options |= {"architecture": options.pop("arch")} if "arch" in options else {}
    name = options.pop("name", options.get("architecture"))
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise PlanRefused(f"a contestant cannot be named {name!r}; letters, digits, spaces and _.+- are, up to 40")
    if "architecture" not in options:
        options |= _meant(name, options.get("params"))
    try:
        config = TrainConfig.model_validate(options)
        check_params(config.architecture, config.net_params())
    except (TrainingFailed, UnknownArchitecture) as error:
        raise PlanRefused(f"contestant {name!r}: {error}") from error
    except ValidationError as error:
        there = _list({*TrainConfig.model_fields})
        raise PlanRefused(f"contestant {name!r}, option {first_wrong(error)}; there are {there}") from error
    return Contestant(name, config)


def _meant(name: str, params: object) -> dict[str, Any]:
    """What a name of the zoo stands for. Raises PlanRefused for one that is nearly a name of it."""
    if name in HALVES:
        half = HALVES[name]
        given = params if isinstance(params, Mapping) else {}
        return {**half, "params": {**half["params"], **given}}
    near = get_close_matches(name.lower(), [*ARCHITECTURES, *HALVES], n=1, cutoff=0.8)
    if near and near[0] != name:
        raise PlanRefused(
            f"contestant {name!r} has no arch and is nearly named {near[0]}; name it that, or write the arch it has"
        )
    return {"architecture": name} if name in ARCHITECTURES else {}


def _seeds(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100:
        raise PlanRefused(f"seeds are how many runs each contestant has, 1 to 100, and not {value!r}")
    return value


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names))
