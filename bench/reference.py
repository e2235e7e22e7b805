"""The reference work as a home: a catalogue, users, a trained network of the paper's size that is live, and bodies.

    python -m bench.reference HOME [--apps 100000]

A home that stands already is taken as it is. `peers/` in it holds the same work for servers that know nothing of
appshelf, see `bench.reference_export`; `bodies-N.jsonl` holds BODY_COUNT different `/rank` bodies of N candidates.
"""

import argparse
import json
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench import reference_world as world
from bench.reference_export import export
from bench.reference_log import log_of
from model.bundle import load
from model.data.dataset import write
from model.training import Progress, TrainConfig
from service.container import Container, build
from service.lifecycle import promote_version, train_version
from service.settings import Settings
from service.store.ports import AppRecord, Note, UserRecord

CANDIDATES = (50, 200, 1000)
BODY_COUNT = 2_000
RECORDS_AT_ONCE = 2_000
MARK = "reference.json"

TRAINING = TrainConfig(recipe_options={"alpha": 0.01, "l1": 3.0, "rate": 0.05}, batch_size=256, epochs=1)
"""The paper's recipe, one pass over a log of a few hundred batches, the linear half slow enough that the tower learns:
trained, not tuned."""


@dataclass(frozen=True)
class Work:
    """How large the work is. apps: a whole multiple of a thousand; log: rows that the network is trained on."""

    apps: int = 100_000
    users: int = 20_000
    log: int = 150_000
    seed: int = 0


@dataclass(frozen=True)
class Reference:
    """A home that holds the work. version: the one that is live."""

    root: Path
    work: Work
    version: str

    @property
    def peers(self) -> Path:
        """The folder that `bench.reference_export` describes."""
        return self.root / "peers"

    def bodies_file(self, candidates: int, count: int = BODY_COUNT) -> Path:
        """So many different bodies of so many candidates each, one a line; made when they are first asked for."""
        file = self.root / (
            f"bodies-{candidates}.jsonl" if count == BODY_COUNT else f"bodies-{candidates}-{count}.jsonl"
        )
        if not file.exists():
            made = islice(bodies(self.work, candidates), count)
            partial = file.with_suffix(".partial")
            with partial.open("w", encoding="utf-8") as lines:
                lines.writelines(json.dumps(body, separators=(",", ":")) + "\n" for body in made)
            partial.rename(file)
        return file

    def bodies(self, candidates: int) -> list[bytes]:
        """The same bodies, ready to be sent."""
        return self.bodies_file(candidates).read_bytes().splitlines()


def prepare(root: Path, work: Work | None = None) -> Reference:
    """Make the home, or go on where a run before this one was cut short, or take it as it stands.

    Raises RuntimeError where the home holds another work.
    """
    work, mark = work or Work(), root / MARK
    if mark.exists():
        stored = json.loads(mark.read_text(encoding="utf-8"))
        if stored["work"] != asdict(work):
            raise RuntimeError(f"{root} holds {stored['work']}, not {asdict(work)}; give another folder")
        return Reference(root, work, stored["version"])
    container = build(Settings.from_env({"APPSHELF_HOME": str(root)}))
    _fill_store(container, work)
    reference = Reference(root, work, container.registry.live() or _train(container, work))
    export(load(container.registry.folder(reference.version)), work, reference.peers)
    for candidates in CANDIDATES:
        reference.bodies_file(candidates)
    mark.write_text(json.dumps({"work": asdict(work), "version": reference.version}), encoding="utf-8")
    return reference


def _fill_store(container: Container, work: Work) -> None:
    for first in range(0, work.apps, world.APPS_AT_ONCE):
        names = world.app_ids(first, world.APPS_AT_ONCE).to_list()
        rows = _rows(world.apps(work.seed, first, world.APPS_AT_ONCE))
        container.features.put_apps(AppRecord(name, row) for name, row in zip(names, rows, strict=True))
    rows, names = _rows(world.users(work.seed, work.users)), world.user_ids(work.users).to_list()
    records = [UserRecord(name, row) for name, row in zip(names, rows, strict=True)]
    for start in range(0, work.users, RECORDS_AT_ONCE):
        container.features.put_users(records[start : start + RECORDS_AT_ONCE])


def _train(container: Container, work: Work) -> str:
    """Train on the log, register, and take live without asking whether it is any better than popularity."""
    dataset = log_of(work.seed, work.users, apps=work.apps, rows=work.log)
    write(dataset, container.home.data)
    known = [entry.version for entry in container.registry.versions()]
    version = known[-1] if known else train_version(container, TRAINING, token=secrets.token_hex(3), progress=_show)
    promote_version(container, version, note=Note("bench", "the reference work, judged by its speed", force=True))
    return version


def _show(at: Progress) -> None:
    if at.step % 100 == 0 or at.step == at.steps:
        print(f"training: step {at.step} of {at.steps}, loss {at.loss:.4f}", file=sys.stderr)


def bodies(work: Work, candidates: int) -> Iterator[dict[str, Any]]:
    """BODY_COUNT requests of different users and contexts, each with its own candidates of the whole catalogue."""
    rng = np.random.default_rng([work.seed, 4, candidates])
    users = rng.choice(work.users, min(BODY_COUNT, work.users), replace=False)
    contexts, names = _rows(world.contexts(rng, BODY_COUNT)), world.app_ids(0, work.apps)
    for place in range(BODY_COUNT):
        chosen = names.gather(rng.choice(work.apps, candidates, replace=False, shuffle=False))
        user = {"id": f"u{users[place % len(users)]}"}
        yield {"user": user, "context": contexts[place], "candidates": chosen.to_list(), "k": 10}


def _rows(columns: world.Numbers) -> Sequence[dict[str, Any]]:
    """Raw values, a dictionary a row, as a store or a request holds them."""
    return pl.DataFrame(world.texts(columns)).to_dicts()


def main() -> None:
    """Make the home and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("--apps", type=int, default=Work.apps)
    arguments = parser.parse_args()
    began = time.monotonic()
    reference = prepare(arguments.home, Work(apps=arguments.apps))
    print(
        f"{arguments.home} holds {arguments.apps} apps, version {reference.version}, {time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
