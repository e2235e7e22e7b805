"""The retrain, top to bottom. Killed at any line, the next attempt goes on from what stands."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.data.dataset import read, write
from model.gate import POPULARITY, GateReport
from model.manifest import Manifest
from model.training import Progress, TrainConfig
from service.container import Container
from service.errors import GateRefused, RetrainRefused
from service.jobs.diary import Diary
from service.jobs.options import RetrainOptions
from service.jobs.queue import token_of
from service.lifecycle import TrainOptions, gate_version, promote_version, train_version
from service.store.job_ports import Job
from service.store.ports import Note
from service.window import WindowPlan, examples_of, learned_until

COUNTS = "counts.json"


@dataclass(frozen=True)
class Desk:
    """What a recipe works with. check: raises Superseded where the job is no longer this process's to do."""

    container: Container
    job: Job
    diary: Diary
    check: Callable[[], None]

    @property
    def folder(self) -> Path:
        """Where the job keeps what it works on, from one attempt to the next."""
        return self.container.home.jobs / self.job.id


def retrain(desk: Desk) -> dict[str, Any]:
    """Learn from the log, judge what was learned, and take it live where it passes; the job's result.

    Raises what refuses it: RetrainRefused, WindowRefused, TrainingFailed and their like; live then serves on.
    """
    container, diary = desk.container, desk.diary
    options = RetrainOptions.parse(desk.job.options).settled(container.settings)
    parent = starting_point(container, options)

    with diary.step("window"):  # read the log, join what was shown with what came back, split by time
        counts = window(desk, options, parent)
    with diary.step("train"):  # from the parent's weights unless from scratch, saved as a challenger
        version = made_before(desk) or train(desk, options, parent)
    with diary.step("gate"):  # against live, on the window's newest part, which training has not seen
        desk.check()
        report = judged_before(container, version) or gate_version(container, version, data=desk.data)
    with diary.step("promote"):
        promoted = report.passed and options.promote and promote(desk, version)
    return result
