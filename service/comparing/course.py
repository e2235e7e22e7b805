"""A comparison in a home: where its runs and pages lie, how its nets are timed, and how one becomes a challenger."""

import hashlib
import json
import secrets
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from model.bundle import load, new_version, save
from model.comparison import Draws
from service.apart import Apart, last_words
from service.comparing.latency import Served, Terms
from service.comparing.page import page
from service.comparing.plan import Plan
from service.comparing.report import Report
from service.comparing.runs import Run, Runs, train_apart
from service.comparing.series import Course
from service.container import Container
from service.errors import ServiceError, VersionExists
from service.lastseen import write_whole
from service.store.ports import Note

TIMED_WITHIN_S = 1800.0
CALLS = 300
JSON, PAGE = "comparison.json", "comparison.html"


class NothingToKeep(ServiceError):
    """The contestant that was to become a challenger has no run."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} has no run to keep as a challenger ({why}); name another with --keep")


class ReportUnwritable(ServiceError):
    """The folder of a comparison's page and JSON cannot be made or written."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"the comparison cannot be written to {folder} ({reason}); give --out a folder you can write")


def course_of(container: Container, *, resamples: int, say: Callable[[str], None]) -> Course:
    """A comparison on the home's data, its runs kept in the home."""
    settings = container.settings
    runs = Runs(container.home.comparisons / "runs", train_apart, container.clock, partial(secrets.token_hex, 3))
    terms = Terms(settings.precision, settings.torch_threads, CALLS)
    return Course(runs, container.home.data, partial(timed_apart, container.home.data, terms, say), Draws(resamples))


def timed_apart(
    data: Path, terms: Terms, say: Callable[[str], None], bundles: Mapping[str, Path]
) -> Mapping[str, Served]:
    """What serving each bundle takes, measured in a process of its own; nothing where that came to no end."""
    folders = {name: str(folder.absolute()) for name, folder in bundles.items()}
    words = ["--data", str(data.absolute()), "--bundles", json.dumps(folders), "--terms", json.dumps(asdict(terms))]
    try:
        ended = Apart(TIMED_WITHIN_S).run("service.comparing.latency", words)
    except subprocess.TimeoutExpired:
        say(f"serving was not timed: no end within {TIMED_WITHIN_S:g} s")
        return {}
    if ended.returncode:
        say(f"serving was not timed: the process ended with {ended.returncode}, {last_words(ended)}")
        return {}
    found = json.loads(ended.stdout)
    for name, why in found["left_out"].items():
        say(f"{name} was not timed: {why}")
    return {name: Served(**one) for name, one in found["served"].items()}


def folder_of(container: Container, plan: Plan, data: str) -> Path:
    """Where a comparison's report lies: the same plan on the same data has the same."""
    parts = [[one.name, one.config.model_dump(mode="json")] for one in plan.contestants]
    told = json.dumps([parts, plan.baseline, plan.seeds, data], sort_keys=True)
    return container.home.comparisons / hashlib.sha256(told.encode()).hexdigest()[:12]


def write_report(report: Report, folder: Path) -> None:
    """Write the JSON and the page, each whole or not at all. Raises ReportUnwritable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / JSON, [report.to_json().encode()])
        write_whole(folder / PAGE, [page(report).encode()])
    except OSError as error:
        raise ReportUnwritable(folder, error.strerror or str(error)) from error


def keep(container: Container, name: str, runs: list[Run]) -> str:
    """Enter the contestant's run that was best on the stop split as a challenger; its version.

    The stop split chooses among seeds, since the gate's rows are to judge what was chosen. Raises NothingToKeep and
    BundleError.
    """
    if not runs:
        raise NothingToKeep(name, "it failed")
    run = max(runs, key=lambda one: one.record.stop["auc"])
    bundle, now = load(run.bundle, optimizer=True), container.clock()
    created = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    named = {"version": new_version(now, secrets.token_hex(3)), "created_at": created}
    entered = replace(bundle, manifest=bundle.manifest.model_copy(update=named))
    save(entered, container.home.bundles)
    why = f"contestant {name} of a comparison, seed {run.record.config['seed']}, trained from scratch"
    with suppress(VersionExists):  # a command beside this one has found the bundle first
        container.registry.register(entered.manifest, note=Note("compare", why))
    return entered.manifest.version
