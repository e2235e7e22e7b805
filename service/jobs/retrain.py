"""The retrain, top to bottom. Killed at any line, the next attempt goes on from what stands."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from model.bundle import Bundle, BundleError, load, read_manifest
from model.checkpoint import CheckpointUnusable
from model.data.dataset import read, write
from model.training import TrainConfig, Workspace
from service.container import Container
from service.errors import RetrainRefused
from service.jobs.desk import Desk
from service.jobs.options import RetrainOptions
from service.jobs.queue import token_of
from service.lifecycle import TrainOptions, train_version
from service.release import software_version
from service.unfinished import Due
from service.window import WindowPlan, examples_of, learned_until, notes

COUNTS = "counts.json"
"""Written into the job's folder when the window beside it is whole."""


def retrain(desk: Desk) -> Mapping[str, Any]:
    """Learn from the log, judge what was learned, and take it live where it passes; the job's result.

    Raises RetrainRefused, DatasetError, TrainingFailed and BundleError where there is nothing to be learned or judged,
    and Superseded; live is then what it was.
    """
    options = RetrainOptions.parse(desk.job.options)
    data, made = desk.folder / "data", desk.made_before()
    if made and desk.went_live(made):
        return desk.result(made, promoted=True)
    with desk.diary.step("window"):  # the log read, what was shown joined with what came back, and split by time
        parent = starting_point(desk.container, options)
        counts = read_window(desk, options, parent)
    with desk.diary.step("train"):  # from the parent's weights, unless from scratch; saved as a challenger
        version = made or train(desk, options, parent)
    with desk.diary.step("gate"):  # against live, on the newest part of the window, which training has not seen
        report = desk.judged(version, data)
    with desk.diary.step("promote"):  # or leave it, rejected with its report
        promoted = report.passed and options.promote and desk.promote(version, data)
    return {**desk.result(version, promoted=promoted), "mode": options.mode, "counts": counts}


def starting_point(container: Container, options: RetrainOptions) -> Bundle:
    """The version to learn on from, live unless another is named; from scratch its schema and settings are taken alone.

    Raises RetrainRefused where nothing is live, UnknownVersion and BundleError.
    """
    version = options.start_from or container.registry.live()
    if version is None:
        raise RetrainRefused(
            "nothing is live, so there is nothing to learn on from; train a version on imported data first "
            "(`appshelf train`, then `appshelf promote`)"
        )
    return load(container.registry.folder(version))


def read_window(desk: Desk, options: RetrainOptions, parent: Bundle) -> Mapping[str, int]:
    """Put the window's examples into the job's folder, unless an earlier attempt has; what became of the log's rows.

    It ends when the job was queued, so that every attempt reads the same one. Raises WindowRefused and DatasetError.
    """
    container, kept = desk.container, desk.folder / COUNTS
    if not kept.exists():
        imported = container.home.data if container.home.data.exists() else None
        plan = plan_of(desk, options, parent)
        dataset, counts = examples_of(container.log, container.features, plan, data=imported)
        for note in notes(dataset.facts, plan):
            desk.diary.say(note)
        write(dataset, desk.folder / "data")
        aside = kept.with_suffix(".partial")
        aside.write_text(json.dumps(asdict(counts)), encoding="utf-8")
        os.replace(aside, kept)
    told: dict[str, int] = json.loads(kept.read_text(encoding="utf-8"))
    desk.diary.say(", ".join(f"{name} {count}" for name, count in told.items()))
    return told


def plan_of(desk: Desk, options: RetrainOptions, parent: Bundle) -> WindowPlan:
    """What is to be learned from."""
    facts = parent.manifest.facts
    return WindowPlan(
        parent.schema,
        now=desk.job.queued_at,
        window_s=desk.container.settings.attribution_window_s,
        mode=options.mode,
        since=learned_until(facts),
        days=options.window_days,
        replay=options.replay,
        learned=facts.get("counts", {}).get("train"),
        seen=_seen(desk.container, parent),
    )


def _seen(container: Container, parent: Bundle) -> float | None:
    """Up to when live or the version to learn on was trained on the log; a live that cannot be read is the gate's."""
    live, facts = container.registry.live(), [parent.manifest.facts]
    if live and live != parent.manifest.version:
        with suppress(BundleError):
            facts.append(read_manifest(container.registry.folder(live)).facts)
    return max((known.trained for one in facts if (known := learned_until(one))), default=None)


def train(desk: Desk, options: RetrainOptions, parent: Bundle) -> str:
    """Train on the job's window as the parent was trained, and enter the sealed bundle; its version.

    On the device that is here, since a version that was trained on a GPU by name is no promise that a worker has one.
    """
    asked = TrainOptions(
        TrainConfig.model_validate({**parent.manifest.config, "device": "auto"}),
        start_from=None if options.scratch else parent.manifest.version,
        optimizer="reset" if options.reset_optimizer else "carry",
        compact=options.compact,
        dataset=read(desk.folder / "data"),
    )
    try:
        return _trained(desk, asked, resume=True)
    except CheckpointUnusable as error:  # of what was live then, or damaged: the window stands, and it begins again
        desk.diary.say(str(error))
        return _trained(desk, asked, resume=False)


def _trained(desk: Desk, asked: TrainOptions, *, resume: bool) -> str:
    """Train, from the checkpoint of an earlier attempt where it is to be resumed and there is one."""
    due = Due(desk.time.clock)
    space = Workspace(desk.folder / "training", due, resume, desk.diary.say, software_version())
    told = replace(asked, workspace=space)
    return train_version(desk.container, told, token=token_of(desk.job.id), progress=desk.told)
