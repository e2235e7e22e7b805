"""The reference work in a peer's memory, as `bench.reference_export` wrote it: NumPy and nothing of appshelf."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Context = Mapping[str, str | float]

FOLDER = "PEER_FOLDER"
PRECISION = "PEER_PRECISION"


@dataclass(frozen=True)
class Encoded:
    """One request as a network takes it, every id a row of its side's tables.

    request_ids (24,), request_dense (24,), app_ids (N, 12), app_dense (N, 24), crosses (N, 60).
    """

    request_ids: Array
    request_dense: Array
    app_ids: Array
    app_dense: Array
    crosses: Array


class Work:
    """Users, apps and vocabularies, ready to be looked up."""

    def __init__(self, folder: Path) -> None:
        self.arrays = {file.stem: np.load(file) for file in sorted(folder.glob("*.npy"))}
        names = json.loads((folder / "apps.json").read_text(encoding="utf-8"))
        context = json.loads((folder / "context.json").read_text(encoding="utf-8"))
        self._app_rows = {name: row for row, name in enumerate(names)}
        self._context_ids: dict[str, dict[str, int]] = context["ids"]
        self._context_bounds = {name: np.array(bounds) for name, bounds in context["bounds"].items()}
        mine, theirs = self.arrays["crosses.fields"].T
        self._users = (self.arrays["users.ids"] + self.arrays["request.offsets"]).astype(np.int32)
        self._user_dense = self.arrays["users.dense"]
        self._user_rows = {f"u{row}": row for row in range(len(self._users))}
        self._app_ids = np.ascontiguousarray(self.arrays["apps.ids"] + self.arrays["app.offsets"], dtype=np.int32)
        self._app_dense = self.arrays["apps.dense"]
        self._app_keys = np.ascontiguousarray(self.arrays["app.hashes"][self._app_ids[:, theirs]])
        self._crossed = mine
        size = len(self.arrays["crosses.wide"]) // len(mine)
        self._first = np.arange(len(mine), dtype=np.int32) * np.int32(size)

    @classmethod
    def from_environment(cls) -> "Work":
        """The folder that PEER_FOLDER names."""
        return cls(Path(os.environ[FOLDER]))

    def encode(self, user_id: str, context: Context, candidates: Sequence[str]) -> Encoded:
        """Look everything up. Raises KeyError for a user or an app that is not known."""
        user, rows = self._user_rows[user_id], [self._app_rows[name] for name in candidates]
        ids, dense = self._users[user].copy(), self._user_dense[user].copy()
        of_context = [known[str(context[name])] for name, known in self._context_ids.items()]
        ids[-len(of_context) :] = of_context + self.arrays["request.offsets"][-len(of_context) :]
        for place, (name, bounds) in enumerate(self._context_bounds.items(), start=-len(self._context_bounds)):
            dense[place] = np.searchsorted(bounds, context[name]) / max(len(bounds), 1)
        keys = self.arrays["request.hashes"][ids[self._crossed]]
        crosses = (self._app_keys.take(rows, 0) ^ keys) + self._first
        return Encoded(ids, dense, self._app_ids.take(rows, 0), self._app_dense.take(rows, 0), crosses)


def precision() -> str:
    """`fp32` or `bf16`, as PEER_PRECISION says."""
    return os.environ.get(PRECISION, "fp32")
