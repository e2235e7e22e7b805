"""What DeepFM claims (Guo et al. 2017): factorisation finds second-order effects that no hand-made cross names."""

from dataclasses import replace

import pytest

from model.data.dataset import Dataset
from model.data.examples import encode, rows_of
from model.data.synthetic import SyntheticConfig, dataset
from model.metrics import auc
from model.training import TrainConfig, probabilities, train

STORE = SyntheticConfig(
    users=400, apps=60, days=10, impressions=16_000, head=20, crossed=0.0, low_rank=3.0, popularity=0.3, drift=0.0
)
"""Installs follow the product of a taste and an app's vector, both sums over fields, and next to nothing else."""


@pytest.fixture(scope="module")
def store() -> Dataset:
    """The store without a cross in its schema."""
    made, _ = dataset(STORE)
    return replace(made, schema=made.schema.model_copy(update={"crosses": ()}))


def gate_auc(store: Dataset, architecture: str, **params: object) -> float:
    config = TrainConfig(
        architecture=architecture,
        params=params,
        recipe="adam",
        recipe_options={"rate": 1e-2},
        batch_size=512,
        epochs=5,
        precision="float32",
    )
    result = train(config, store, progress=lambda _: None)
    rows = rows_of(store, "gate")
    return auc(rows["label"].to_numpy(), probabilities(result.net, encode(result.transform, store, rows)))


def test_fm_and_deepfm_find_what_a_wide_side_without_crosses_does_not(store: Dataset) -> None:
    wide = gate_auc(store, "wide_deep", deep=False)
    assert gate_auc(store, "lr") == pytest.approx(wide, abs=0.01)
    assert gate_auc(store, "fm", dim=8) > wide + 0.1
    assert gate_auc(store, "deepfm", dim=8, hidden=(16,)) > wide + 0.1
