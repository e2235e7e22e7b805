"""How many samples a core trains in a second, beside the libraries that one would otherwise train Wide & Deep with.

    python -m bench.train [--rounds 3] [--works frappe paper] [--only bf16 estimator] [--cache FOLDER] [--json FILE]

Every contestant trains the same network on the same rows in batches of 4096, one thread each, in a process and an
environment of its own; they take turns. Timed is an epoch after a few batches, without reading the data, encoding it
or judging the result. Samples per core are by processor time. `crosses` is `paper` with 60 hashed crosses a row in the
wide half, which no peer makes; FuxiCTR trains `frappe` alone, since it embeds continuous values.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.environments import DEEPCTR, ESTIMATOR, FUXICTR, ROOT, WIDEDEEP, Environment
from bench.train_ours import words
from bench.train_table import Trained, parsed, report
from bench.train_work import WORKS, export

LIMIT_S = 900.0
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")}
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}


@dataclass(frozen=True)
class Peer:
    """A library's script and where it runs. works: those whose network it can have."""

    environment: Environment
    script: str
    works: tuple[str, ...] = ("frappe", "paper")

    def command(self, work: str, cache: Path) -> list[str]:
        """What to run."""
        python = self.environment.python(cache)
        return [str(python), "-m", f"bench.peers.{self.script}", str(cache / "train" / work)]


@dataclass(frozen=True)
class Ours:
    """One of appshelf's ways."""

    recipe: str
    precision: str
    options: Mapping[str, object] = field(default_factory=dict)
    works: tuple[str, ...] = tuple(WORKS)

    def command(self, work: str, cache: Path) -> list[str]:
        """What to run."""
        return words(work, self.recipe, self.precision, dict(self.options))


CONTESTANTS: Mapping[str, Peer | Ours] = {
    "bf16": Ours("paper", "bfloat16"),
    "estimator": Peer(ESTIMATOR, "train_estimator"),
    "bf16 row-wise": Ours("paper", "bfloat16", {"row_wise": True}),
    "bf16 adam": Ours("adam", "bfloat16"),
    "bf16 sgd": Ours("sgd", "bfloat16"),
    "fp32": Ours("paper", "float32"),
    "fp32 adam": Ours("adam", "float32"),
    "fuxictr": Peer(FUXICTR, "train_fuxictr", works=("frappe",)),
    "deepctr-torch": Peer(DEEPCTR, "train_deepctr"),
    "pytorch-widedeep": Peer(WIDEDEEP, "train_widedeep"),
}
PEERS = [name for name, one in CONTESTANTS.items() if isinstance(one, Peer)]


def rounds(count: int, works: list[str], names: list[str], *, cache: Path) -> Iterator[Trained]:
    """Every contestant once a round on every work that it takes; one that fails is named and left out from there on."""
    failed = set[tuple[str, str]]()
    for number in range(count):
        for work in works:
            for name in names:
                if work not in CONTESTANTS[name].works or (name, work) in failed:
                    continue
                try:
                    yield parsed(_printed(CONTESTANTS[name].command(work, cache)), name, work, number)
                except (ValueError, subprocess.SubprocessError) as error:
                    print(f"{name} cannot be measured on {work}: {error}", file=sys.stderr, flush=True)
                    failed.add((name, work))


def _printed(command: list[str]) -> str:
    done = subprocess.run(
        command, env={**os.environ, **THREADS, **QUIET}, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S
    )
    if done.returncode:
        raise ValueError(f"it ended with {done.returncode}: ...{done.stderr[-500:]}")
    return done.stdout


def prepare(works: list[str], cache: Path) -> None:
    """The rows as peers read them, where they are not there, and the environments."""
    for work in works:
        if not (cache / "train" / work / "work.json").exists():
            export(WORKS[work], cache / "train" / work)
    for name in PEERS:
        peer = CONTESTANTS[name]
        if isinstance(peer, Peer):
            peer.environment.python(cache)


def main() -> None:
    """Prepare, train in turns, print the tables, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "appshelf-bench")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    prepare(arguments.works, arguments.cache)
    runs: list[Trained] = []
    for one in rounds(arguments.rounds, arguments.works, arguments.only, cache=arguments.cache):
        print(
            f"{one.work}, round {one.round}: {one.contestant} {one.per_core:,.0f} a core", file=sys.stderr, flush=True
        )
        runs.append(one)
        if arguments.json:
            arguments.json.write_text(json.dumps([asdict(each) for each in runs], indent=1), encoding="utf-8")
    print(report(runs, peers=PEERS))


if __name__ == "__main__":
    main()
