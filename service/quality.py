"""The gate's quality half: challenger and live judged on the held-out rows, in a process of its own."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from model.bundle import BundleError, load
from model.data.dataset import DatasetError, read
from model.gate import judge
from model.report import Check
from model.scorer import Scorer
from service.child import Child, answer, behave
from service.trial import Trial

CHILD = Child("service.quality", name="quality", timeout_s=3600.0)


def quality(trial: Trial, data: Path, *, child: Child = CHILD) -> list[Check]:
    """Judge the bundle beside live on the gate split of the dataset in `data`, in a child process.

    A crash, a timeout or no answer fails the check `quality`. Raises JudgingBrokeOff.
    """
    return child.checks([*trial.words, "--data", str(data.absolute())])


def main(arguments: Sequence[str]) -> int:
    """Judge here and now, and write the checks as JSON to standard output."""
    parser = ArgumentParser(prog="python -m service.quality", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the imported dataset")
    trial, options = Trial.told(arguments, parser=parser)
    behave()
    try:
        challenger, dataset = Scorer.of(load(trial.challenger)), read(options.data)
    except (BundleError, DatasetError) as error:
        answer([Check.failed("quality", str(error), limit="a whole bundle and its data")])
        return 0
    live, notes = _serving(trial.live)
    answer([*notes, *judge(challenger, live, dataset, limits=trial.limits)])
    return 0


def _serving(folder: Path | None) -> tuple[Scorer | None, list[Check]]:
    """Live's scorer; where its bundle is damaged popularity stands in, so that a sound challenger can replace it."""
    try:
        return (Scorer.of(load(folder)) if folder else None), []
    except BundleError as error:
        return None, [Check.skipped("live_on_holdout", f"{error}; popularity stands in for it")]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
