"""`appshelf tune`: a better training configuration, searched for on the stop split."""

import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.session import Refusal, opened
from service.commands.terminal import AsJson, print_json, say, training_progress
from service.commands.training import options_of, train_config

if TYPE_CHECKING:
    from types import ModuleType

    from service.tuning import Bounds, Search, Tried

INTERRUPTED = 130
BEST_SHOWN = 5
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")


def tune(
    context: typer.Context,
    *,
    arch: Annotated[str | None, typer.Option(help="Architecture of the network. wide_deep unless set.")] = None,
    recipe: Annotated[str | None, typer.Option(help="How it is trained: paper, adam or sgd. paper unless set.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="How many trials the study is to hold in the end.")] = 20,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout-s", min=0, help="Seconds after which no trial is begun.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the draws and of each training.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Most epochs of a trial, also of an fnn's pretraining.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of options that are settled and not searched.")] = None,
    study: Annotated[str | None, typer.Option(help="Name of the study; architecture and recipe unless set.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write the best configuration to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Search for a better training configuration and print the best as `appshelf train --config` takes it.

    Trials are judged on the stop split; the gate split is never read. The study is kept, so the same command goes on
    with it, and Ctrl-C or a kill loses the running trial at most. Trials behind the others are ended early.
    """
    tuning = _tuning()
    with opened(context) as container:
        from model.data.dataset import read
        from model.training import check_labels

        options = {"architecture": arch, "recipe": recipe, "epochs": epochs, "seed": seed}
        given = _settled(options_of(config), {name: value for name, value in options.items() if value is not None})
        check_out(out)
        dataset = read(container.home.data)
        check_labels(dataset)
        file = container.home.studies / f"{_name(study, given)}.sqlite"
        found = _searched(file, tuning.Search(given, dataset), tuning.Bounds(trials, timeout_s, time.monotonic))
    _print(found, file, as_json=as_json)
    if out and found.best:
        write_best(out, found.yaml)
    if found.cut_short:
        say("cut short; the same command goes on where this stopped")
        raise typer.Exit(INTERRUPTED)
    if not found.best:
        last = found.tried[-1].why if found.tried else "the time was over before the first"
        raise Refusal(f"no trial of {file} was completed ({last}), so there is no best one; try more, or settle others")


@dataclass(frozen=True)
class Found:
    """What a search has come to. cut_short: by Ctrl-C."""

    tried: "list[Tried]"
    best: "Tried | None"
    cut_short: bool

    @property
    def yaml(self) -> str:
        """The best configuration as `appshelf train --config` takes it."""
        import yaml

        return yaml.safe_dump(self.best.config if self.best else {}, sort_keys=False)


def check_out(out: Path | None) -> None:
    """Raise Refusal unless a file could be written there, before hours go into what it is to hold."""
    if out and not out.parent.is_dir():
        raise Refusal(f"--out {out}: there is no folder {out.parent}; make it first")
    if out and out.is_dir():
        raise Refusal(f"--out {out} is a folder; name a file, such as {out / 'best.yaml'}")


def write_best(out: Path, text: str) -> None:
    """Write the best configuration, and say so. Raises Refusal."""
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Refusal(
            f"--out {out} cannot be written ({error.strerror}); the same command with another goes on"
        ) from error
    say(f"written to {out}")


def _tuning() -> "ModuleType":
    """The search, where what it leans on is installed. Raises Refusal."""
    try:
        return import_module("service.tuning")
    except ModuleNotFoundError as error:
        raise Refusal(f"tune needs {error.name}, which is not installed; `pip install 'appshelf[tune]'`") from error


def _settled(told: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are not searched, checked; options go before what the file has told. Raises Refusal."""
    from model.zoo import check_params

    given = {"architecture": "wide_deep", "recipe": "paper", "seed": 0, **told, **options}
    config = train_config(given)
    check_params(config.architecture, config.net_params())
    return given | {name: value for name, value in config.model_dump(mode="json").items() if name in given}


def _name(study: str | None, given: Mapping[str, Any]) -> str:
    name = study or f"{given['architecture']}-{given['recipe']}"
    if not NAME.fullmatch(name):
        raise Refusal(f"a study cannot be named {name!r}; letters, digits and _.- are, up to 60")
    return name


def _searched(file: Path, search: "Search", bounds: "Bounds") -> Found:
    """Every trial of the study by now."""
    from service.tuning import opened as opened_study

    with opened_study(file, search) as tuner:
        if before := len(tuner.tried()):
            say(f"going on with the study {file}, which holds {before} trial(s)")
        cut_short = False
        try:
            with training_progress() as step:
                tuner.run(bounds, tell=lambda one: _say_trial(one, bounds, tuner.best()), step=step)
        except KeyboardInterrupt:
            cut_short = True
        return Found(tuner.tried(), tuner.best(), cut_short)


def _say_trial(one: "Tried", bounds: "Bounds", best: "Tried | None") -> None:
    reached = f"auc {one.auc:.4f}" if one.auc is not None else one.why
    against = f", best {best.auc:.4f} of trial {best.number + 1}" if best and best.auc is not None else ""
    say(f"trial {one.number + 1} of {bounds.trials} {one.state}: {reached}{against}, {one.seconds:.0f} s")


def _print(found: Found, file: Path, *, as_json: bool) -> None:
    """The trials, and the best one's configuration."""
    if as_json:
        best = asdict(found.best) if found.best else None
        print_json({"study": str(file), "trials": [asdict(one) for one in found.tried], "best": best})
        return
    ranked = sorted(found.tried, key=lambda one: -(one.auc or 0.0))[:BEST_SHOWN]
    if ranked:
        say(f"{len(found.tried)} trial(s) in {file}, the best by AUC on the stop split:")
    for one in ranked:
        say(f"  trial {one.number + 1}, {one.state}: {f'auc {one.auc:.4f}' if one.auc is not None else one.why}")
    if found.best:
        typer.echo(found.yaml, nl=False)
