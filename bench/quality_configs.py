"""What is trained for each row of the quality table: a family, its settings, and what was published.

The settings begin from those of BARS (reczoo/BARS, Frappe_x1: embeddings of 10, three layers of 400, Adam 1e-3, batches
of 4096, the rate times .1 when valid AUC does not improve) and were changed on valid only. FuxiCTR adds
`regularizer * |table|^2 / 2` to a batch's mean loss, which is what `embedding_l2` means here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.frappe_data import CONTEXT, schema_of
from model.schema import CrossSpec, FeatureSchema
from model.training import TrainConfig

TOWER: Mapping[str, Any] = {"dim": 20, "hidden": (200, 200, 200)}
SMALL: Mapping[str, Any] = {**TOWER, "dim": 10}


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    published: as a paper or BARS printed it; least: the mean test AUC to reach, None where none was set; history: the
    fields under which earlier uses are counted, None for no history at all.
    """

    name: str
    config: TrainConfig
    published: str
    least: float | None
    crosses: tuple[CrossSpec, ...] = ()
    history: tuple[str, ...] | None = None

    @property
    def schema(self) -> FeatureSchema:
        """The fields and crosses it learns from."""
        return schema_of(self.crosses, history=self.history)


def _adam(architecture: str, params: Mapping[str, Any], **options: float) -> TrainConfig:
    """Adam as BARS runs it. options: of the recipe."""
    return TrainConfig(
        architecture=architecture,
        params=dict(params),
        recipe="adam",
        recipe_options=dict(options),
        batch_size=4096,
        epochs=100,
    )


USER_APP = (CrossSpec(fields=("user_id", "app_id"), exact=True),)

PLAIN = (
    Setting("lr", _adam("lr", {}, rate=5e-3, wide_l2=1e-5), published=".9356", least=0.9354),
    Setting(
        "fm", _adam("fm", {"dim": 10}, rate=3e-3, embedding_l2=5e-6, wide_l2=5e-6), published=".9671", least=0.9680
    ),
    Setting(
        "ffm", _adam("ffm", {"dim": 10}, rate=3e-3, embedding_l2=1e-6, wide_l2=1e-6), published=".9786", least=0.9786
    ),
    Setting("fnn", _adam("fnn", {**TOWER, "dropout": 0.5}, embedding_l2=0.02), published="-", least=0.9820),
    Setting(
        "pnn, inner",
        _adam("pnn", {**TOWER, "product": "inner", "dropout": 0.2}, embedding_l2=0.05),
        published=".9841",
        least=0.9830,
    ),
    Setting(
        "pnn, outer",
        _adam("pnn", {**TOWER, "product": "outer", "dropout": 0.3}, embedding_l2=0.05),
        published="-",
        least=0.9820,
    ),
    Setting(
        "pnn, both",
        _adam("pnn", {**TOWER, "product": "both", "dropout": 0.3}, embedding_l2=0.05),
        published="-",
        least=0.9820,
    ),
    Setting(
        "wide_deep",
        _adam("wide_deep", {**TOWER, "dropout": 0.2}, embedding_l2=0.05, wide_l2=1e-5),
        published=".98307 (mean of 5)",
        least=0.9838,
        crosses=USER_APP,
    ),
    Setting(
        "deepfm",
        _adam("deepfm", {**TOWER, "dropout": 0.2}, embedding_l2=0.05, wide_l2=1e-5),
        published=".98395 (mean of 5)",
        least=0.9839,
        crosses=USER_APP,
    ),
    Setting(
        "dcn_v2",
        _adam("dcn_v2", {**TOWER, "dropout": 0.4}, embedding_l2=0.05),
        published=".98382 (mean of 5)",
        least=0.9820,
    ),
    Setting(
        "deep_crossing",
        _adam("deep_crossing", {**TOWER, "dropout": 0.4}, embedding_l2=0.05),
        published="-",
        least=0.9820,
    ),
)
WITHOUT_COST = tuple(name for name in CONTEXT if name != "cost")
WITH_HISTORY = (
    Setting(
        "wide_deep + history",
        _adam("wide_deep", {**SMALL, "dropout": 0.5}, embedding_l2=0.1, wide_l2=1e-3),
        published="-",
        least=0.9920,
        history=CONTEXT,
    ),
    Setting(
        "deepfm + history",
        _adam("deepfm", {**SMALL, "dropout": 0.5}, embedding_l2=0.1, wide_l2=1e-3),
        published="-",
        least=0.9920,
        history=CONTEXT,
    ),
    Setting(
        "wide_deep + history, paper recipe",
        TrainConfig(params=SMALL, recipe_options={"rate": 0.005}, batch_size=1024, epochs=30),
        published="-",
        least=0.9915,
        history=CONTEXT,
    ),
    Setting(
        "wide_deep + history, not by cost",
        _adam("wide_deep", {**SMALL, "dropout": 0.5}, embedding_l2=0.1, wide_l2=1e-3),
        published="-",
        least=None,
        history=WITHOUT_COST,
    ),
    Setting(
        "deepfm + history, not by cost",
        _adam("deepfm", {**SMALL, "dropout": 0.5}, embedding_l2=0.1, wide_l2=1e-3),
        published="-",
        least=None,
        history=WITHOUT_COST,
    ),
)

SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in (*PLAIN, *WITH_HISTORY)}
