"""One contestant trained once and judged, in a process of its own: what crashes or eats memory does it there.

`python -m service.child service.comparing.run ...`; a line of JSON for each step, and the folder of its run filled.
"""

import json
import os
import platform
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from model.bundle import WEIGHTS, BundleError, read_manifest, save
from model.data.dataset import Dataset, read
from model.data.examples import rows_of
from model.data.stored import DatasetError
from model.holdout import predicted
from model.scorer import Scorer
from model.training import Progress, TrainConfig, TrainingFailed, train
from model.zoo import UnknownArchitecture
from service.dryrun import peak_mib
from service.lifecycle import seal

RECORD, SCORES = "run.json", "scores.safetensors"
GATE = "gate"
TELL_EVERY_S = 0.2


@dataclass(frozen=True)
class RunRecord:
    """What a run leaves beside its scores and its bundle.

    parameters: the net's; weights_bytes: on disk, where zeros are left out; train_s: of all epochs, encoding included;
    peak_mib: of the whole process; machine: that it ran on; history: a record an epoch on the stop split; stop: the
    kept epoch's metrics.
    """

    version: str
    config: dict[str, Any]
    parameters: int
    weights_bytes: int
    train_s: float
    epochs: int
    best_epoch: int
    peak_mib: float
    machine: str
    history: list[dict[str, float]]
    stop: dict[str, float]


@dataclass(frozen=True)
class Order:
    """What to run, under which version, and the folder to fill. created_at: epoch seconds."""

    config: TrainConfig
    version: str
    created_at: float
    folder: Path


def carried_out(order: Order, dataset: Dataset, *, progress: Callable[[Progress], None]) -> RunRecord:
    """Train, judge on the gate split, and fill the folder: the record last.

    Raises what `train` raises, BundleError, and TrainingFailed where a score of the gate split is not finite.
    """
    started = time.perf_counter()
    result = train(order.config, dataset, progress=progress)
    took_s = time.perf_counter() - started
    bundle = seal(result, dataset, version=order.version, created_at=order.created_at)
    scores = predicted(Scorer.of(bundle), dataset, rows_of(dataset, "gate"))
    if wrong := int((~np.isfinite(scores)).sum()):
        raise TrainingFailed(f"{wrong} of {scores.size} scores of the gate split are not finite; lower the rate")
    sealed = read_manifest(save(bundle, order.folder))
    record = RunRecord(
        version=order.version,
        config=order.config.model_dump(mode="json"),
        parameters=sum(one.numel() for one in result.net.parameters()),
        weights_bytes=sealed.files[WEIGHTS].size,
        train_s=took_s,
        epochs=result.epochs,
        best_epoch=result.best_epoch,
        peak_mib=peak_mib(),
        machine=machine(),
        history=result.history,
        stop=result.metrics,
    )
    save_file({GATE: scores}, order.folder / SCORES)
    (order.folder / RECORD).write_text(json.dumps(asdict(record), indent=2), encoding="utf-8")
    return record


def told(arguments: Sequence[str]) -> tuple[Order, Path]:
    """The order of a command line, and the folder of the dataset."""
    parser = ArgumentParser(prog="python -m service.comparing.run", description=__doc__)
    parser.add_argument("--config", type=TrainConfig.model_validate_json, required=True, help="configuration as JSON")
    parser.add_argument("--data", type=Path, required=True, help="folder of the imported dataset")
    parser.add_argument("--version", required=True, help="of the bundle to make")
    parser.add_argument("--created-at", type=float, required=True, help="epoch seconds")
    parser.add_argument("--folder", type=Path, required=True, help="to fill")
    options = parser.parse_args(arguments)
    return Order(options.config, options.version, options.created_at, options.folder), options.data


def main(arguments: Sequence[str]) -> int:
    """Carry one order out; what the model refuses is a line, not a crash."""
    order, data = told(arguments)
    try:
        carried_out(order, read(data), progress=Teller())
    except (BundleError, DatasetError, TrainingFailed, UnknownArchitecture) as error:
        tell({"failed": str(error)})
    return 0


def machine() -> str:
    """The processor's name and how many of them this process may use."""
    name = platform.processor() or platform.machine()
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as told:
        named = [line.partition(":")[2].strip() for line in told if line.startswith("model name")]
        name = named[0] if named else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{name}, {cores} hardware thread(s)"


class Teller:
    """Progress as lines, the last step of each epoch always and others now and then."""

    def __init__(self) -> None:
        self._told = 0.0

    def __call__(self, step: Progress) -> None:
        """Tell it, or leave it out."""
        if step.step == step.steps or time.monotonic() >= self._told + TELL_EVERY_S:
            self._told = time.monotonic()
            tell({"progress": asdict(step)})


def tell(value: object) -> None:
    """One line of JSON on standard output."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
