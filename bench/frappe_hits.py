"""Held-out apps among 100 on Frappe, through a running server: how often the app is among the ten answered.

    python -m bench.frappe_hits ../shared/data --url http://127.0.0.1:8011 [--rows 2000]

A test positive's app and 99 drawn by popularity^0.75 from apps its user never used, in random order, are ranked for the
row's user and context. The server's home knows the training part only (`appshelf import frappe`); test is read here.
Two rules without learning stand beside it: popularity alone, and the user's past pairs with popularity behind them.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import polars as pl

from model.data import frappe

CANDIDATES = 100
K = 10


@dataclass(frozen=True)
class Trial:
    """One test positive with its candidates, the held-out app among them."""

    user: str
    context: Mapping[str, str]
    held_out: str
    candidates: Sequence[str]


@dataclass(frozen=True)
class Log:
    """What the trials are drawn from. apps: (A,) ids; weight: (A,) popularity^0.75; used: every app of each user."""

    apps: npt.NDArray[np.str_]
    weight: npt.NDArray[np.float64]
    popularity: Mapping[str, int]
    pairs: frozenset[tuple[str, str]]
    used: Mapping[str, frozenset[str]]


def positives(data: Path, part: str) -> pl.DataFrame:
    """user, app_id and context of the positive rows of one part of Frappe_x1, by the names the home knows."""
    rows = pl.read_parquet(data / "frappe_x1" / f"{part}.parquet").filter(pl.col("label") == 1)
    texts = pl.col("user", "item", *frappe.CONTEXT).cast(pl.String)
    return rows.select(texts).join(frappe.app_ids(data), on="item", how="left", maintain_order="left")


def read_log(data: Path) -> Log:
    """Popularity and past pairs from the training part; what a user ever used from all three."""
    train = positives(data, "train_rebuilt")
    every = pl.concat([train, positives(data, "valid"), positives(data, "test")])
    popularity = Counter(train["app_id"].to_list())
    apps = np.array(sorted(popularity))
    used = every.group_by("user").agg("app_id")
    return Log(
        apps,
        np.array([popularity[app] ** 0.75 for app in apps]),
        popularity,
        frozenset(zip(train["user"].to_list(), train["app_id"].to_list(), strict=True)),
        {user: frozenset(ids) for user, ids in used.iter_rows()},
    )


def trials(data: Path, log: Log, *, count: int, seed: int) -> Iterator[Trial]:
    """`count` test positives drawn without replacement, each with its 99 others."""
    rng = np.random.default_rng(seed)
    rows = positives(data, "test")
    for row in rows.sample(min(count, len(rows)), seed=seed).iter_rows(named=True):
        free = ~np.isin(log.apps, list(log.used[row["user"]]))
        weight = np.where(free, log.weight, 0.0)
        others = rng.choice(log.apps, CANDIDATES - 1, replace=False, p=weight / weight.sum())
        candidates = rng.permutation([row["app_id"], *others.tolist()]).tolist()
        yield Trial(row["user"], {name: row[name] for name in frappe.CONTEXT}, row["app_id"], candidates)


def rank_of(held_out: str, scores: Mapping[str, tuple[int, ...]]) -> int:
    """The held-out app's place by a rule, from 1; apps of equal score share the middle of their places."""
    mine = scores[held_out]
    better = sum(score > mine for score in scores.values())
    equal = sum(score == mine for score in scores.values())
    return better + (equal + 1) // 2


def hits(trial: Trial, log: Log, answer: Mapping[str, Any]) -> dict[str, bool]:
    """Whether each contestant has the held-out app among its ten."""
    popular = {app: (log.popularity.get(app, 0),) for app in trial.candidates}
    known = {app: (int((trial.user, app) in log.pairs), *popular[app]) for app in trial.candidates}
    return {
        "appshelf": trial.held_out in {item["app_id"] for item in answer["items"]},
        "popularity": rank_of(trial.held_out, popular) <= K,
        "past pairs": rank_of(trial.held_out, known) <= K,
    }


def main() -> None:
    """Print the share of hits of each contestant; write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    log, counts, total = read_log(arguments.data), Counter[str](), 0
    with httpx.Client(base_url=arguments.url, timeout=60) as client:
        for trial in trials(arguments.data, log, count=arguments.rows, seed=arguments.seed):
            body = {
                "user": {"id": trial.user},
                "context": trial.context,
                "candidates": trial.candidates,
                "k": K,
            }
            answer = client.post("/rank", json=body).raise_for_status().json()
            counts.update(name for name, hit in hits(trial, log, answer).items() if hit)
            total += 1
    shares = {name: counts[name] / total for name in ("appshelf", "popularity", "past pairs")}
    print(f"held-out app among {K} of {CANDIDATES}, {total} test positives")
    for name, share in shares.items():
        print(f"{name:12} {100 * share:.1f} in 100")
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": total, **shares}, indent=1))


if __name__ == "__main__":
    main()
