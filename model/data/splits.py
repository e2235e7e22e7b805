"""Cut a log into train, stop and gate: by time, by the log's own column, or at random, always the same way."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from model.data.columns import Column, either, reason, texts
from model.data.report import ImportRefused

SPLITS = ("train", "stop", "gate")
NAMES = ("train", "stop", "valid", "gate")


@dataclass(frozen=True)
class Shares:
    """How much of a log feeds training and early stopping; the rest is the gate's."""

    train: float = 0.8
    stop: float = 0.1

    def __post_init__(self) -> None:
        if not (self.train > 0 and self.stop > 0 and self.train + self.stop < 1):
            raise ValueError(f"shares {self.train} and {self.stop}: both above 0, together below 1")


def by_time(at: pl.Series, shares: Shares) -> pl.Series:
    """(n,) the split of each time, oldest first; the cuts lie between distinct times, nearest to the shares.

    Raises ImportRefused for fewer than three distinct times.
    """
    distinct = at.value_counts(name="rows").sort(at.name)
    if distinct.height < len(SPLITS):
        raise ImportRefused(
            f"the log has {distinct.height} distinct times, a split by time takes at least {len(SPLITS)}; "
            "take `at` out of the schema's `log` to split at random"
        )
    until = (distinct["rows"].cum_sum() / len(at)).to_numpy()
    last_train = int(np.abs(until[:-2] - shares.train).argmin())
    last_stop = last_train + 1 + int(np.abs(until[last_train + 1 : -1] - shares.train - shares.stop).argmin())
    cuts = distinct[at.name]
    return _named(2 - (at <= cuts[last_stop]).cast(pl.Int8) - (at <= cuts[last_train]).cast(pl.Int8))


def split_names(raw: pl.Series) -> Column:
    """Judge a log's own split column: train, stop, valid or gate."""
    column = texts(raw)
    unknown = reason(~column.values.is_in(NAMES).fill_null(False), f"none of {', '.join(NAMES)}")
    return Column.of(column.values, either(column.why, unknown))


def by_column(names: pl.Series, keys: npt.NDArray[np.uint64]) -> pl.Series:
    """(n,) the split of each row by its name: `valid` is `stop`, and halved by `keys` where there is no gate."""
    present = set(names.unique())
    if "valid" not in present or "gate" in present:
        return names.replace("valid", "stop")
    halves = pl.Series(np.where(_fractions(keys) < 0.5, "stop", "gate"))
    return names.zip_with(names != "valid", pl.Series(["gate"] * len(names)) if "stop" in present else halves)


def at_random(keys: npt.NDArray[np.uint64], shares: Shares) -> pl.Series:
    """(n,) the split of each row by its key."""
    fraction = pl.Series(_fractions(keys))
    return _named((fraction >= shares.train).cast(pl.Int8) + (fraction >= shares.train + shares.stop).cast(pl.Int8))


def row_keys(users: pl.Series, rows: pl.Series) -> npt.NDArray[np.uint64]:
    """(n,) a hash of each row's user and number, the same on every machine and under every library version."""
    names = users.unique()
    digests = [int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") for name in names]
    hashed = users.replace_strict(names, pl.Series(digests, dtype=pl.UInt64)).to_numpy()
    return _mix(hashed ^ _mix(rows.cast(pl.UInt64).to_numpy()))


def split_counts(examples: pl.DataFrame) -> dict[str, int]:
    """Rows of each split ("train") and positives among them ("train_positive"), from columns split and label."""
    counts: dict[str, int] = {}
    for name in SPLITS:
        label = examples.filter(pl.col("split") == name)["label"]
        counts |= {name: len(label), f"{name}_positive": int(label.sum())}
    return counts


def _named(number: pl.Series) -> pl.Series:
    return number.replace_strict(dict(enumerate(SPLITS)), return_dtype=pl.String)


def _fractions(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    return (keys >> np.uint64(11)).astype(np.float64) / 2.0**53


def _mix(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spread the bits of 64-bit numbers: the finaliser of SplitMix64 (Steele et al. 2014)."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
