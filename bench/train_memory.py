"""A log many times as large as the memory that its training may take.

    python -m bench.train_memory [--cap-mib 640] [--times 10] [--cgroup FOLDER]

A log of the cap's size, one so many times as large of the same users, and one as large of so many times the users are
written as dataset folders, and each is trained for an epoch in a process of its own, from the log to the weights, with
its rows in mapped files. A log's size is that of its rows in memory, which is what a training that loads them would
take; the encoded columns, which are mapped, are printed beside.

The kernel holds the cap. Without --cgroup it is RLIMIT_DATA, set once Python and its libraries are loaded: whatever the
process may write to and shares with nobody, from then on, touched or not. With --cgroup, a folder of cgroup v2 in which
this process may make groups with a memory controller, it is memory.max of a group without swap: all of the process and
the pages of its files, which the kernel takes back where it needs them. Printed is also the most memory that each
process took for itself (RssAnon) above its start. At last the small log is trained under an eighth of the cap; the
run fails where that is not refused for want of memory, and where one of the others is.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
BYTES_A_ROW = 660
"""What a row of the log takes in memory, or a little less."""

GIVEN_BACK = {"_RJEM_MALLOC_CONF": "retain:false"}
"""polars' allocator keeps addresses that it no longer uses, which are no memory and which RLIMIT_DATA counts."""

TOO_LITTLE = 8
"""Under this part of the cap no log is trained."""

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


def make(folder: Path, rows: int, *, users: int, seed: int = 0) -> float:
    """Write a dataset of so many rows, a piece at a time; its size in memory, MiB."""
    rng, names = np.random.default_rng(seed), pl.Series("user_id", [f"user-{place:09d}" for place in range(users)])
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


@dataclass(frozen=True)
class Cap:
    """The most memory that a training may take. group: the cgroup that holds it; without, RLIMIT_DATA does."""

    mib: int
    group: Path | None = None

    @contextmanager
    def group_made(self) -> Iterator[None]:
        """The cgroup is there, with the cap in force."""
        if self.group is None:
            yield
            return
        self.group.mkdir()
        try:
            (self.group / "memory.max").write_text(str(self.mib << 20), encoding="ascii")
            (self.group / "memory.swap.max").write_text("0", encoding="ascii")
            yield
        finally:
            self.group.rmdir()

    def hold(self) -> None:
        """Put this process under it."""
        if self.group is not None:
            (self.group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        else:
            most = (status_kib("VmData") << 10) + (self.mib << 20)
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))


class Refused(RuntimeError):
    """A training was ended for want of memory; the message is what it said of it."""


def trained(folder: Path, cap: Cap | None = None) -> Seen:
    """Train on a folder in a process of its own, and what it took. Raises Refused where the cap was too low."""
    command = [sys.executable, "-m", "bench.train_memory", "--train", str(folder)]
    command += ["--cap-mib", str(cap.mib if cap else 0)]
    command += ["--cgroup", str(cap.group)] if cap and cap.group else []
    with (cap or Cap(0)).group_made():
        ran = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | GIVEN_BACK)
    if ran.returncode:
        told = [line.strip() for line in ran.stderr.splitlines() if "memory" in line.lower()]
        if told or ran.returncode == -signal.SIGKILL:
            raise Refused(told[0] if told else "killed")
        raise RuntimeError(f"training on {folder} ended with {ran.returncode}, not for want of memory:\n{ran.stderr}")
    return Seen(**json.loads(ran.stdout.splitlines()[-1]))


def train(folder: Path, cap: Cap) -> None:
    """In the process of its own: train, and print what was seen."""
    from model.training import TrainConfig, Training, Workspace

    config = TrainConfig(
        params={"dim": 8, "hidden": (32,)}, batch_size=4096, epochs=1, shuffle_rows=1 << 19, recipe="adam"
    )
    place = beside(folder)
    if cap.mib:
        cap.hold()
    look = Look()
    begun = monotonic()
    with look:
        data = read(folder)
        Training(config, data, None, Workspace(place, lambda: False)).run(lambda _: None)
    columns = sum(one.stat().st_size for one in place.rglob("*") if one.is_file()) / 2**20
    seen = Seen(data.count(), 0.0, columns, look.peak_mib, monotonic() - begun)
    print(json.dumps(vars(seen)))


def beside(folder: Path) -> Path:
    """Where the training on a folder keeps its rows."""
    return folder.with_name(f"{folder.name}.training")


class Look:
    """Looks at this process's RssAnon while it is entered. peak_mib: the most, above that at first."""

    def __init__(self) -> None:
        self.peak_mib = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._first = status_kib("RssAnon")
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(LOOK_S):
            self.peak_mib = max(self.peak_mib, (status_kib("RssAnon") - self._first) / 1024)


def status_kib(name: str) -> int:
    """From /proc/self/status: RssAnon is the memory that is this process's alone, VmData what RLIMIT_DATA counts."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split(f"{name}:")[1].split()[0])


def measure(cap: Cap, times: int, *, place: Path) -> None:
    """All logs under the cap, and the small one under a part of it that is too little. Raises Refused."""
    small, large, wide = (place / name for name in ("log", "longer", "of-more"))
    rows = (cap.mib << 20) // BYTES_A_ROW
    users = rows // ROWS_A_USER
    for folder, count, people in (
        (large, rows * times, users),
        (wide, rows * times, users * times),
        (small, rows, users),
    ):
        size = make(folder, count, users=people)
        seen = trained(folder, cap)
        print(
            f"{seen.rows:>11,} rows of {people:>8,} users: {size:6.0f} MiB in memory, {size / cap.mib:5.1f} times the "
            f"cap; trained under {cap.mib} MiB, peak {seen.peak_mib:6.0f} MiB above the start; "
            f"{seen.columns_mib:6.0f} MiB of encoded columns, {seen.seconds:6.0f} s",
            flush=True,
        )
        if folder != small:
            shutil.rmtree(folder)
            shutil.rmtree(beside(folder))
    try:
        trained(small, Cap(cap.mib // TOO_LITTLE, cap.group))
    except Refused as error:
        print(f"under {cap.mib // TOO_LITTLE} MiB the small one is refused: {error}")
    else:
        raise SystemExit(f"a cap of {cap.mib // TOO_LITTLE} MiB did not end a training: no cap was in force")


def main() -> None:
    """All trainings, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cap-mib", type=int, default=640, help="the most memory, MiB")
    parser.add_argument("--times", type=int, default=10, help="how many times as large as the cap the large log is")
    parser.add_argument("--cgroup", type=Path, help="folder of cgroup v2 to make a group in; without, RLIMIT_DATA")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.train:
        train(asked.train, Cap(asked.cap_mib, asked.cgroup))
        return
    group = asked.cgroup / f"train-memory-{os.getpid()}" if asked.cgroup else None
    with tempfile.TemporaryDirectory() as place:
        measure(Cap(asked.cap_mib, group), asked.times, place=Path(place))


if __name__ == "__main__":
    main()
