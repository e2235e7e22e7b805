import numpy as np
import pytest

from bench.claims import ALL, FIRST, NETS, SECOND_ORDER, Found, config_of, report, store
from model.data.examples import rows_of
from model.data.synthetic import SyntheticConfig, generate
from model.metrics import auc
from model.zoo import check_params

STORE = SyntheticConfig.small().model_copy(update={"crossed": 0.0, "low_rank": 2.0})


def test_the_store_has_second_order_effects_and_no_cross_that_names_them() -> None:
    made = store(STORE)
    label = rows_of(made.made, "gate")["label"].to_numpy()
    assert made.made.schema.crosses == ()
    assert generate(STORE).terms["crossed"].abs().sum() == 0
    assert auc(label, made.bounds[ALL]) > auc(label, made.bounds[FIRST]) + 0.1


def test_without_its_second_order_effects_the_truth_is_itself_where_there_are_none() -> None:
    flat = STORE.model_copy(update={name: 0.0 for name in SECOND_ORDER})
    made = store(flat)
    np.testing.assert_allclose(made.bounds[FIRST], made.bounds[ALL])


def test_a_share_lies_between_the_two_bounds() -> None:
    found = [Found(FIRST, 1, 0.6, 0.5), Found(ALL, 1, 0.8, 0.4), Found("fm", 1, 0.75, 0.45)]
    lines = {line.split(" | ")[0].strip("| "): line for line in report(found).splitlines()}
    assert "| 75% |" in lines["fm"]
    assert "| 0% |" in lines[FIRST]
    assert "| 100% |" in lines[ALL]


@pytest.mark.parametrize("name", NETS)
def test_every_net_is_one_that_the_zoo_takes(name: str) -> None:
    config = config_of(name, seed=1)
    check_params(config.architecture, config.params)
