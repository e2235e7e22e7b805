"""The values that each row of a table was encoded from, packed: most of them are never looked at."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from model.query import Value
from service.store.packed_values import Packed

Blob = npt.NDArray[np.uint8]
Ends = npt.NDArray[np.int64]

SHOWN_APPS = 10_000
"""Apps whose values are kept at hand after they were shown."""

_encode = msgspec.json.Encoder(order="sorted").encode


class PackedValues:
    """Values by row: those of a base end to end in one array, which may be mapped, and those added since.

    ends: (n,) where the values of each row of the base end. One thread adds while any number read.
    """

    def __init__(self, blob: Blob | None = None, ends: Ends | None = None) -> None:
        self._blob = np.empty(0, dtype=np.uint8) if blob is None else blob
        self._ends = np.empty(0, dtype=np.int64) if ends is None else ends
        self._added: list[bytes] = []
        self._shown: dict[int, Packed] = {}

    def __len__(self) -> int:
        return len(self._ends) + len(self._added)

    def at(self, row: int) -> bytes:
        """The packed values of a row."""
        if row >= (base := len(self._ends)):
            return self._added[row - base]
        start = int(self._ends[row - 1]) if row else 0
        return self._blob[start : int(self._ends[row])].tobytes()

    def unpacked_at(self, row: int) -> Mapping[str, Value]:
        """The values of a row, not to be changed."""
        return unpacked(self.at(row))

    def packed_at(self, row: int) -> Packed:
        """The values of a row on their way to the log; whatever is shown often is one object."""
        if (found := self._shown.get(row)) is None:
            if len(self._shown) >= SHOWN_APPS:
                self._shown.clear()
            found = self._shown[row] = Packed(self.at(row))
        return found

    def add(self, packed: Sequence[bytes]) -> None:
        """Add the values of the next rows."""
        self._added.extend(packed)

    def only(self, rows: Sequence[int]) -> "PackedValues":
        """Those of the base and, of the rows added since, of these alone, in this order."""
        picked = PackedValues(self._blob, self._ends)
        picked.add([self._added[row - len(self._ends)] for row in rows])
        return picked


def pack(features: Mapping[str, Value]) -> bytes:
    """Values as the bytes that they are kept as; equal values give equal bytes."""
    return _encode(features)


def unpacked(packed: bytes) -> dict[str, Value]:
    """Undo `pack`."""
    features: dict[str, Value] = msgspec.json.decode(packed)
    return features
