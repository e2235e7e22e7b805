"""What a training puts on disk while it goes: its fitted transform, its encoded rows, and its checkpoints."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model.array_folder import ArraysUnusable, ArrayWriter, open_arrays
from model.checkpoint import PREFIX, Checkpoints, Snapshot
from model.data.encoded import Encoded, Encoder
from model.run import Run
from model.run_state import snapshot
from model.schema import FeatureSchema
from model.transforms import Transform

Identity = Mapping[str, Any]
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Workspace:
    """A folder that one training has to itself.

    due: asked after every step whether a checkpoint is to be kept; resume: go on from the newest one and use again
    what else stands there, where it is of the same training; say: told what was found; release: of this software,
    since another one may fit and encode the same data in another way, "" where that is not looked at.
    """

    folder: Path
    due: Callable[[], bool]
    resume: bool = False
    say: Callable[[str], None] = lambda _: None
    release: str = ""

    @property
    def holds_checkpoint(self) -> bool:
        """Whether there is anything of a training in it that could be gone on from."""
        return any((self.folder / CHECKPOINTS).glob(f"{PREFIX}*"))

    def opened(self) -> None:
        """Empty the folder unless the training is to go on."""
        if not self.resume:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)

    def transform(self, origin: Identity, schema: FeatureSchema, fit: Callable[[], Transform]) -> Transform:
        """The transform that was fitted before to what `origin` names, else a fresh one, which is kept."""
        place = self.folder / "transform"
        with suppress(ArraysUnusable):
            arrays, facts = open_arrays(place)
            if facts["origin"] == dict(origin):
                return Transform.from_state(schema, facts["state"], {name: a.numpy() for name, a in arrays.items()})
        fitted = fit()
        state, numbers = fitted.to_state()
        with ArrayWriter(place) as writer:
            for name, array in numbers.items():
                writer.append(name, torch.from_numpy(array))
            writer.close({"origin": dict(origin), "state": state})
        return fitted

    def rows(self, encoder: Encoder, split: str, origin: Identity) -> Encoded:
        """A split's rows, encoded before or now. Raises TrainingFailed where the disk has no room."""
        return encoder.kept(split, self.folder / f"rows_{split}", {**origin, "split": split})

    def latest(self, identity: Identity) -> Snapshot | None:
        """What to go on from, None for nothing. Raises CheckpointUnusable."""
        found, damaged = self._checkpoints(identity).latest()
        for one in damaged:
            self.say(f"{one}; the one before it is used")
        if found:
            self.say(f"goes on at epoch {found.facts['epoch']}, after step {found.facts['step']}")
        return found

    def after_step(self, identity: Identity) -> Callable[[Run], None]:
        """What is to be called after every step."""
        checkpoints = self._checkpoints(identity)

        def keep(run: Run) -> None:
            if self.due():
                checkpoints.save(snapshot(run))

        return keep

    def _checkpoints(self, identity: Identity) -> Checkpoints:
        return Checkpoints(self.folder / CHECKPOINTS, identity)
