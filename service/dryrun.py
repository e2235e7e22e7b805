"""The gate's dry run in a process of its own: a bundle that crashes, hangs or eats memory does it there."""

import os
import resource
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import torch
from msgspec import DecodeError

from model.rehearsal import Meters, rehearse
from model.report import Check, Limits, decode_checks, encode_checks

ROOT = Path(__file__).parent.parent
NICENESS = 10


def dry_run(folder: Path, live: Path | None, *, limits: Limits, timeout_s: float = 600.0) -> list[Check]:
    """Rehearse the bundle beside live in a child process. A crash, a timeout or no answer fails the check `load`."""
    command = [sys.executable, "-m", "service.dryrun", "--challenger", str(folder.absolute())]
    command += ["--limits", limits.model_dump_json(), *(["--live", str(live.absolute())] if live else [])]
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return [Check.failed("load", f"no end within {timeout_s:g} s", limit="a dry run that ends")]
    return checks_of(ended)


def checks_of(ended: subprocess.CompletedProcess[bytes]) -> list[Check]:
    """What a rehearsal answered, or the failed check `load` where it did not."""
    if ended.returncode:
        lines = ended.stderr.decode(errors="replace").strip().splitlines() or ["without a word"]
        return [Check.failed("load", f"ended with {ended.returncode}: {lines[-1].strip()}", limit="an end with 0")]
    try:
        return decode_checks(ended.stdout)
    except DecodeError as error:
        return [Check.failed("load", f"no list of checks: {error}", limit="a list of checks")]


def main(arguments: Sequence[str]) -> int:
    """Rehearse here and now, and write the checks as JSON to standard output."""
    parser = ArgumentParser(prog="python -m service.dryrun", description=__doc__)
    parser.add_argument("--challenger", type=Path, required=True, help="folder of the bundle under judgement")
    parser.add_argument("--live", type=Path, help="folder of the bundle that serves")
    parser.add_argument("--limits", type=Limits.model_validate_json, default=Limits(), help="limits as JSON")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    os.nice(NICENESS)
    meters = Meters(clock=time.perf_counter, peak_mib=peak_mib)
    checks = rehearse(options.challenger, options.live, limits=options.limits, meters=meters)
    sys.stdout.buffer.write(encode_checks(checks))
    return 0


def peak_mib() -> float:
    """The most memory this process has held, in MiB."""
    units_per_mib = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units_per_mib


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
