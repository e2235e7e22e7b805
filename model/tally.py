"""AUC and log loss of rows that are taken in piece by piece: exact, at four bytes a row."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch import Tensor

from model.metrics import MetricUndefined, log_loss

Ids = npt.NDArray[np.int64]

AT_ONCE = 1 << 18
BIN_COUNT = 20


class Tally:
    """What the labels and probabilities of `rows` rows come to.

    A row is one number: the bits of its probability, which as a float32 from 0 to 1 sorts as an integer does and leaves
    two bits free, then its label. They are sorted where they lie, and ties are met side by side, negatives first.

    rows: as many as there is room for; not_finite: how many probabilities were not; histogram: (BIN_COUNT,) of the
    others, in equal bins of [0, 1].
    """

    def __init__(self, rows: int) -> None:
        self._keys = np.empty(rows, dtype=np.uint32)
        self.rows, self._taken, self.not_finite = rows, 0, 0
        self._loss = 0.0
        self.histogram = np.zeros(BIN_COUNT, dtype=np.int64)

    def take(self, label: Tensor, probability: Tensor) -> None:
        """Add rows: label (R,) in {0, 1}, probability (R,) float32."""
        finite = probability.isfinite()
        label, probability = label[finite], probability[finite]
        self.not_finite += len(finite) - len(label)
        if not len(label):
            return
        scores, positive = np.ascontiguousarray(probability.numpy(), dtype=np.float32), label.numpy() > 0
        self._keys[self._taken : self._taken + len(scores)] = (scores.view(np.uint32) << 1) | positive
        self._taken += len(scores)
        self._loss += log_loss(positive, scores) * len(scores)
        self.histogram += np.histogram(scores, bins=BIN_COUNT, range=(0.0, 1.0))[0]

    def log_loss(self) -> float:
        """See `metrics.log_loss`. Raises MetricUndefined without a row."""
        if not self._taken:
            raise MetricUndefined("log loss of 0 rows")
        return self._loss / self._taken

    def auc(self) -> float:
        """See `metrics.auc`. Raises MetricUndefined unless both classes are there."""
        keys = self._keys[: self._taken]
        keys.sort()
        negatives = below = tied = 0
        for block in _blocks(keys):
            positive = (block & 1).astype(np.int64)
            before = negatives + np.cumsum(1 - positive)
            below += int(before @ positive)
            negatives = int(before[-1])
        for positive_count, negative_count in _ties(keys):
            tied += int(positive_count @ negative_count)
        positives = len(keys) - negatives
        if not positives or not negatives:
            raise MetricUndefined(f"AUC of {positives} positives and {negatives} negatives")
        return (2 * below - tied) / (2 * positives * negatives)


def _blocks(keys: npt.NDArray[np.uint32]) -> Iterator[npt.NDArray[np.uint32]]:
    """The keys AT_ONCE at a time."""
    return (keys[start : start + AT_ONCE] for start in range(0, len(keys), AT_ONCE))


def _ties(keys: npt.NDArray[np.uint32]) -> Iterator[tuple[Ids, Ids]]:
    """How many positives and negatives have each probability, of sorted keys; one run lies over several blocks."""
    last, open_positives, open_negatives = None, 0, 0
    for block in _blocks(keys):
        scores, positive = block >> 1, (block & 1).astype(np.int64)
        starts = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))
        positives, negatives = np.add.reduceat(positive, starts), np.add.reduceat(1 - positive, starts)
        if scores[0] == last:
            positives[0] += open_positives
            negatives[0] += open_negatives
        elif last is not None:
            yield np.array([open_positives]), np.array([open_negatives])
        yield positives[:-1], negatives[:-1]
        last, open_positives, open_negatives = scores[-1], int(positives[-1]), int(negatives[-1])
    yield np.array([open_positives]), np.array([open_negatives])
