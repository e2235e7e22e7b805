"""What a catalogue costs: memory of one worker and of two, and the time from start to the first answer.

    python -m bench.memory [--apps 100000 1000000] [--seconds 10] [--precision auto] [--cache FOLDER] [--json FILE]

For each catalogue: the app tables are removed and two workers started, which build them; then one worker and two are
started on the tables that are there. Each is loaded until its rows have been in use before its memory is taken.
Proportional memory (PSS) counts once what processes share, the mapped tables above all.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread

import numpy as np
import psutil

from bench.contestants import ask
from bench.openloop import Pace
from bench.ours import CANDIDATES, OK, REFUSED, Setup, served
from bench.processes import Family
from bench.reference import Reference, Work, prepare
from bench.serving_table import table

HEAD = ("apps", "workers", "tables", "first answer s", "starting MiB", "PSS MiB", "own MiB", "table MiB")
LOOK_EVERY_S = 0.25


@dataclass(frozen=True)
class Held:
    """One start. tables: whether they were there; starting_mib: the most PSS seen until the first answer.

    own_mib: what no other process shares; table_mib: on disk; failed: requests, those refused in time not counted.
    """

    apps: int
    workers: int
    tables: bool
    first_answer_s: float
    starting_mib: float
    pss_mib: float
    own_mib: float
    table_mib: float
    failed: int


def start(setup: Setup, *, seconds: float) -> Held:
    """Start it, ask, load it for so long, and take its memory."""
    folder = setup.reference.root / "tables"
    there = folder.exists() and any(folder.iterdir())
    body, began = setup.reference.bodies(CANDIDATES)[0], time.monotonic()
    with watched() as seen, served(setup) as target:
        status, content = ask(target.port, body)
        first_answer_s = time.monotonic() - began
        starting_mib = max((*seen, target.family.pss_mib()))
        if status != OK:
            raise RuntimeError(f"the first answer is a {status}: {content.decode(errors='replace')[:300]}")
        answers = target.load(Pace(None, seconds)).finish()
        return Held(
            apps=setup.reference.work.apps,
            workers=setup.workers,
            tables=there,
            first_answer_s=first_answer_s,
            starting_mib=starting_mib,
            pss_mib=target.family.pss_mib(),
            own_mib=target.family.own_mib(),
            table_mib=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20,
            failed=int((~np.isin(answers.status, (OK, REFUSED))).sum()),
        )


@contextmanager
def watched() -> Iterator[list[float]]:
    """The proportional memory of this process's children, looked at every LOOK_EVERY_S; it grows meanwhile."""
    seen, stop, own = list[float](), Event(), psutil.Process()

    def watch() -> None:
        while not stop.wait(LOOK_EVERY_S):
            with suppress(psutil.NoSuchProcess):
                seen.append(sum(Family(child).pss_mib() for child in own.children()))

    watching = Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield seen
    finally:
        stop.set()
        watching.join()


def starts(reference: Reference, precision: str, *, seconds: float) -> Iterator[Held]:
    """Two workers that build the tables, then one and two that find them."""
    shutil.rmtree(reference.root / "tables", ignore_errors=True)
    for workers in (2, 1, 2):
        yield start(Setup(reference, workers, precision), seconds=seconds)


def report(found: Sequence[Held]) -> str:
    """The table, and two workers over one for each catalogue."""
    rows = [
        (
            *(one.apps, one.workers, "there" if one.tables else "built"),
            f"{one.first_answer_s:.1f}",
            *(f"{mib:.0f}" for mib in (one.starting_mib, one.pss_mib, one.own_mib, one.table_mib)),
        )
        for one in found
    ]
    lines = [table(HEAD, rows)]
    for apps in sorted({one.apps for one in found}):
        mib = {one.workers: one.pss_mib for one in found if one.apps == apps and one.tables}
        lines.append(f"{apps} apps: two workers take {mib[2] / mib[1]:.2f} times what one does")
    if failed := sum(one.failed for one in found):
        lines.append(f"{failed} requests failed")
    return "\n".join(lines)


def main() -> None:
    """Prepare, start, print the table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apps", type=int, nargs="+", default=(100_000, 1_000_000))
    parser.add_argument("--seconds", type=float, default=10.0, help="of load before memory is taken")
    parser.add_argument("--precision", choices=("auto", "exact", "fast"), default="auto")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "appshelf-bench")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: list[Held] = []
    for apps in arguments.apps:
        reference = prepare(arguments.cache / f"reference-{apps}", Work(apps=apps))
        for one in starts(reference, arguments.precision, seconds=arguments.seconds):
            found.append(one)
            if arguments.json:
                arguments.json.write_text(json.dumps([asdict(each) for each in found], indent=1), encoding="utf-8")
    print(report(found))


if __name__ == "__main__":
    main()
