"""Ids to their ordinals without a Python object per id: a hash table in plain arrays, so that processes can share it.

A bucket has eight slots, each 32 bits of an id's hash and the id's ordinal. An id is looked for in its home bucket,
all ids of a call at once; the few that found that bucket full are looked for one by one, from bucket to bucket. Whole
ids are compared in the end, so that ids with equal hashes are told apart.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Ordinals = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Slots = npt.NDArray[np.int32]

UNKNOWN = -1
BUCKET_SLOTS = 8
IDS_A_BUCKET = 4  # at most, on average; then about one id in 150 does not fit into its home bucket
WORD_BYTES = 8
ODD_BYTES = 250  # about what an id takes that is kept in a dict
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio
HALF = np.uint64(32)

ARRAYS = ("rows", "tags", "ordinals", "odd")
"""What an index is kept as."""


@dataclass(frozen=True)
class IdIndex:
    """Which id has which ordinal, and back.

    rows: (n, W) uint64, the UTF-8 of each id and zeros, one zero at least; tags and ordinals: (buckets, 8) int32,
    UNKNOWN where a slot is empty; odd: by ordinal, the few ids that do not fit into a row.
    """

    rows: Words
    tags: Slots
    ordinals: Slots
    odd: Mapping[int, str]

    @classmethod
    def of(cls, ids: Sequence[str]) -> "IdIndex":
        """Index ids by their places; of equal ids the last counts."""
        encoded = list(map(_encoded, ids))
        width = _width([len(text) for text in encoded])
        odd = {place: ids[place] for place, text in enumerate(encoded) if len(text) >= width or b"\0" in text}
        for place in odd:
            encoded[place] = b""
        rows = np.array(encoded, dtype=f"S{width}").view(np.uint64).reshape(len(ids), width // WORD_BYTES)
        plain = np.setdiff1d(np.arange(len(ids)), np.fromiter(odd, dtype=np.int64))
        return cls(rows, *_filled(_hashes(rows[plain], _factors(rows.shape[1])), plain), odd)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "IdIndex":
        """Undo `arrays`; nothing is copied."""
        odd = dict(json.loads(arrays["odd"].tobytes()))
        return cls(arrays["rows"], arrays["tags"], arrays["ordinals"], odd)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays, to be kept in files."""
        odd = np.frombuffer(json.dumps(list(self.odd.items())).encode(), dtype=np.uint8).copy()
        return {"rows": self.rows, "tags": self.tags, "ordinals": self.ordinals, "odd": odd}

    def __len__(self) -> int:
        return len(self.rows)

    def id_at(self, ordinal: int) -> str:
        """The id of an ordinal, from 0 on."""
        if ordinal in self.odd:
            return self.odd[ordinal]
        text: bytes = self._texts[ordinal]
        return text.decode("utf-8", "surrogatepass")

    def find(self, ids: Sequence[str]) -> Ordinals:
        """(n,) ordinals, UNKNOWN for an id that is not here."""
        if not len(self) or not ids:
            return np.full(len(ids), UNKNOWN, dtype=np.int64)
        texts = self._texts_of(ids)
        rows = texts.view(np.uint64).reshape(len(ids), -1)
        hashes = _hashes(rows, self._factors)
        buckets = _homes(hashes, len(self.tags))
        met = self.tags.take(buckets, axis=0) == _tags(hashes)[:, None]
        found = self._flat.take(buckets * BUCKET_SLOTS + met.argmax(1)).astype(np.int64)
        same = self.rows.take(found, axis=0) == rows
        if not same.all():
            wrong = np.flatnonzero(~same.all(1))
            moved_on = met[wrong].any(1) | (self.ordinals[buckets[wrong], -1] != UNKNOWN)
            found[wrong] = UNKNOWN
            for place in wrong[moved_on].tolist():
                found[place] = self._search(texts[place], int(buckets[place]))
        return self._with_odd(ids, found)

    def _search(self, text: bytes, bucket: int) -> int:
        """Go from bucket to bucket; there are empty slots, and the first of them is the end."""
        while True:
            for ordinal in self.ordinals[bucket].tolist():
                if ordinal == UNKNOWN or self._texts[ordinal] == text:
                    return int(ordinal)
            bucket = (bucket + 1) % len(self.ordinals)

    def _with_odd(self, ids: Sequence[str], found: Ordinals) -> Ordinals:
        """Look again for what rows cannot hold: a longer id, and one with a zero in it, which would read as padding."""
        if self._odd_ordinals:
            for place in np.flatnonzero(found == UNKNOWN).tolist():
                found[place] = self._odd_ordinals.get(ids[place], UNKNOWN)
        if "\0" in "".join(ids):
            for place, app_id in enumerate(ids):
                if "\0" in app_id:
                    found[place] = self._odd_ordinals.get(app_id, UNKNOWN)
        return found

    def _texts_of(self, ids: Sequence[str]) -> npt.NDArray[np.bytes_]:
        """The ids cut to a row's width; a cut one fills it, so that it equals no row."""
        try:
            return np.array(ids, dtype=self._texts.dtype)
        except UnicodeEncodeError:
            return np.array(list(map(_encoded, ids)), dtype=self._texts.dtype)

    @cached_property
    def _factors(self) -> Words:
        return _factors(self.rows.shape[1])

    @cached_property
    def _texts(self) -> npt.NDArray[np.bytes_]:
        return self.rows.view(f"S{self.rows.shape[1] * WORD_BYTES}")[:, 0]

    @cached_property
    def _flat(self) -> Slots:
        return self.ordinals.reshape(-1)

    @cached_property
    def _odd_ordinals(self) -> dict[str, int]:
        return {app_id: ordinal for ordinal, app_id in self.odd.items()}


def _encoded(app_id: str) -> bytes:
    return app_id.encode("utf-8", "surrogatepass")


def _width(lengths: Sequence[int]) -> int:
    """The row's bytes, a multiple of a word, that take least memory: a byte a row more, or an id in the dict."""
    counts = np.bincount(np.array([0, *lengths]), minlength=WORD_BYTES)
    longer = len(lengths) + 1 - counts.cumsum()
    widths = np.arange(WORD_BYTES, len(counts) + WORD_BYTES, WORD_BYTES)
    return int(widths[np.argmin(widths * len(lengths) + longer[np.minimum(widths, len(counts)) - 1] * ODD_BYTES)])


def _factors(count: int) -> Words:
    """A factor a word: the powers of GOLDEN, modulo 2^64."""
    return np.full(count, GOLDEN).cumprod(dtype=np.uint64)


def _hashes(rows: Words, factors: Words) -> Words:
    """(n,): sums of products do not carry downwards, so upper halves are folded into lower ones before and after."""
    sums: Words = (rows ^ (rows >> HALF)) @ factors
    return (sums ^ (sums >> HALF)) * GOLDEN


def _homes(hashes: Words, buckets: int) -> Ordinals:
    return ((hashes >> HALF) & np.uint64(buckets - 1)).view(np.int64)


def _tags(hashes: Words) -> Slots:
    return hashes.astype(np.uint32).view(np.int32)


def _filled(hashes: Words, ordinals: Ordinals) -> tuple[Slots, Slots]:
    """Tags and ordinals of all buckets; who finds a bucket full goes on to the next."""
    count = 1 << max(len(hashes) // IDS_A_BUCKET, 1).bit_length()
    tags, slots = np.zeros((count, BUCKET_SLOTS), np.int32), np.full((count, BUCKET_SLOTS), UNKNOWN, np.int32)
    used = np.zeros(count, dtype=np.int64)
    left = np.arange(len(hashes))[::-1]  # the last first, so that it is found before its equals
    buckets = _homes(hashes, count)[left]
    while len(left):
        order = np.argsort(buckets, kind="stable")
        left, buckets = left[order], buckets[order]
        places = np.arange(len(left)) - np.searchsorted(buckets, buckets) + used[buckets]
        fits = places < BUCKET_SLOTS
        where = buckets[fits], places[fits]
        tags[where], slots[where] = _tags(hashes[left[fits]]), ordinals[left[fits]]
        used += np.bincount(where[0], minlength=count)
        left, buckets = left[~fits], (buckets[~fits] + 1) % count
    return tags, slots
