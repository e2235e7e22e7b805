"""A version's life as recipes: trained, judged, promoted, rolled back. Each may be killed at any line."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime

from model.bundle import Bundle, Manifest, new_version, save, sweep
from model.data.dataset import Dataset, read
from model.gate import POPULARITY, Check, GateReport, Limits
from model.scorer import Scorer
from model.training import Progress, TrainConfig, TrainResult, train
from service.container import Container
from service.dryrun import dry_run
from service.errors import GateRefused, VersionExists
from service.golden import golden_requests
from service.quality import quality
from service.retention import collect
from service.rollout import RolloutResult
from service.store.ports import Note


def train_version(
    container: Container, config: TrainConfig, *, token: str, progress: Callable[[Progress], None]
) -> str:
    """Train on the home's dataset and enter the sealed bundle as a challenger; its version.

    token: hexadecimal digits that tell versions of one second apart. Raises DatasetError, TrainingFailed,
    UnknownArchitecture and BundleError. Killed before the seal it leaves a partial folder, which the next run sweeps;
    killed after it, a bundle that the next command enters.
    """
    sweep(container.home.bundles)
    dataset = read(container.home.data)
    result = train(config, dataset, progress=progress)
    bundle = seal(result, dataset, version=new_version(container.clock(), token), created_at=container.clock())
    save(bundle, container.home.bundles)
    with suppress(VersionExists):  # a command beside this one has found the bundle first
        container.registry.register(bundle.manifest, note=Note("train", "trained"))
    keep = container.settings.keep_versions
    collect(container.registry, container.coordinator, bundles=container.home.bundles, keep=keep)
    return bundle.manifest.version


def seal(result: TrainResult, dataset: Dataset, *, version: str, created_at: float) -> Bundle:
    """Everything of a run that a bundle keeps, golden requests included. created_at: epoch seconds."""
    config = result.config
    manifest = Manifest(
        version=version,
        created_at=_iso(created_at),
        architecture=config.architecture,
        params={**config.built_recipe().net_params, **config.params},
        config=config.model_dump(mode="json"),
        recipe=config.recipe,
        schema_fingerprint=dataset.schema.fingerprint(),
        parent=None,
        facts=asdict(dataset.facts),
        metrics=result.metrics,
        sampling_rate=dataset.facts.sampling_rate,
    )
    weights = result.net.state_dict()
    unproven = Bundle(
        manifest, dataset.schema, result.transform, weights, result.statistics, (), result.optimizer_state
    )
    return replace(unproven, golden=golden_requests(Scorer.of(unproven), dataset, seed=config.seed))


def gate_version(container: Container, version: str) -> GateReport:
    """Judge a version against the live one and keep the report; the version has then passed or is rejected.

    Both halves run in processes of their own, so that a server that judges goes on serving; what the dry run refuses
    is not loaded again. Raises UnknownVersion, IllegalTransition for a live version, and DatasetError.
    """
    registry, data = container.registry, container.home.data
    folder, live = registry.folder(version), registry.live()
    registry.check_judgeable(version)
    read(data)  # unreadable data is the caller's trouble, not a verdict on the version
    live_folder = registry.folder(live) if live else None
    checks = dry_run(folder, live_folder, limits=Limits())
    if any(check.outcome == "failed" for check in checks):
        checks.append(Check.skipped("quality", "not judged, since the dry run failed"))
    else:
        checks += quality(folder, live_folder, data, limits=Limits())
    report = GateReport(version, live or POPULARITY, _iso(container.clock()), tuple(checks))
    registry.record(report, note=Note("gate", f"judged against {report.against}"))
    return report


def promote_version(container: Container, version: str | None, *, note: Note) -> RolloutResult:
    """Take a version live on every serving process, judged first unless it was judged against what is live now.

    None takes the newest that passed. Raises GateRefused unless forced, UnknownVersion, IllegalTransition,
    NothingToPromote, RolloutUnderWay and RolloutFailed; after any of them the former version serves on.
    """
    chosen = version or container.registry.newest_passed()
    if chosen != container.registry.live():
        report = _current_report(container, chosen) or gate_version(container, chosen)
        if not (report.passed or note.force):
            raise GateRefused(report)
    return container.coordinator.promote(chosen, note=note)


def _current_report(container: Container, version: str) -> GateReport | None:
    """The newest report on a version, None where there is none or live has moved since."""
    text = container.registry.get(version).report
    report = GateReport.from_json(text) if text else None
    return report if report and report.against == (container.registry.live() or POPULARITY) else None


def roll_back(container: Container, *, note: Note) -> RolloutResult:
    """Take the version before live again, which was judged when it went live. Raises NothingToRollBack and as above."""
    return container.coordinator.promote(container.registry.previous_live(), note=note)


def enter_orphans(container: Container) -> tuple[str, ...]:
    """Enter bundles that a killed trainer sealed and did not enter; their versions."""
    with suppress(VersionExists):  # a command beside this one is entering them
        return container.registry.rebuild(note=Note("start", "found sealed and not entered"))
    return ()


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds")
