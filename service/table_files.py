"""A table of apps in its folder: the rows of the net, and what the catalogue says of each app, in the same order."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path

import numpy as np
import torch

from model.agreement import Asked, logit_error
from model.app_table import AppTable, mapped_table, write_table
from model.array_folder import ADVICE, ArraysUnusable, ArrayWriter, map_arrays
from model.bundle import Golden
from model.pauses import Pause, paused
from model.query import App
from model.quick import best_dtype
from model.schema import Source
from model.scorer import Scorer
from service.admission import Entrance
from service.edition import Base, Edition, Rows
from service.markets import GONE, Markets
from service.packed import PackedValues, pack, unpacked
from service.store.ports import AppPages, AppRecord

FORMAT = 1
CODES, VALUES, ENDS = "market", "values", "values.ends"
MEASURED_APPS = 512
SPOT_CHECKS = 4
NEAR = 1e-4


@dataclass(frozen=True)
class StoredTable:
    """A mapped table.

    error: the largest difference of a fast logit that was measured on some of its apps, infinite where that was on a
    processor with another first pass than this one's.
    """

    base: Base
    error: float


@dataclass(frozen=True)
class Maker:
    """What makes a table: the version's scorer, its golden requests, and a pause after every few apps."""

    scorer: Scorer
    golden: Sequence[Golden]
    pause: Pause


def store_table(tables: Path, maker: Maker, catalogue: AppPages) -> Path:
    """Write a table of the whole catalogue to a folder of its own among the others, whole or not at all."""
    scorer = maker.scorer
    with ArrayWriter(tables / name_of(scorer.version, origin=catalogue.origin, sequence=catalogue.sequence)) as writer:
        rows = _Rows(writer, maker, every=max(1, catalogue.count // MEASURED_APPS))
        count = write_table(writer, scorer.app_side, rows.of(catalogue.pages), pause=maker.pause)
        facts = {
            "catalogue": FORMAT,
            "version": scorer.version,
            "origin": catalogue.origin,
            "sequence": catalogue.sequence,
            "count": count,
            "markets": rows.markets.limited,
            "error": measured_error(maker, rows.sample),
            "first_pass": str(best_dtype()),
        }
        writer.close(facts)
    return writer.folder


def open_stored(folder: Path, scorer: Scorer) -> StoredTable:
    """Map a table, and encode some of its apps again to see that it is of this scorer. Raises ArraysUnusable."""
    mapped = map_arrays(folder)
    arrays, facts = mapped.arrays, mapped.facts
    if facts.get("catalogue") != FORMAT:
        raise ArraysUnusable(f"{folder} is a table of format {facts.get('catalogue')!r}, not {FORMAT}; {ADVICE}")
    table = mapped_table(mapped, scorer.app_side, origin=str(folder))
    codes = np.append(arrays[CODES].numpy(), np.int32(GONE))
    values = PackedValues(arrays[VALUES].numpy(), arrays[ENDS].numpy())
    if not len(codes) - 1 == len(values) == len(table):
        told = f"{len(codes) - 1} markets and {len(values)} values of {len(table)} apps"
        raise ArraysUnusable(f"{folder} has {told}; {ADVICE}")
    edition = Edition(table, codes, Markets(facts["markets"]), values, [])
    _check_some(edition, scorer, folder)
    error = facts["error"] if facts.get("first_pass") == str(best_dtype()) else inf
    return StoredTable(Base(edition, facts["sequence"], facts["origin"]), error)


def name_of(version: str, *, origin: str, sequence: int) -> str:
    """The folder's name: `<version>-<key of the catalogue's state>`."""
    return f"{version}-{hashlib.sha256(f'{origin} {sequence}'.encode()).hexdigest()[:8]}"


def version_of(folder: Path) -> str:
    """The version of a table's folder, whole or partial."""
    return folder.name.strip(".").removesuffix(".partial").rpartition("-")[0]


def measured_error(maker: Maker, apps: Sequence[App]) -> float:
    """The largest difference of a fast logit on the golden requests, over their apps and these."""
    shown = {app.id: app for one in maker.golden for app in one.apps} | {app.id: app for app in apps}
    table = maker.scorer.table(list(shown.values()))
    rows = np.arange(len(table))
    return logit_error(maker.scorer, paused((Asked(one.query, table, rows) for one in maker.golden), maker.pause))


def error_of(stored: StoredTable, maker: Maker) -> float:
    """What was measured of a table; measured again where that says nothing of this processor's first pass."""
    edition = stored.base.edition
    if isfinite(stored.error) or not len(edition.table):
        return stored.error
    return measured_error(maker, _apps_of(edition, count=MEASURED_APPS))


class _Rows:
    """Writes what the catalogue says of each app while its rows are written. sample: every so many apps."""

    def __init__(self, writer: ArrayWriter, maker: Maker, *, every: int) -> None:
        self.markets = Markets()
        self.sample: list[App] = []
        self._writer = writer
        self._entrance = Entrance(maker.scorer.schema, Source.APP, at="")
        self._every = every
        self._count, self._end = 0, 0
        self._write([])

    def of(self, pages: Iterable[Sequence[AppRecord]]) -> Iterator[list[App]]:
        """The apps of each page as they are encoded."""
        for page in pages:
            packed = self._write(page)
            apps = [App(record.id, unpacked(values)) for record, values in zip(page, packed, strict=True)]
            self.sample += apps[-self._count % self._every :: self._every]
            self._count += len(apps)
            yield apps

    def _write(self, page: Sequence[AppRecord]) -> list[bytes]:
        packed = [pack(self._entrance.fitting(record.features)) for record in page]
        lengths = torch.tensor([len(values) for values in packed], dtype=torch.int64)
        self._writer.append(CODES, torch.tensor([self.markets.code(record) for record in page], dtype=torch.int32))
        self._writer.append(VALUES, np.frombuffer(bytearray(b"".join(packed)), dtype=np.uint8))
        self._writer.append(ENDS, self._end + lengths.cumsum(0))
        self._end += int(lengths.sum())
        return packed


def _check_some(edition: Edition, scorer: Scorer, folder: Path) -> None:
    """Raise ArraysUnusable where rows, from the first to the last, are not what this scorer makes of their values."""
    table = edition.table
    if not len(table):
        return
    apps = _apps_of(edition, count=SPOT_CHECKS)
    found = table.gather(torch.from_numpy(_spread(table, count=SPOT_CHECKS)), exact=True)
    wanted = scorer.table(apps).gather(torch.arange(len(apps)), exact=True)
    near = all(torch.allclose(found.part[name], wanted.part[name], rtol=NEAR, atol=NEAR) for name in wanted.part)
    if not near or not torch.equal(found.keys, wanted.keys):
        raise ArraysUnusable(f"{folder} has rows that version {scorer.version} does not make of their apps; {ADVICE}")


def _apps_of(edition: Edition, *, count: int) -> list[App]:
    rows = _spread(edition.table, count=count).tolist()
    return [App(edition.table.ids[row], edition.values.unpacked_at(row)) for row in rows]


def _spread(table: AppTable, *, count: int) -> Rows:
    """So many rows from the first to the last, at most."""
    return np.unique(np.linspace(0, len(table) - 1, count, dtype=np.int64))
