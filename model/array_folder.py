"""A folder of raw arrays under one header: written in chunks and put in place whole, opened by mapping it.

Every process that opens the same folder shares its pages, and nothing is read before it is touched: the files' sizes
are checked, their content is not. The header is written last; a folder without one does not exist. Numbers lie as the
machine holds them (little-endian wherever this runs), since such a folder never leaves its machine.
"""

import json
import mmap
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.sealed import seal

FORMAT = 1
HEADER = "arrays.json"
DTYPES: Mapping[str, torch.dtype] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64, torch.uint64,
        torch.float32, torch.float64, torch.bfloat16,
    )
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
TOUCHED_BYTES = 4 << 20
LET_GO_BYTES = 1 << 20
ADVICE = "remove the folder and have it built again"


class ArraysUnusable(ValueError):
    """A folder of arrays is absent, damaged or of another format; the message names the file."""


@dataclass(frozen=True)
class Pages:
    """The memory that arrays are mapped to."""

    of: tuple[mmap.mmap, ...] = ()

    def let_go(self, pause: Callable[[], None]) -> None:
        """Unmap every page in small steps with a pause after each; what is read all the same is mapped again.

        Else they go with the last array, all in one call, for which every thread of the process waits: a tenth of a
        second for half a gigabyte under load.
        """
        for content in self.of:
            for start in range(0, len(content), LET_GO_BYTES):
                content.madvise(mmap.MADV_DONTNEED, start, min(LET_GO_BYTES, len(content) - start))
                pause()


@dataclass(frozen=True)
class Mapped:
    """A folder that was opened. facts: what it was closed with."""

    arrays: dict[str, Tensor]
    facts: dict[str, Any]
    pages: Pages


class ArrayWriter:
    """Fills a folder aside, array by array and chunk by chunk, and renames it into place when it is closed.

    Leaving the `with` block without `close` removes what was written. One writer at a time may fill a folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._partial = folder.with_name(f".{folder.name}.partial")
        self._files: dict[str, BinaryIO] = {}
        self._kinds: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
        self._rows: dict[str, int] = {}
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            with suppress(OSError):  # a full disk takes what is buffered no more than the rest, and the file is closed
                file.close()
        shutil.rmtree(self._partial, ignore_errors=True)

    def append(self, name: str, rows: Tensor | npt.NDArray[Any]) -> None:
        """Add rows (n, ...) to the end of an array; every chunk of it has the same type and row shape."""
        chunk = (torch.from_numpy(rows) if isinstance(rows, np.ndarray) else rows).contiguous()
        kind = chunk.dtype, tuple(chunk.shape[1:])
        if name not in self._files:
            if kind[0] not in NAMES:
                raise ValueError(f"array {name!r} is of {kind[0]}; {', '.join(DTYPES)} are allowed")
            self._kinds[name], self._rows[name] = kind, 0
            self._files[name] = (self._partial / name).open("xb")
        if self._kinds[name] != kind:
            raise ValueError(f"a chunk of {kind} is added to array {name!r} of {self._kinds[name]}; keep to one")
        dense = chunk.as_strided((chunk.numel(),), (1,))  # a single number may have any stride, which no view takes
        self._files[name].write(dense.view(torch.uint8).numpy().data)
        self._rows[name] += chunk.shape[0]

    def close(self, facts: Mapping[str, Any]) -> None:
        """Flush all of it to the disk, write the header with these JSON values, and put the folder in place.

        A folder that stands there is replaced; who has mapped it keeps what they mapped.
        """
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        arrays = {
            name: {"dtype": NAMES[dtype], "shape": [self._rows[name], *shape]}
            for name, (dtype, shape) in self._kinds.items()
        }
        body = {"format": FORMAT, "facts": dict(facts), "arrays": arrays}
        with (self._partial / HEADER).open("xb") as header:
            header.write(json.dumps(body | {"sha256": seal(body)}, indent=1).encode())
            header.flush()
            os.fsync(header.fileno())
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(self._partial, self.folder)


@dataclass(frozen=True)
class _Bytes:
    """Mapped bytes as numpy takes them without a look at whether they may be written."""

    content: mmap.mmap

    @property
    def __array_interface__(self) -> dict[str, Any]:
        address = np.frombuffer(self.content, np.uint8).ctypes.data
        return {"version": 3, "typestr": "|u1", "shape": (len(self.content),), "data": (address, False)}


def map_arrays(folder: Path, *, fixed: bool = False) -> Mapped:
    """Every array by name, mapped from its file. Raises ArraysUnusable.

    The tensors are not to be written: what is written stays in this process until its pages are let go, and takes
    memory of its own. With `fixed` a write ends the process instead, and no memory is set aside for one: the kernel
    refuses an array larger than its memory that may be written.
    """
    header, arrays, pages = _header(folder / HEADER), dict[str, Tensor](), list[mmap.mmap]()
    access = mmap.ACCESS_READ if fixed else mmap.ACCESS_COPY
    for name, one in header["arrays"].items():
        dtype, shape = DTYPES[one["dtype"]], one["shape"]
        if content := _content(folder / name, int(np.prod(shape)) * dtype.itemsize, access=access):
            # through numpy, since torch warns of memory that it may not write
            arrays[name] = torch.from_numpy(np.asarray(_Bytes(content))).view(dtype).view(shape)
            pages.append(content)
        else:
            arrays[name] = torch.empty(shape, dtype=dtype)
    return Mapped(arrays, header["facts"], Pages(tuple(pages)))


def open_arrays(folder: Path, *, fixed: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The arrays and the facts of `map_arrays`. Raises ArraysUnusable."""
    mapped = map_arrays(folder, fixed=fixed)
    return mapped.arrays, mapped.facts


def touch(arrays: Iterable[Tensor], pause: Callable[[], None]) -> None:
    """Read a byte of every page, so that nobody waits for it later; `pause` is called after every TOUCHED_BYTES."""
    for array in arrays:
        content = array.flatten().view(torch.uint8)
        for start in range(0, len(content), TOUCHED_BYTES):
            content[start : start + TOUCHED_BYTES : mmap.PAGESIZE].sum()
            pause()


def _header(place: Path) -> dict[str, Any]:
    try:
        header = json.loads(place.read_bytes())
        body = {name: value for name, value in header.items() if name != "sha256"}
    except (OSError, ValueError, AttributeError) as error:
        raise ArraysUnusable(f"{place} cannot be read as a header ({error}); {ADVICE}") from error
    if header.get("format") != FORMAT:
        raise ArraysUnusable(f"{place} is of format {header.get('format')!r} where {FORMAT} is read; {ADVICE}")
    if (seen := seal(body)) != header.get("sha256"):
        raise ArraysUnusable(f"{place} has sha256 {seen[:12]} where {header.get('sha256')!r} was sealed; {ADVICE}")
    return body


def _content(place: Path, wanted: int, *, access: int) -> mmap.mmap | None:
    """So many bytes of a file, mapped; None for no bytes."""
    try:
        with place.open("rb") as file:
            if (size := os.fstat(file.fileno()).st_size) != wanted:
                raise ArraysUnusable(f"{place} has {size} bytes where {wanted} were written; {ADVICE}")
            return mmap.mmap(file.fileno(), wanted, access=access) if wanted else None
    except OSError as error:
        raise ArraysUnusable(f"{place} cannot be read ({error.strerror}); {ADVICE}") from error
