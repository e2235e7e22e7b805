"""A log that is several times as long takes hardly more memory to train on; each in a process of its own."""

from pathlib import Path

import pytest

from bench.train_memory import Cap, Refused, make, trained
from model.data.dataset import read


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    sizes = {rows: make(tmp_path / str(rows), rows, users=rows // 20) for rows in (60_000, 360_000)}

    short, long = (trained(tmp_path / str(rows)) for rows in sizes)

    assert (short.rows, long.rows) == (60_000, 360_000)
    assert long.columns_mib > 5 * short.columns_mib
    grown = sizes[360_000] - sizes[60_000]
    assert grown > 150
    assert long.peak_mib - short.peak_mib < grown / 3


def test_the_log_of_the_bench_is_a_dataset(tmp_path: Path) -> None:
    make(tmp_path / "log", 1_000, users=50)

    data = read(tmp_path / "log")

    assert data.count() == 1_000
    assert {split for (split,) in data.examples.select("split").unique().rows()} == {"train", "stop", "gate"}


def test_a_cap_is_in_force(tmp_path: Path) -> None:
    make(tmp_path / "log", 20_000, users=1_000)

    assert trained(tmp_path / "log", Cap(2_000)).rows == 20_000
    with pytest.raises(Refused, match="memory"):
        trained(tmp_path / "log", Cap(60))
