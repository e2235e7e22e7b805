"""A tally taken in piece by piece against the metrics of all rows at once."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from model import tally as module
from model.metrics import MetricUndefined, auc, log_loss
from model.tally import BIN_COUNT, Tally

KINDS: Mapping[str, Callable[[np.random.Generator, int], npt.NDArray[np.generic]]] = {
    "all different": lambda rng, count: rng.random(count),
    "many ties": lambda rng, count: rng.integers(0, 9, count) / 8,
    "two values": lambda rng, count: rng.integers(0, 2, count),
    "one value": lambda _, count: np.full(count, 0.25),
    "at the ends": lambda rng, count: rng.choice([0.0, 1e-45, 1e-38, 1 - 2**-24, 1.0], count),
}


def rows(kind: str, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Labels and probabilities, float32."""
    rng = np.random.default_rng(seed)
    score = torch.from_numpy(np.asarray(KINDS[kind](rng, count), dtype=np.float32))
    return torch.from_numpy((rng.random(count) < 0.3).astype(np.float32)), score


def taken(label: Tensor, score: Tensor, *, at_once: int) -> Tally:
    tally = Tally(len(label))
    for labels, scores in zip(torch.split(label, at_once), torch.split(score, at_once), strict=True):
        tally.take(labels, scores)
    return tally


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [1, 7, 1 << 18])
def test_auc_log_loss_and_histogram_are_those_of_all_rows_at_once(
    kind: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", block)
    label, score = rows(kind, 500)

    tally = taken(label, score, at_once=64)

    assert tally.auc() == pytest.approx(auc(label, score), abs=1e-14)
    assert tally.log_loss() == pytest.approx(log_loss(label, score), rel=1e-12)
    assert tally.histogram.tolist() == np.histogram(score.numpy(), bins=BIN_COUNT, range=(0, 1))[0].tolist()
    assert tally.not_finite == 0


def test_the_order_in_which_rows_come_makes_no_difference_to_the_auc() -> None:
    label, score = rows("many ties", 300)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))

    assert taken(label[order], score[order], at_once=50).auc() == taken(label, score, at_once=11).auc()


def test_what_is_not_finite_is_counted_and_left_out() -> None:
    label, score = rows("all different", 100)
    spoiled = torch.cat([score, torch.tensor([torch.nan, torch.inf, -torch.inf])])

    tally = taken(torch.cat([label, torch.ones(3)]), spoiled, at_once=40)

    assert tally.not_finite == 3
    assert tally.auc() == pytest.approx(auc(label, score))
    assert tally.log_loss() == pytest.approx(log_loss(label, score))


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_an_auc_of_one_class_is_undefined(label: float) -> None:
    tally = taken(torch.full((4,), label), torch.rand(4), at_once=4)

    with pytest.raises(MetricUndefined, match=r"AUC of [04] positives and [04] negatives"):
        tally.auc()


def test_a_tally_of_nothing_has_no_value() -> None:
    with pytest.raises(MetricUndefined):
        Tally(0).log_loss()
    with pytest.raises(MetricUndefined):
        Tally(3).auc()


def test_more_rows_after_a_first_look_count_too() -> None:
    label, score = rows("many ties", 200)
    tally = Tally(200)
    tally.take(label[:120], score[:120])
    tally.auc()
    tally.take(label[120:], score[120:])

    assert tally.auc() == pytest.approx(auc(label, score), abs=1e-14)
