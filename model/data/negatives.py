"""Negatives for a log that has positives only, drawn by a named rule, each in the context of a positive."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from model.schema import NegativeRule, Negatives

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """What negatives are drawn from: apps (N,) distinct ids; used: user_id, app_id of what each user has used."""

    apps: pl.Series
    used: pl.DataFrame


@dataclass(frozen=True)
class _Draw:
    """G groups that draw without replacement: wanted (G,) apps of `catalogue` each, but their taken ones.

    group, app: (T,) the taken pairs, distinct, in order.
    """

    wanted: Ints
    group: Ints
    app: Ints
    catalogue: int

    @property
    def free(self) -> Ints:
        """(G,) how many apps each group can draw."""
        free: Ints = self.catalogue - np.bincount(self.group, minlength=len(self.wanted))
        return free


def sample(positives: pl.DataFrame, pool: Pool, *, negatives: Negatives, seed: int) -> tuple[pl.DataFrame, float]:
    """Draw `negatives.per_positive` rows for each positive: its row with another app, label 0 and no position.

    Returns the negatives, and the sampling rate: negatives kept / negatives possible. A user who has used nearly
    everything gets as many as there are, over all of their rows. Equal input and seed give equal output.
    """
    draw, owner = _plan(positives, pool, negatives)
    rng = np.random.default_rng(seed)
    group, app = _drawn(draw, rng)
    rows_of = np.bincount(owner, minlength=len(draw.wanted))
    starts = np.cumsum(rows_of) - rows_of
    row = np.argsort(owner, kind="stable")[starts[group] + _spread(group, rows_of, rng)]
    drawn = positives[row].with_columns(pool.apps[app].alias("app_id"), pl.lit(0, pl.Int8).alias("label"))
    if "position" in drawn.columns:  # it was not shown, so it stood nowhere
        drawn = drawn.with_columns(pl.lit(None, drawn.schema["position"]).alias("position"))
    return drawn, _rate(len(group), draw, owner)


def rate(kept: int, positives: pl.DataFrame, pool: Pool, *, rule: NegativeRule) -> float:
    """Negatives kept / negatives possible: for each positive all of the catalogue that the rule may draw."""
    return _rate(kept, *_plan(positives, pool, Negatives(rule=rule)))


def _rate(kept: int, draw: _Draw, owner: Ints) -> float:
    possible = int(draw.free[owner].sum())
    return kept / possible if possible else 1.0


def _plan(positives: pl.DataFrame, pool: Pool, negatives: Negatives) -> tuple[_Draw, Ints]:
    """The draw of a rule, and the group (n,) of each positive: its user for `unused`, itself for `uniform`."""
    if negatives.rule is NegativeRule.UNIFORM:
        owner = np.arange(positives.height)
        taken = positives.select(pl.lit(pl.Series(owner)).alias("group"), "app_id")
    else:
        users = positives["user_id"].unique().sort()
        code = pl.DataFrame({"user_id": users, "group": np.arange(len(users))})
        owner = (
            positives.select("user_id").join(code, on="user_id", how="left", maintain_order="left")["group"].to_numpy()
        )
        taken = pool.used.join(code, on="user_id").select("group", "app_id")
    apps = pl.DataFrame({"app_id": pool.apps, "app": np.arange(len(pool.apps))})
    pairs = taken.join(apps, on="app_id").select("group", "app").unique().sort("group", "app")
    wanted = np.bincount(owner) * negatives.per_positive
    return _Draw(wanted, pairs["group"].to_numpy(), pairs["app"].to_numpy(), len(pool.apps)), owner


def _drawn(draw: _Draw, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """(M,) group, ascending, and (M,) app of every draw, in random order within a group."""
    wanted = np.minimum(draw.wanted, draw.free)
    many = 2 * wanted > draw.free
    pairs = np.concatenate(
        [_most(np.where(many, wanted, 0), draw.free, rng), _few(np.where(many, 0, wanted), draw.free, rng)], axis=1
    )
    pairs = pairs[:, rng.permutation(pairs.shape[1])]
    group, rank = pairs[:, np.argsort(pairs[0], kind="stable")]
    return group, _app_at(draw, group, rank)


def _spread(group: Ints, rows_of: Ints, rng: np.random.Generator) -> Ints:
    """(M,) which of its group's rows each draw goes to: as many to each, and what is left over at even distances.

    group: (M,) ascending; rows_of: (G,). What is left over begins anywhere, so that no time of a log gets more of it.
    """
    turn, drawn = np.arange(len(group)) - np.searchsorted(group, group), np.bincount(group, minlength=len(rows_of))
    left = drawn % np.maximum(rows_of, 1)
    rest = turn - (drawn - left)[group]
    apart = rows_of[group] / np.maximum(left, 1)[group]
    place = (apart * (rest + rng.random(len(rows_of))[group])).astype(np.int64).clip(max=rows_of[group] - 1)
    row: Ints = np.where(rest < 0, turn % rows_of[group], place)
    return row


def _most(wanted: Ints, free: Ints, rng: np.random.Generator) -> Ints:
    """(2, M) group and rank among its free apps, for groups that want most of them: shuffle all, keep the first."""
    group = np.repeat(np.arange(len(wanted)), np.where(wanted > 0, free, 0))
    rank = np.arange(len(group)) - np.searchsorted(group, group)
    order = np.lexsort((rng.random(len(group)), group))
    kept = rank < wanted[group]
    return np.stack([group[kept], rank[order][kept]])


def _few(wanted: Ints, free: Ints, rng: np.random.Generator) -> Ints:
    """(2, M) group and rank, for groups that want at most half: draw, drop what came twice, draw the lacking again."""
    width = int(free.max(initial=1))
    keys = np.empty(0, dtype=np.int64)
    lacking = wanted
    while lacking.any():
        group = np.repeat(np.arange(len(wanted)), lacking)
        keys = np.sort(np.concatenate([keys, group * width + rng.integers(0, free[group])]))
        keys = keys[np.diff(keys, prepend=-1) > 0]
        lacking = wanted - np.bincount(keys // width, minlength=len(wanted))
    return np.stack([keys // width, keys % width])


def _app_at(draw: _Draw, group: Ints, rank: Ints) -> Ints:
    """(M,) the app that is the rank-th free one of its group: rank plus the taken apps that lie before it."""
    width = draw.catalogue + 1
    first = np.searchsorted(draw.group, np.arange(len(draw.wanted)))
    free_before = draw.app - (np.arange(len(draw.app)) - first[draw.group])
    taken_before = np.searchsorted(draw.group * width + free_before, group * width + rank, side="right") - first[group]
    app: Ints = rank + taken_before
    return app
