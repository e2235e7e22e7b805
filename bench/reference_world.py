"""The reference work's store: its schema, its users and apps, and a log whose installs follow a truth of known parts.

24 request-side and 12 app-side categorical fields, 24 continuous values each, and 60 two-sided crosses. Everything is
drawn from seeds, an app's features from those of its thousand, so that a catalogue of a million begins with the same
apps as one of a hundred.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from model.schema import CrossSpec, FeatureSchema, FieldSpec, Kind, Source

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Numbers = Mapping[str, Ints | Floats]
"""Columns by field name: the number of a categorical field's value, or a continuous field's value."""

USER_SIZES = (
    50,
    50,
    80,
    100,
    100,
    150,
    200,
    200,
    250,
    300,
    300,
    400,
    500,
    500,
    600,
    800,
    1_000,
    5_000,
    20_000,
    100_000,
)
CONTEXT_SIZES = (7, 24, 50, 200)
APP_SIZES = (50, 60, 100, 150, 200, 300, 400, 500, 1_000, 5_000, 20_000)
USER_NUMBERS, CONTEXT_NUMBERS, APP_NUMBERS = 22, 2, 24
CROSS_COUNT, CROSS_BITS = 60, 14

APPS_AT_ONCE = 1_000
TASTE_FIELDS, TASTE_RANK = 6, 4
TRUE_CROSSES, TRUE_SIZE = 6, 61


def _names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:02d}" for number in range(count)]


USER_IDS, CONTEXT_IDS, APP_IDS = _names("user", 20), _names("context", 4), _names("app", 11)
USER_DENSE, CONTEXT_DENSE, APP_DENSE = _names("spend", 22), _names("moment", 2), _names("rating", 24)
SIZES = dict(zip([*USER_IDS, *CONTEXT_IDS, *APP_IDS], [*USER_SIZES, *CONTEXT_SIZES, *APP_SIZES], strict=True))


def schema() -> FeatureSchema:
    """36 categorical fields, `app_id` among them, 48 continuous ones, and CROSS_COUNT crosses of 2^CROSS_BITS rows."""
    sides = (
        (Source.USER, USER_IDS, USER_DENSE),
        (Source.CONTEXT, CONTEXT_IDS, CONTEXT_DENSE),
        (Source.APP, ["app_id", *APP_IDS], APP_DENSE),
    )
    fields = [
        FieldSpec(name=name, source=source, kind=kind)
        for source, ids, dense in sides
        for kind, names in ((Kind.CATEGORICAL, ids), (Kind.CONTINUOUS, dense))
        for name in names
    ]
    crosses = [CrossSpec(fields=pair, bits=CROSS_BITS) for pair in crossed()]
    return FeatureSchema(fields=tuple(fields), crosses=tuple(crosses))


def crossed() -> list[tuple[str, str]]:
    """The crossed fields, a request's and an app's, CROSS_COUNT different pairs; every field is in some."""
    mine, theirs = [*USER_IDS, *CONTEXT_IDS], ["app_id", *APP_IDS]
    turns = ((turn, turn // len(mine)) for turn in range(CROSS_COUNT))
    return [(mine[turn % len(mine)], theirs[(turn + shift) % len(theirs)]) for turn, shift in turns]


def draw(rng: np.random.Generator, count: int, ids: Sequence[str], dense: Sequence[str]) -> dict[str, Ints | Floats]:
    """`count` values of each field: low numbers are the frequent ones, continuous values have three decimals."""
    drawn: dict[str, Ints | Floats] = {name: (SIZES[name] * rng.random(count) ** 2).astype(np.int64) for name in ids}
    return drawn | {name: rng.gamma(2.0, 1.0, count).round(3) for name in dense}


def users(seed: int, count: int) -> dict[str, Ints | Floats]:
    """The features of users 0 to `count`."""
    return draw(np.random.default_rng([seed, 1]), count, USER_IDS, USER_DENSE)


def apps(seed: int, first: int, count: int) -> dict[str, Ints | Floats]:
    """The features of apps `first` to `first + count`, both whole multiples of APPS_AT_ONCE."""
    chunks = range(first // APPS_AT_ONCE, (first + count) // APPS_AT_ONCE)
    drawn = [draw(np.random.default_rng([seed, 2, c]), APPS_AT_ONCE, APP_IDS, APP_DENSE) for c in chunks]
    return {name: np.concatenate([one[name] for one in drawn]) for name in drawn[0]}


def contexts(rng: np.random.Generator, count: int) -> dict[str, Ints | Floats]:
    """`count` contexts."""
    return draw(rng, count, CONTEXT_IDS, CONTEXT_DENSE)


def texts(columns: Numbers) -> dict[str, pl.Series]:
    """Canonical columns: the value of a categorical field is its name and number, `user03-17`."""
    return {
        name: pl.select(pl.format(f"{name}-{{}}", pl.lit(pl.Series(values)))).to_series()
        if name in SIZES
        else pl.Series(values)
        for name, values in columns.items()
    }


def user_ids(count: int) -> pl.Series:
    """`u0`, `u1`, ..."""
    return pl.select(pl.format("u{}", pl.int_range(count))).to_series()


def app_ids(first: int, count: int) -> pl.Series:
    """`com.studio17.app000042`: as long as package names are."""
    numbers = pl.int_range(first, first + count)
    name = pl.format("com.studio{}.app{}", numbers * 7_919 % 9_973, numbers.cast(pl.String).str.zfill(7))
    return pl.select(name).to_series()


@dataclass(frozen=True)
class Truth:
    """What makes an install likely: both sides themselves, a taste of low rank, and a few crossed effects."""

    effects: Mapping[str, Floats]
    vectors: Mapping[str, Floats]
    crossed: tuple[tuple[str, str, Floats], ...]

    @classmethod
    def of(cls, seed: int) -> "Truth":
        """Effects drawn for every value of every field."""
        rng = np.random.default_rng([seed, 3])
        tasteful = [*USER_IDS[:TASTE_FIELDS], *APP_IDS[:TASTE_FIELDS]]
        pairs = [pair for pair in crossed() if "app_id" not in pair][:: CROSS_COUNT // TRUE_CROSSES]
        return cls(
            effects={name: rng.normal(0, 0.15, size) for name, size in SIZES.items()},
            vectors={name: rng.normal(0, 0.35, (SIZES[name], TASTE_RANK)) for name in tasteful},
            crossed=tuple((mine, theirs, rng.normal(0, 0.5, (TRUE_SIZE, TRUE_SIZE))) for mine, theirs in pairs),
        )

    def logits(self, rows: Numbers) -> Floats:
        """(B,) of rows that hold every field's number."""
        total = np.full(len(rows[USER_IDS[0]]), -1.5) + 0.25 * (rows[USER_DENSE[0]] * rows[APP_DENSE[0]] - 4).clip(
            -4, 4
        )
        for name, effects in self.effects.items():
            total += effects[rows[name]]
        tastes, tags = (
            sum(vectors[rows[name]] for name, vectors in self.vectors.items() if name in fields)
            for fields in (USER_IDS, APP_IDS)
        )
        total += np.einsum("bk,bk->b", tastes, tags)
        for mine, theirs, effects in self.crossed:
            total += effects[rows[mine] % TRUE_SIZE, rows[theirs] % TRUE_SIZE]
        return total
