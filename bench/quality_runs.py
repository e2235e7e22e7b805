"""One run of the quality benchmark: trained once, kept in a folder, judged on valid, and on test only when asked.

A run's file is named by what was trained (setting, schema, seed), not by the code that trained it, so that a table
that was interrupted goes on where it stopped. Its weights lie beside it: test can be read later without training again.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file

from bench.frappe_data import benchmark
from bench.quality_configs import Setting
from model.data.dataset import Dataset
from model.data.examples import encode, rows_of
from model.fitting import fit
from model.metrics import auc, log_loss
from model.schema import FeatureSchema
from model.training import Progress, Training, TrainResult, probabilities
from model.transforms import Transform
from model.workspace import Workspace
from model.zoo import Net, build

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Judged:
    """How well one net orders the rows of one part. unseen: AUC of the pairs that no training positive holds."""

    auc: float
    log_loss: float
    unseen: float


@dataclass(frozen=True)
class Run:
    """One trained net. cpu_s: processor seconds of its training on one thread; test: None while it is not read."""

    setting: str
    seed: int
    epochs: int
    parameters: int
    cpu_s: float
    wall_s: float
    valid: Judged
    test: Judged | None = None


class Task:
    """The benchmark under one schema. Data are read, and the transform fitted, once and only when needed."""

    def __init__(self, path: Path, schema: FeatureSchema) -> None:
        self.path, self.schema = path, schema

    @cached_property
    def learned(self) -> Dataset:
        """Train and valid; test stays closed."""
        return benchmark(self.path, self.schema)

    @cached_property
    def judged(self) -> Dataset:
        """The same with test in split `gate`."""
        return benchmark(self.path, self.schema, test=True)

    @cached_property
    def transform(self) -> Transform:
        """Fitted to train."""
        return fit(self.schema, self.learned)

    def judge(self, net: Net, split: str) -> Judged:
        """`stop` is valid and `gate` is test."""
        dataset = self.judged if split == "gate" else self.learned
        rows = rows_of(dataset, split)
        scores = probabilities(net, encode(self.transform, dataset, rows))
        label, unseen = rows["label"].to_numpy().astype(np.float64), unseen_pairs(dataset, rows)
        return Judged(auc(label, scores), log_loss(label, scores), auc(label[unseen], scores[unseen]))


def unseen_pairs(dataset: Dataset, rows: pl.DataFrame) -> Mask:
    """(B,) True where no training positive holds the row's user and app."""
    pairs = rows_of(dataset, "train").filter(pl.col("label") == 1).select("user_id", "app_id").unique()
    seen = rows.join(pairs.with_columns(seen=True), on=["user_id", "app_id"], how="left", maintain_order="left")
    return seen["seen"].is_null().to_numpy()


def key(setting: Setting, seed: int) -> str:
    """The name of a run's files: a hash of everything that was chosen, fields at their default left out."""
    chosen = {"config": setting.config.model_dump(mode="json", exclude_defaults=True), "seed": seed}
    chosen["schema"] = setting.schema.fingerprint()
    digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:12]
    return f"{setting.name.replace(' ', '_').replace(',', '')}-{seed}-{digest}"


@dataclass(frozen=True)
class Runs:
    """The runs that are kept in `folder`, and how to make those that are not. tell: hears what is going on."""

    folder: Path
    task: Callable[[FeatureSchema], Task]
    tell: Callable[[str], None]

    def run(self, setting: Setting, seed: int) -> Run:
        """The run as it is kept, else trained now, judged on valid and kept."""
        file = self._file(setting, seed, "valid.json")
        if file.exists():
            return TypeAdapter(Run).validate_json(file.read_bytes())
        task = self.task(setting.schema)
        wall, cpu = time.perf_counter(), time.process_time()
        config = setting.config.model_copy(update={"seed": seed})
        result = Training(config, task.learned, workspace=self._space(setting)).run(self._teller(setting))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        weights = result.net.state_dict()
        count = sum(parameter.numel() for parameter in result.net.parameters())
        made = Run(setting.name, seed, result.epochs, count, cpu, wall, task.judge(result.net, "stop"))
        save_file({name: value.contiguous() for name, value in weights.items()}, self._weights(setting, seed))
        _write(file, asdict(made) | {"history": result.history, "config": _plain(result)})
        return made

    def tested(self, setting: Setting, seed: int) -> Run:
        """The run with its figures on test, which are kept too."""
        made = self.run(setting, seed)
        file = self._file(setting, seed, "test.json")
        if not file.exists():
            _write(file, asdict(self.task(setting.schema).judge(self.net(setting, seed), "gate")))
        return Run(**{**made.__dict__, "test": TypeAdapter(Judged).validate_json(file.read_bytes())})

    def net(self, setting: Setting, seed: int) -> Net:
        """The trained net of a kept run."""
        config, sizes = setting.config, self.task(setting.schema).transform.sizes
        net = build(config.architecture, config.net_params(), sizes)
        net.load_state_dict(load_file(self._weights(setting, seed)))
        return net

    def _space(self, setting: Setting) -> Workspace:
        """Where the rows of one schema stand encoded, for every run; nothing is checkpointed."""
        return Workspace(self.folder / f"rows-{setting.schema.fingerprint()[:12]}", due=lambda: False, resume=True)

    def _weights(self, setting: Setting, seed: int) -> Path:
        return self._file(setting, seed, "safetensors")

    def _file(self, setting: Setting, seed: int, kind: str) -> Path:
        return self.folder / f"{key(setting, seed)}.{kind}"

    def _teller(self, setting: Setting) -> Callable[[Progress], None]:
        def tell(progress: Progress) -> None:
            if progress.step == progress.steps:
                before = "" if progress.auc is None else f", valid AUC before it {progress.auc:.5f}"
                self.tell(f"{setting.name}: epoch {progress.epoch}, loss {progress.loss:.4f}{before}")

        return tell


def _plain(result: TrainResult) -> Mapping[str, Any]:
    return result.config.model_dump(mode="json", exclude_defaults=True)


def _write(file: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all: an interrupted run leaves no half a file."""
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
    partial.rename(file)
