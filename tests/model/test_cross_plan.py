import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.batch import Side
from model.cross_plan import CrossPlan, EvenBag, KeyShare, met, request_sided, two_sided
from model.query import Query
from model.request_fields import raw_values, request_fields
from model.schema import CrossSpec
from model.scorer import Scorer
from tests.model.encoders import EVERYTHING, apps, queries, schema_of, schemas, scorer_of
from tests.model.nets import ids_of


def app_keys(scorer: Scorer, count: int) -> torch.Tensor:
    return scorer.app_side.columns(apps(3, count))["keys"]


def plain_rows(scorer: Scorer, query: Query, theirs: torch.Tensor) -> list[list[int]]:
    """What `Crosses.between` gives each candidate, the bags of all crosses together."""
    empty, each = torch.empty((len(theirs), 0)), torch.arange(len(theirs))
    keys = tuple(EvenBag(theirs[:, place].contiguous(), each) for place in range(theirs.shape[1]))
    bags = scorer.transform.crosses.between(scorer.request_side(query), Side(empty.long(), empty, keys=keys))
    return [sorted(one for bag in bags for one in ids_of(bag, row)) for row in range(len(theirs))]


def share_of(plan: CrossPlan, scorer: Scorer, query: Query) -> KeyShare:
    fields = request_fields(scorer.transform)
    values = raw_values(query, fields)
    return KeyShare.total([plan.share({one: one.code(values)}) for one in fields])


@settings(deadline=None)
@given(st.data())
def test_all_crosses_at_once_are_those_of_the_plain_transform(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    scorer, asked = scorer_of(schema), data.draw(st.lists(queries(schema), min_size=1, max_size=3))
    counts = [data.draw(st.integers(0, 4)) for _ in asked]
    plan = CrossPlan(scorer.transform.crosses, two_sided(scorer.transform.crosses))
    theirs = app_keys(scorer, sum(counts))

    bag = met([plan.keys(share_of(plan, scorer, query)) for query in asked], theirs.clone(), counts)

    expected = [plain_rows(scorer, *one) for one in zip(asked, torch.split_with_sizes(theirs, counts), strict=True)]
    assert [sorted(ids_of(bag, row)) for row in range(sum(counts))] == [row for rows in expected for row in rows]


@settings(deadline=None)
@given(queries(EVERYTHING))
def test_crosses_among_a_requests_own_fields_are_those_of_the_plain_transform(query: Query) -> None:
    scorer = scorer_of(EVERYTHING)
    plan = CrossPlan(scorer.transform.crosses, request_sided(scorer.transform.crosses))

    rows = plan.rows(share_of(plan, scorer, query))

    expected = [bag.values for bag in scorer.request_side(query).crosses]
    assert rows.tolist() == torch.cat(expected).tolist()


def test_crosses_of_single_values_make_bags_of_equal_length_and_no_others_do() -> None:
    single = scorer_of(schema_of(["user_id", "app_id"], [CrossSpec(fields=("user_id", "app_id"))]))
    multi = scorer_of(schema_of(["installed", "app_id"], [CrossSpec(fields=("installed", "app_id"))]))
    asked = [Query("v0", history={"v1": 1}), Query("v1", history={"v1": 1, "v2": 1})]

    kinds = []
    for scorer in (single, multi):
        plan = CrossPlan(scorer.transform.crosses, two_sided(scorer.transform.crosses))
        keys = [plan.keys(share_of(plan, scorer, query)) for query in asked]
        kinds.append(isinstance(met(keys, app_keys(scorer, 4), [2, 2]), EvenBag))

    assert kinds == [True, False]


def test_a_net_without_crosses_has_no_rows() -> None:
    scorer = scorer_of(schema_of(["user_id", "app_id"], []))
    plan = CrossPlan(scorer.transform.crosses, two_sided(scorer.transform.crosses))

    bag = met([plan.keys(share_of(plan, scorer, Query("v0")))], torch.empty((3, 0), dtype=torch.int64), [3])

    assert bag.values.numel() == 0
    assert len(bag.offsets) == 3


def test_bags_of_a_matrix_are_its_rows() -> None:
    bag = EvenBag.of(torch.arange(12).view(4, 3))

    assert [ids_of(bag, row) for row in range(4)] == np.arange(12).reshape(4, 3).tolist()
