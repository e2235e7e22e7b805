"""A log many times as long as another, trained in the same memory.

    python -m bench.train_memory [--rows N] [--times T]

Each log is written as a dataset folder and trained for an epoch in a process of its own, from the log to the weights,
with its rows in mapped files. Printed is the most memory that each process took for itself (RssAnon: what the kernel
can give to nobody else; mapped files are not in it) above what it took before it began.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import polars as pl

from model.data.dataset import PIECE, Dataset, Facts, read, write
from model.schema import FeatureSchema

APPS, ROWS_A_USER, SHOWN = 2_000, 20, 0.2
WIDE = [f"context_{place:02d}" for place in range(24)]
"""Further columns, so that a row takes as much as one of a real log does."""

LOOK_S = 0.01
SCHEMA = FeatureSchema.model_validate(
    {
        "fields": [
            {"name": "country", "source": "user", "kind": "categorical"},
            {"name": "age", "source": "user", "kind": "continuous"},
            {"name": "daytime", "source": "context", "kind": "categorical"},
            {"name": "battery", "source": "context", "kind": "continuous"},
            *({"name": name, "source": "context", "kind": "categorical"} for name in WIDE),
            {"name": "installed", "source": "history", "kind": "multi"},
            {"name": "app_id", "source": "app", "kind": "categorical"},
            {"name": "rating", "source": "app", "kind": "continuous"},
            {"name": "own_uses", "source": "pair", "kind": "continuous", "of": "uses"},
            {"name": "other_users", "source": "pair", "kind": "continuous", "of": "others"},
        ],
        "crosses": [
            {"fields": ["installed", "app_id"], "bits": 16},
            {"fields": ["country", "app_id"], "exact": True},
            {"fields": ["daytime", "country"], "bits": 8},
        ],
    }
)


@dataclass(frozen=True)
class Seen:
    """What one process took. rows: of its log; log_mib: of the log in memory; peak_mib: RssAnon above its start."""

    rows: int
    log_mib: float
    columns_mib: float
    peak_mib: float
    seconds: float


def make(folder: Path, rows: int, *, seed: int = 0) -> float:
    """Write a dataset of so many rows, a piece at a time; its size in memory, MiB."""
    rng, users = np.random.default_rng(seed), max(rows // ROWS_A_USER, 1)
    names = pl.Series("user_id", [f"user-{place:09d}" for place in range(users)])
    apps = pl.DataFrame(
        {
            "app_id": [f"com.example.app{place:05d}" for place in range(APPS)],
            "available": [True] * APPS,
            "countries": pl.Series([[]] * APPS, dtype=pl.List(pl.String)),
            "rating": rng.random(APPS),
        }
    )
    size, pieces = 0.0, folder.with_name(f"{folder.name}.pieces")
    pieces.mkdir(parents=True)
    for start in range(0, rows, PIECE):
        piece = _piece(rng, min(PIECE, rows - start), names=names, apps=apps["app_id"], start=start)
        size += piece.estimated_size("mb")
        piece.write_parquet(pieces / f"{start:012d}.parquet")
    few = pl.read_parquet(pieces / f"{0:012d}.parquet").head(0)
    nobody = pl.lit([], dtype=pl.List(pl.String)).alias("installed")
    people = names.to_frame().with_columns(nobody, country=pl.lit("de"), age=pl.lit(30.0))
    write(Dataset(SCHEMA, few, apps, people, Facts("bench", True, 1.0, "logged", None, {})), folder)
    pl.scan_parquet(pieces / "*.parquet").sink_parquet(folder / "examples.parquet", row_group_size=PIECE)
    for one in pieces.iterdir():
        one.unlink()
    pieces.rmdir()
    return size


def _piece(rng: np.random.Generator, count: int, *, names: pl.Series, apps: pl.Series, start: int) -> pl.DataFrame:
    """Rows in order of time: who is fond of an app's group uses it more."""
    user, app = rng.integers(len(names), size=count), (len(apps) * rng.random(count) ** 2).astype(np.int64)
    label = rng.random(count) < np.where(user % 8 == app % 8, 3 * SHOWN, SHOWN / 2)
    split = np.array([*["train"] * 8, "stop", "gate"])
    values = pl.Series([f"a value of the context {place}" for place in range(50)])
    return pl.DataFrame(
        {
            "user_id": names.gather(user), "app_id": apps.gather(app), "label": pl.Series(label).cast(pl.Int8),
            "split": split[rng.integers(10, size=count)],
            "at": pl.Series(np.arange(start, start + count) * 1_000_000 + 1_700_000_000_000_000).cast(
                pl.Datetime("us", "UTC")
            ),
            "country": np.array(["de", "fr", "at", "it"])[user % 4], "age": (user % 60) + 10.0,
            "daytime": np.array(["noon", "night", "morning"])[rng.integers(3, size=count)],
            "battery": rng.random(count),
            **{name: values.gather(rng.integers(50, size=count)) for name in WIDE},
        }
    )  # fmt: skip


def trained(folder: Path) -> Seen:
    """Train on a folder in a process of its own, and what it took."""
    told = subprocess.run(
        [sys.executable, "-m", "bench.train_memory", "--train", str(folder)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return Seen(**json.loads(told.splitlines()[-1]))


def train(folder: Path) -> None:
    """In the process of its own: train, and print what was seen."""
    from model.training import TrainConfig, Training, Workspace

    config = TrainConfig(
        params={"dim": 8, "hidden": (32,)}, batch_size=4096, epochs=1, shuffle_rows=1 << 19, recipe="adam"
    )
    place = folder.with_name(f"{folder.name}.training")
    look = Look()
    begun = monotonic()
    with look:
        data = read(folder)
        Training(config, data, None, Workspace(place, lambda: False)).run(lambda _: None)
    columns = sum(one.stat().st_size for one in place.rglob("*") if one.is_file()) / 2**20
    seen = Seen(data.count(), 0.0, columns, look.peak_mib, monotonic() - begun)
    print(json.dumps(vars(seen)))


class Look:
    """Looks at this process's RssAnon while it is entered. peak_mib: the most, above that at first."""

    def __init__(self) -> None:
        self.peak_mib = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._first = rss_anon_mib()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(LOOK_S):
            self.peak_mib = max(self.peak_mib, rss_anon_mib() - self._first)


def rss_anon_mib() -> float:
    """Memory that is this process's alone."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def main() -> None:
    """Both logs, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000, help="rows of the shorter log")
    parser.add_argument("--times", type=int, default=10, help="how many times as long the other is")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.train:
        train(asked.train)
        return
    with tempfile.TemporaryDirectory() as place:
        for times in (1, asked.times):
            folder = Path(place) / f"log-{times}"
            size = make(folder, asked.rows * times)
            seen = trained(folder)
            print(
                f"{seen.rows:>11,} rows: {size:8.0f} MiB in memory, {seen.columns_mib:8.0f} MiB of encoded columns; "
                f"peak {seen.peak_mib:6.0f} MiB above the start, {seen.seconds:6.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
