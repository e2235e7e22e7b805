"""One attempt at one job, in a process of its own: `python -m service.jobs.child --job ID --worker NAME`.

A worker starts it with a pipe for standard input and ends it by killing it; it ends itself when the worker is gone.
"""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence

from service.jobs.attempt import end_session
from service.lifeline import NICENESS, end_with_parent


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do the job; 0 once its record has an end, another code where it is to be begun again."""
    parser = ArgumentParser(prog="python -m service.jobs.child", description=__doc__)
    parser.add_argument("--job", required=True, help="id of the job")
    parser.add_argument("--worker", required=True, help="name of the worker that holds the lease")
    options = parser.parse_args(arguments)
    end_with_parent(end_session)
    os.nice(NICENESS)
    from service.jobs.attending import attend  # after the watch: importing torch takes seconds

    return attend(options.job, worker=options.worker, environ=environ)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:], os.environ))
