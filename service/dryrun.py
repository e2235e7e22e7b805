"""The gate's dry run: a bundle loaded, checked and scored beside live, in a process of its own."""

import resource
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence

from model.rehearsal import Meters, rehearse
from model.report import Check
from service.child import Child, answer, behave
from service.trial import Trial

CHILD = Child("service.dryrun", name="load", timeout_s=600.0)


def dry_run(trial: Trial, *, child: Child = CHILD) -> list[Check]:
    """Rehearse the bundle beside live in a child process. A crash, a timeout or no answer fails the check `load`.

    Raises JudgingBrokeOff.
    """
    return child.checks(trial.words)


def main(arguments: Sequence[str]) -> int:
    """Rehearse here and now, and write the checks as JSON to standard output."""
    parser = ArgumentParser(prog="python -m service.dryrun", description=__doc__)
    trial, _ = Trial.told(arguments, parser=parser)
    behave()
    meters = Meters(clock=time.perf_counter, peak_mib=peak_mib)
    answer(rehearse(trial.challenger, trial.live, limits=trial.limits, meters=meters))
    return 0


def peak_mib() -> float:
    """The most memory this process has held, in MiB."""
    units_per_mib = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units_per_mib


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
