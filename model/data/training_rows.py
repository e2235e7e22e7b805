"""The training split gone through a piece at a time: what is counted of it, whatever its length."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
import torch

from model.data.dataset import Dataset, has_logged
from model.data.examples import Examples, RowEncoder, history_for
from model.data.history import History
from model.schema import FeatureSchema, FieldSpec, Kind, Source
from model.spread import Ints, KeyCounts, Spread
from model.transforms import Transform
from model.vocabulary import Floats, Quantiles

KEPT_ROWS = 1 << 19
"""Rows whose history is kept from one pass to the next."""

PAIRS_AT_ONCE = 1 << 19
"""Events whose distinct pairs of user and app are held at once."""

KEYS_AT_ONCE = 20_000

Counts = Mapping[str | None, int]


@dataclass(frozen=True)
class TrainingRows:
    """The training split of a dataset under a schema, which need not be the dataset's."""

    schema: FeatureSchema
    dataset: Dataset
    _kept: list[History] = field(default_factory=list)

    def pieces(self) -> Iterator[tuple[pl.DataFrame, History]]:
        """Some rows at a time, and what each of them knows."""
        short = self.dataset.count("train") <= KEPT_ROWS
        for place, rows in enumerate(self.dataset.pieces("train")):
            history = self._kept[place] if place < len(self._kept) else history_for(self.schema, self.dataset, rows)
            if short and place == len(self._kept):
                self._kept.append(history)
            yield rows, history

    def seen_values(self) -> dict[str, Counts]:
        """How many rows hold each value of each id field by name; of the history field, how many users hold it."""
        seen = {}
        for one in self.schema.fields:
            if one.source is Source.HISTORY:
                seen[one.name] = self._installed()
            elif one.kind is not Kind.CONTINUOUS:
                seen[one.name] = self._seen(one)
        return seen

    def quantiles(self) -> dict[str, Quantiles]:
        """The quantiles of each continuous field by name."""
        fields = [one for one in self.schema.fields if one.kind is Kind.CONTINUOUS]
        spreads = {one.name: Spread() for one in fields}
        rowwise = [one for one in fields if one.source is not Source.APP]
        for one in fields:
            if one.source is Source.APP:
                spreads[one.name].add(_floats(self.dataset.scored_apps, one.name), self.app_counts)
        for rows, history in self.pieces() if rowwise else ():
            for one in rowwise:
                values = history.statistics[one.measure] if one.measure else _floats(rows, one.name)
                spreads[one.name].add(values)
        return {one.name: spreads[one.name].quantiles(one.quantiles) for one in fields}

    def keys(self, transform: Transform) -> dict[str, tuple[Ints, Ints]]:
        """The 64-bit keys of each exact cross by name, ascending, and in how many rows each stands."""
        counts = {cross.name: KeyCounts() for cross in self.schema.crosses if cross.exact}
        encoder = RowEncoder(transform, self.dataset)
        for rows, history in self.pieces() if counts else ():
            examples = encoder.examples(rows, history)
            for start in range(0, len(examples), KEYS_AT_ONCE):
                part = torch.arange(start, min(start + KEYS_AT_ONCE, len(examples)))
                for name, keys in _exact_keys(examples, part).items():
                    counts[name].add(keys)
        return {name: one.counted() for name, one in counts.items()}

    @cached_property
    def app_counts(self) -> Ints:
        """(A,) how many rows were scored with each app or revision."""
        counts = np.zeros(len(self.dataset.scored_apps), dtype=np.int64)
        for rows in self.dataset.pieces("train"):
            places = self.dataset.app_rows(rows).to_numpy()
            counts += np.bincount(places, minlength=len(counts))
        return counts

    @property
    def _scan(self) -> pl.LazyFrame:
        return self.dataset.scan().filter(pl.col("split") == "train")

    def _seen(self, one: FieldSpec) -> Counts:
        if one.source is Source.APP:
            apps = self.dataset.scored_apps.with_columns(_rows=pl.Series(self.app_counts))
            frame = apps.filter(pl.col("_rows") > 0).lazy()
        else:
            frame = self._scan.with_columns(_rows=pl.lit(1, pl.Int64))
        known = one.name in frame.collect_schema()
        value = pl.col(one.name) if known else pl.lit(None, pl.String)
        values = frame.select("_rows", _value=value)
        if known and one.kind is Kind.MULTI:
            values = values.explode("_value")
        return _dict(self.dataset.collect(values.group_by("_value").agg(pl.sum("_rows"))))

    def _installed(self) -> Counts:
        """How many users hold each app by the end of training; some users at a time, since pairs are many.

        A user is 64 bits of a hash, a third of the memory: of a billion, hardly two are the same.
        """
        events = self._scan.filter(pl.col("label") == 1).select("user_id", "app_id")
        before = self.dataset.users.lazy().select("user_id", app_id="installed").explode("app_id").drop_nulls()
        pairs = pl.concat([events, before, *self._scored_with()]).with_columns(pl.col("user_id").hash())
        parts = self.dataset.collect(pairs.select(pl.len())).item() // PAIRS_AT_ONCE + 1
        counts = []
        for part in range(parts):
            of_part = pairs.filter(pl.col("user_id") % parts == part) if parts > 1 else pairs
            counts.append(self.dataset.collect(of_part.unique().group_by("app_id").len("rows")))
        summed = pl.concat(counts).group_by("app_id").agg(pl.col("rows").cast(pl.Int64).sum())
        return _dict(summed)

    def _scored_with(self) -> list[pl.LazyFrame]:
        """user_id, app_id of what the rows' own histories hold, which may have been given up since."""
        if not has_logged(self._scan):
            return []
        columns = self._scan.collect_schema()
        request = [name for name in ("user_id", "request_id", "at") if name in columns]
        histories = self._scan.select(*request, entry="history").unique(request).explode("entry")
        return [histories.select("user_id", app_id=pl.col("entry").struct.field("app_id")).drop_nulls()]


def _dict(counts: pl.DataFrame) -> Counts:
    return dict(zip(*(counts.to_series(place).to_list() for place in (0, 1)), strict=True))


def _floats(frame: pl.DataFrame, name: str) -> Floats:
    if name not in frame.columns:
        return np.full(len(frame), np.nan)
    return frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _exact_keys(examples: Examples, rows: torch.Tensor) -> dict[str, Ints]:
    """The keys of these rows by exact cross, whichever sides it spans."""
    crosses = examples.transform.crosses
    request = crosses.within(examples.requests.select(rows), request=True)
    app = examples.apps.select(examples.app_rows[rows])
    return {name: bag.values.numpy() for name, bag in crosses.exact_keys(request, app).items()}
