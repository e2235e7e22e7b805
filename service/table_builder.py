"""Builds the app table of a version, in a process that runs when nobody else on the machine wants the processor."""

import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import torch

from model.bundle import load
from model.scorer import Scorer
from service.container import open_features
from service.rests import Rests
from service.settings import Settings
from service.table_files import Maker, store_table

REST = 4.0
"""Rests after every few apps, in the processor time that those took.

An idle process still slows whoever shares its core's units or caches; without rests, the slowest requests beside a
build wait several times as long.
"""


def main(arguments: Sequence[str]) -> int:
    """Build it here and now from the store that the environment names."""
    parser = ArgumentParser(prog="python -m service.table_builder", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the version's bundle")
    parser.add_argument("--tables", type=Path, required=True, help="folder that the table's own is made in")
    parser.add_argument("--rest", type=float, default=REST, help="rests, in the processor time of the work before each")
    parser.add_argument("--eager", action="store_true", help="take the processor as any other process does")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if not options.eager:
        step_back()
    features = open_features(Settings.from_env(os.environ).patient())
    bundle = load(options.bundle)
    maker = Maker(Scorer.of(bundle), bundle.golden, Rests(options.rest, clock=time.process_time, wait=time.sleep))
    store_table(options.tables, maker, features.app_pages())
    return 0


def step_back() -> None:
    """From now on take the processor only when it is idle, where the system knows of that."""
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
