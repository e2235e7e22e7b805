"""How serving is timed: as a server scores, in turns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from model.bundle import load
from model.data.dataset import read
from model.fast_scorer import Precision
from model.scorer import Scorer
from service.comparing.course import timed_apart
from service.comparing.latency import Entrant, Terms, entrant, in_turns, measured
from tests.service.store_front import LIVE, PASSED


def test_contestants_are_called_in_turns_after_a_few_calls_to_warm_up() -> None:
    called: list[str] = []
    now = iter(float(tick) for tick in range(1000))

    def one(name: str) -> Entrant:
        return Entrant(Precision.EXACT, 200, 5000, lambda turn: called.append(f"{name}{turn}"))

    served = in_turns({"a": one("a"), "b": one("b")}, 3, clock=lambda: next(now))
    assert called[-6:] == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert served["a"].p50_ms == served["b"].p99_ms == 1000.0
    assert served["a"].calls == 3


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_a_call_gives_the_ten_that_the_plain_network_would(home: Path, precision: str) -> None:
    dataset, folder = read(home / "data"), home / "bundles" / LIVE
    found = entrant(folder, dataset, precision)  # type: ignore[arg-type]  # one of the two
    assert (found.precision, found.candidates, found.apps) == (precision, 30, 30)
    ranked = found.call(0)
    assert isinstance(ranked, tuple)
    scores = [item.score for item in ranked]
    assert len(scores) == 10
    assert scores == sorted(scores, reverse=True)
    assert Scorer.of(load(folder)).version == LIVE


def test_each_bundle_is_measured_and_a_damaged_one_left_out(home: Path) -> None:
    (home / "bundles" / PASSED / "weights.safetensors").write_bytes(b"")
    bundles = {"sound": home / "bundles" / LIVE, "damaged": home / "bundles" / PASSED}
    found = measured(bundles, read(home / "data"), Terms("auto", 1, 5))
    assert set(found.served) == {"sound"}
    assert 0 < found.served["sound"].p50_ms <= found.served["sound"].p99_ms < np.inf
    assert "weights.safetensors" in found.left_out["damaged"]


def test_a_catalogue_without_an_available_app_cannot_be_served(home: Path) -> None:
    dataset = read(home / "data")
    shut = replace(dataset, apps=dataset.apps.with_columns(available=pl.lit(False)), examples=dataset.examples)
    found = measured({"a": home / "bundles" / LIVE}, shut, Terms("auto", 1, 5))
    assert found.served == {}
    assert "no app that is available" in found.left_out["a"]


def test_why_a_contestant_was_not_timed_is_said(home: Path) -> None:
    (home / "bundles" / PASSED / "weights.safetensors").write_bytes(b"")
    bundles, said = {"sound": home / "bundles" / LIVE, "damaged": home / "bundles" / PASSED}, list[str]()
    found = timed_apart(home / "data", Terms("auto", 1, 5), said.append, bundles)
    assert set(found) == {"sound"}
    assert [line.partition(":")[0] for line in said] == ["damaged was not timed"]
