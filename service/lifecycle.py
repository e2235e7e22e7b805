"""A version's life as recipes: trained, judged, promoted, rolled back. Each may be killed at any line."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from model.bundle import OPTIMIZER, Bundle, BundleError, Manifest, load, new_version, save, sweep
from model.data.dataset import Dataset, read
from model.gate import POPULARITY, Check, GateReport, Limits
from model.scorer import Scorer
from model.training import Progress, TrainConfig, Training, TrainResult, Workspace
from model.warmstart import WarmStart
from service.container import Container
from service.dryrun import CHILD as DRY_RUN
from service.dryrun import dry_run
from service.errors import (
    BundlesUnavailable,
    GateRefused,
    IllegalTransition,
    LiveMoved,
    RollbackRefused,
    VersionExists,
)
from service.golden import golden_requests
from service.precision import judged_for
from service.quality import CHILD as QUALITY
from service.quality import quality
from service.retention import collect
from service.rollout import RolloutResult
from service.store.ports import Note
from service.trial import Trial

JUDGED_AT_MOST = 3


@dataclass(frozen=True)
class TrainOptions:
    """What is trained, from what on, and on what.

    start_from: the version to learn on from, None for from scratch; optimizer: what becomes of its optimizer state;
    compact: forget values that the training split lacks; dataset: None for the home's; workspace: where it keeps what
    it needs to go on after it was killed, and rows that memory need not hold, None to keep all in memory.
    """

    config: TrainConfig
    start_from: str | None = None
    optimizer: Literal["carry", "reset"] = "carry"
    compact: bool = False
    dataset: Dataset | None = None
    workspace: Workspace | None = None


def train_version(
    container: Container, asked: TrainConfig | TrainOptions, *, token: str, progress: Callable[[Progress], None]
) -> str:
    """Train, and enter the sealed bundle as a challenger; its version. A config alone is trained from scratch.

    token: hexadecimal digits that tell versions of one second apart. Raises DatasetError, TrainingFailed,
    UnknownArchitecture, UnknownVersion, BundleError and BundlesUnavailable. Killed before the seal it leaves a partial
    folder, which the next run sweeps; killed after it, a bundle that the next command enters.
    """
    sweep(container.home.bundles)
    options = asked if isinstance(asked, TrainOptions) else TrainOptions(asked)
    start = warm_start(container, options)
    dataset = options.dataset or read(container.home.data)
    result = Training(options.config, dataset, start, options.workspace).run(progress)
    return enter_result(container, result, dataset, token=token)


def enter_result(container: Container, result: TrainResult, dataset: Dataset, *, token: str) -> str:
    """Seal what was trained and enter it as a challenger; its version. token: see `train_version`."""
    bundle = seal(result, dataset, version=new_version(container.clock(), token), created_at=container.clock())
    save(bundle, container.home.bundles)
    with suppress(VersionExists):  # a command beside this one has found the bundle first
        container.registry.register(bundle.manifest, note=Note("train", how_trained(result)))
    collect(container.registry, container.coordinator, keep=container.settings.keep_versions)
    return bundle.manifest.version


def seal(result: TrainResult, dataset: Dataset, *, version: str, created_at: float) -> Bundle:
    """Everything of a run that a bundle keeps, golden requests included. created_at: epoch seconds."""
    config = result.config
    manifest = Manifest(
        version=version,
        created_at=_iso(created_at),
        architecture=config.architecture,
        params=config.net_params(),
        config=config.model_dump(mode="json"),
        recipe=config.recipe,
        schema_fingerprint=dataset.schema.fingerprint(),
        parent=result.transferred.parent if result.transferred else None,
        facts=asdict(dataset.facts) | {"training": facts_of(result)},
        metrics=result.metrics,
        sampling_rate=dataset.facts.sampling_rate,
    )
    weights = result.net.state_dict()
    unproven = Bundle(
        manifest, dataset.schema, result.transform, weights, result.statistics, (), result.optimizer_state
    )
    return replace(unproven, golden=golden_requests(Scorer.of(unproven), dataset, seed=config.seed))


def warm_start(container: Container, options: TrainOptions) -> WarmStart | None:
    """The version to learn on from, without optimizer state where its bundle has lost that file; None for none.

    Raises UnknownVersion, BundleError and BundlesUnavailable.
    """
    if options.start_from is None:
        return None
    folder = container.registry.folder(options.start_from)
    parent = load(folder, optimizer=(folder / OPTIMIZER).exists())
    return WarmStart(parent, options.optimizer, options.compact)


def facts_of(result: TrainResult) -> dict[str, Any]:
    """What the manifest keeps of a run: its epochs, and of a warm start what was taken over and how good it began."""
    facts: dict[str, Any] = {"epochs": result.epochs, "best_epoch": result.best_epoch}
    if result.transferred:
        facts |= {"warm_start": asdict(result.transferred), "start_auc": result.history[0]["auc"]}
    return facts


def how_trained(result: TrainResult) -> str:
    """A line for the history."""
    if (taken := result.transferred) is None:
        return "trained from scratch"
    rows = f"{taken.rows_kept} rows of values kept, {taken.rows_new} new"
    return f"trained on from {taken.parent}: {rows}; optimizer state {taken.optimizer}"


def gate_version(container: Container, version: str, *, data: Path | None = None) -> GateReport:
    """Judge a version against the live one and keep the report; the version has then passed or is rejected.

    data: the folder of the dataset, by default the home's. Both halves run in processes of their own, so that a server
    that judges goes on serving; what the dry run refuses is not loaded again. Raises UnknownVersion, IllegalTransition
    for a live version, DatasetError, BundlesUnavailable, and JudgingBrokeOff where nothing was judged.
    """
    registry, data = container.registry, data or container.home.data
    registry.check_judgeable(version)
    live = registry.live()
    read(data)  # unreadable data is the caller's trouble, not a verdict on the version
    checks = _judged(container, version, live, data=data)
    report = GateReport(version, live or POPULARITY, _iso(container.clock()), tuple(checks))
    registry.record(report, note=Note("gate", f"judged against {report.against}"))
    return report


def _judged(container: Container, version: str, live: str | None, *, data: Path) -> list[Check]:
    """The checks of both halves; of a bundle that cannot be fetched whole, the one check that says so."""
    try:
        folder = container.registry.folder(version)
    except BundleError as error:
        return [Check.failed("integrity", str(error), limit="every byte as sealed")]
    limits = Limits(precision=container.settings.precision)
    trial = Trial(folder, _folder_of_live(container, live) if live else None, limits)
    rehearsing, judging = (replace(one, interrupted=lambda: container.readiness.draining) for one in (DRY_RUN, QUALITY))
    checks = dry_run(trial, child=rehearsing)
    if any(check.outcome == "failed" for check in checks):
        return [*checks, Check.skipped("quality", "not judged, since the dry run failed")]
    return checks + quality(trial, data, child=judging)


def _folder_of_live(container: Container, live: str) -> Path:
    """Where live's bundle is, or would be: one that is damaged is the judges' to name, and stops no successor."""
    try:
        return container.registry.folder(live)
    except BundleError:
        return container.home.bundles / live


def promote_version(
    container: Container, version: str | None, *, note: Note, data: Path | None = None
) -> RolloutResult:
    """Take a version live on every serving process, judged first unless it was judged against what is live now.

    None takes the newest that passed; data: what it is judged on, see `gate_version`. Raises GateRefused unless
    forced, what `gate_version` raises, NothingToPromote, RolloutUnderWay, RolloutFailed, BundleError, and LiveMoved
    where live keeps moving while it is judged; after any of them the former version serves on.
    """
    chosen = version or container.registry.newest_passed()
    for tries_left in reversed(range(JUDGED_AT_MOST)):
        if chosen == container.registry.live():
            break
        report = _current_report(container, chosen) or gate_version(container, chosen, data=data)
        if not (report.passed or note.force):
            raise GateRefused(report)
        try:
            return _take_live(container, chosen, note=note, over=report.against)
        except LiveMoved:
            if not tries_left:
                raise
    return container.coordinator.promote(chosen, note=note)


def _current_report(container: Container, version: str) -> GateReport | None:
    """The newest report on a version, None where there is none or it was judged against, or for, something else."""
    report, live = container.registry.verdict(version), container.registry.live() or POPULARITY
    holds = report is not None and report.against == live and judged_for(container.settings.precision, report)
    return report if holds else None


def _take_live(container: Container, version: str, *, note: Note, over: str) -> RolloutResult:
    """Roll a version out once this process has seen its bundle whole, and live to be still the one it is to replace.

    Both are looked at within the rollout, when no other can move the pointer and retention leaves the bundle alone. No
    serving process need be there for it: the next to start must find what it is to serve.
    """
    registry = container.registry

    def check() -> None:
        if (live := registry.live() or POPULARITY) != over:
            raise LiveMoved(version, judged_against=over, live=live)
        registry.check_bundle(version)

    registry.folder(version)  # brought here before the rollout's deadline runs
    return container.coordinator.promote(version, note=note, check=check)


def roll_back(container: Container, *, note: Note) -> RolloutResult:
    """Take the version before live again, which was judged when it went live.

    Raises NothingToRollBack, RollbackRefused, and what `promote_version` raises of a rollout.
    """
    live, before = container.registry.live() or POPULARITY, container.registry.previous_live()
    try:
        return _take_live(container, before, note=note, over=live)
    except IllegalTransition as error:
        raise RollbackRefused(before, state=container.registry.get(before).state) from error


def enter_orphans(container: Container) -> tuple[str, ...]:
    """Enter bundles that a killed trainer sealed and did not enter; their versions, none while the storage is away."""
    with suppress(BundlesUnavailable):
        return container.registry.rebuild(note=Note("start", "found sealed and not entered"))
    return ()


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds")
