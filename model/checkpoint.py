"""Everything of a run under way, kept on disk so that it can go on from there after it was killed.

A checkpoint is a folder, `kept-00000012`, of a safetensors file and a JSON file that holds its SHA-256. It is written
aside, flushed to the disk and renamed, and the one before it is kept until the next one is whole.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.sealed import seal, sync
from model.train_config import TrainingFailed

FORMAT = 1
TENSORS, HEADER = "tensors.safetensors", "checkpoint.json"
PREFIX = "kept-"
KEPT = 2
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FROM_THE_START = "train without --resume to begin anew"


class CheckpointError(TrainingFailed):
    """A checkpoint cannot be written or gone on from; the message names its folder and what to do."""


class CheckpointUnusable(CheckpointError):
    """There are checkpoints, and none of them can be gone on from."""


@dataclass(frozen=True)
class Snapshot:
    """What a run is made of. facts: JSON values; tensors: by name."""

    facts: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training in its folder. identity: what it is a training of, by name, JSON values."""

    folder: Path
    identity: Mapping[str, Any]

    def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot, the newest from here on. Raises CheckpointError on a full disk."""
        last = next((int(one.name.removeprefix(PREFIX)) for one in self._standing()), 0)
        folder, partial = self.folder / f"{PREFIX}{last + 1:08d}", self.folder / ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            self._write(partial, snapshot)
            os.replace(partial, folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            if getattr(error, "errno", None) not in NO_ROOM and not isinstance(error, SafetensorError):
                raise
            size = sum(tensor.nbytes for tensor in snapshot.tensors.values())
            raise CheckpointError(
                f"no checkpoint could be written to {self.folder} ({error}); it takes {size >> 20} MiB and the one "
                "before it stands until it is whole: make room, then go on with --resume, or ask for the retrain again"
            ) from error
        sync(self.folder)
        for old in self._standing()[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def latest(self) -> tuple[Snapshot | None, tuple[str, ...]]:
        """The newest snapshot that is whole, None where nothing was kept, and what was found damaged on the way.

        Raises CheckpointUnusable where it is of another training, and where all that there are are damaged.
        """
        damaged: list[str] = []
        for folder in self._standing():
            try:
                header = _header(folder)
                self._check_identity(folder, header["identity"])
                return Snapshot(header["facts"], load_file(folder / TENSORS)), tuple(damaged)
            except (_Damaged, SafetensorError) as error:
                damaged.append(f"{folder} is damaged ({error})")
        if damaged:
            raise CheckpointUnusable(f"no checkpoint to go on from: {'; '.join(damaged)}; {FROM_THE_START}")
        return None, ()

    def clear(self) -> None:
        """Remove every checkpoint."""
        for folder in self._standing():
            shutil.rmtree(folder, ignore_errors=True)

    def _standing(self) -> list[Path]:
        """The checkpoints, newest first."""
        found = [one for one in self.folder.glob(f"{PREFIX}*") if one.name.removeprefix(PREFIX).isdecimal()]
        return sorted(found, key=lambda one: int(one.name.removeprefix(PREFIX)), reverse=True)

    def _write(self, partial: Path, snapshot: Snapshot) -> None:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in snapshot.tensors.items()}, partial / TENSORS
        )
        body = {
            "format": FORMAT,
            "identity": dict(self.identity),
            "facts": dict(snapshot.facts),
            "tensors": _sha256(partial / TENSORS),
        }
        (partial / HEADER).write_text(json.dumps(body | {"sha256": seal(body)}, indent=1), encoding="utf-8")
        for one in (partial / TENSORS, partial / HEADER, partial):
            sync(one)

    def _check_identity(self, folder: Path, theirs: Mapping[str, Any]) -> None:
        ours = json.loads(json.dumps(self.identity))  # as it reads once it was JSON
        for name in sorted({*ours, *theirs}):
            if ours.get(name) != theirs.get(name):
                raise CheckpointUnusable(
                    f"the checkpoint {folder} is of another training: {name} was {_short(theirs.get(name))} and is "
                    f"{_short(ours.get(name))} now; give it the same, or {FROM_THE_START}"
                )


class _Damaged(ValueError):
    """A checkpoint is not what was written."""


def _header(folder: Path) -> dict[str, Any]:
    """A checkpoint's header, the tensors beside it seen to be those it was sealed with."""
    try:
        header = json.loads((folder / HEADER).read_bytes())
        body = {name: value for name, value in header.items() if name != "sha256"}
        if header.get("format") != FORMAT:
            raise _Damaged(f"{HEADER} is of format {header.get('format')!r} where {FORMAT} is read")
        if seal(body) != header.get("sha256"):
            raise _Damaged(f"{HEADER} is not as it was sealed")
        if _sha256(folder / TENSORS) != header["tensors"]:
            raise _Damaged(f"{TENSORS} is not as it was sealed")
    except OSError as error:
        raise _Damaged(f"{error.filename}: {error.strerror}") from error
    except (ValueError, AttributeError, KeyError) as error:
        raise error if isinstance(error, _Damaged) else _Damaged(f"{HEADER} cannot be read: {error}") from error
    return body


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
