import numpy as np
import polars as pl
import pytest
import torch

from model.batch import Bag
from model.data.dataset import Dataset
from model.data.examples import encode, rows_of
from model.fitting import fit
from model.query import NULL
from model.schema import PairStatistic
from model.transforms import Transform
from model.vocabulary import MISSING_ID, NULL_ID, UNKNOWN_ID, Floats
from tests.model.test_batch import lists_of
from tests.model.worlds import APPS, SCHEMA, dataset

ROWS = [
    {"user_id": "u", "app_id": "a", "label": 1, "age": 20.0, "daytime": "noon"},
    {"user_id": "u", "app_id": "b", "label": 1, "age": 20.0, "daytime": "night"},
    {"user_id": "v", "app_id": "a", "label": 0, "age": 60.0, "daytime": NULL},
    {"user_id": "v", "app_id": "a", "label": 0, "age": None, "daytime": None},
    {"user_id": "u", "app_id": "a", "label": 1, "age": 40.0, "daytime": "noon"},
    {"user_id": "w", "app_id": "d", "label": 1, "age": 40.0, "daytime": "dusk", "split": "gate"},
]


def statistics(count: int) -> dict[str, Floats]:
    return {PairStatistic.USES: np.arange(float(count)), PairStatistic.OTHERS: np.arange(float(count))[::-1]}


@pytest.fixture(scope="module")
def transform() -> Transform:
    return fit(SCHEMA, dataset(ROWS))


def test_vocabularies_come_from_the_training_split_alone(transform: Transform) -> None:
    assert set(transform.vocabularies["user_id"].values) == {"u", "v"}
    assert set(transform.vocabularies["app_id"].values) == {"a", "b"}
    assert set(transform.vocabularies["daytime"].values) == {"noon", "night"}
    assert set(transform.vocabularies["installed"].values) == {"a", "b"}


def test_special_ids_are_counted_as_training_saw_them(transform: Transform) -> None:
    counts = transform.vocabularies["daytime"].counts

    assert counts[[UNKNOWN_ID, MISSING_ID, NULL_ID]].tolist() == [0, 1, 1]


def test_lists_and_frames_encode_alike(transform: Transform) -> None:
    data = dataset(ROWS)
    columns = {name: data.examples[name] for name in data.examples.columns}
    installed = [["a"], [], ["b", "a"], ["?"], ["a", "a"], []]
    framed = transform.requests({**columns, "installed": pl.Series(installed, dtype=pl.List(pl.String))}, 6)
    listed = transform.requests({**{n: c.to_list() for n, c in columns.items()}, "installed": installed}, 6)

    assert torch.equal(framed.ids, listed.ids)
    assert torch.equal(framed.dense, listed.dense)
    for mine, theirs in zip((*framed.bags, *framed.keys), (*listed.bags, *listed.keys), strict=True):
        assert lists_of(mine) == lists_of(theirs)


def test_apps_with_missing_lists_and_numbers_encode_alike_from_lists_and_frames(transform: Transform) -> None:
    framed = transform.apps({name: APPS[name] for name in APPS.columns}, 4)
    listed = transform.apps({name: APPS[name].to_list() for name in APPS.columns}, 4)

    assert lists_of(framed.bags[0]) == lists_of(listed.bags[0])
    assert torch.equal(framed.dense, listed.dense)
    assert lists_of(framed.bags[0])[2:] == [[], [MISSING_ID]]


def test_lists_that_are_all_empty_encode_to_empty_bags(transform: Transform) -> None:
    nothing = pl.Series([[], []], dtype=pl.List(pl.String))

    side = transform.requests({"user_id": pl.Series(["u", "v"]), "installed": nothing}, 2)

    assert lists_of(side.bags[0]) == [[], []]


def test_rows_are_encoded_with_the_transforms_own_history_whatever_schema_the_data_has(transform: Transform) -> None:
    data = dataset(ROWS)
    kept = tuple(field for field in SCHEMA.fields if field.name != "installed")
    without = SCHEMA.model_copy(update={"fields": kept, "crosses": ()})

    bags = [
        encode(transform, Dataset(s, data.examples, APPS, data.users, data.facts), data.examples).requests.bags[0]
        for s in (SCHEMA, without)
    ]

    assert lists_of(bags[0]) == lists_of(bags[1])


def test_an_absent_column_is_missing_throughout(transform: Transform) -> None:
    side = transform.requests({"user_id": ["u"]}, 1)

    assert side.ids[0, 1].item() == MISSING_ID
    assert side.dense.tolist() == [[0.5]]


def test_a_cross_row_depends_on_both_of_its_values(transform: Transform) -> None:
    request = transform.requests({"user_id": ["u"], "daytime": ["noon"], "installed": [["a", "b"]]}, 1)
    apps = transform.apps({"app_id": ["a", "b", "a"]}, 3)

    installed, daytime, _ = transform.pairs(request, apps, statistics(3)).crosses

    first, second, third = lists_of(installed)
    assert first == third
    assert len({*first, *second}) == 4
    assert daytime.values[0] == daytime.values[2] != daytime.values[1]


def test_one_request_against_many_apps_gives_the_rows_of_the_pairs_written_out(transform: Transform) -> None:
    request = transform.requests({"user_id": ["u"], "daytime": ["noon"], "installed": [["a", "b"]]}, 1)
    repeated = request.select(torch.zeros(4, dtype=torch.int64))
    apps = transform.apps({"app_id": ["a", "b", "c", "d"]}, 4)

    once = transform.pairs(request, apps, statistics(4))
    written_out = transform.pairs(repeated, apps, statistics(4))

    assert [lists_of(bag) for bag in once.crosses] == [lists_of(bag) for bag in written_out.crosses]
    assert torch.equal(once.dense, written_out.dense)


def test_an_exact_cross_keeps_pairs_seen_often_enough_and_sends_the_rest_to_one_row(transform: Transform) -> None:
    tables = {table.spec.name: table for table in transform.crosses.tables}
    assert tables["daytime*app_id"].size == 1 + 4  # noon a, night b, NULL a, missing a
    assert tables["user_id*daytime*app_id"].size == 1 + 1  # u at noon with a, twice


def test_exact_and_hashed_crosses_stay_within_their_own_part_of_the_table(transform: Transform) -> None:
    data = dataset(ROWS)
    examples = encode(transform, data, rows_of(data, "train"))

    batch = examples.batch(torch.arange(len(examples)))

    ends = {table.spec.name: (table.first, table.first + table.size) for table in transform.crosses.tables}
    named: dict[str, Bag] = dict(
        zip(
            ("installed*app_id", "daytime*app_id", "user_id*daytime*app_id", "daytime*user_id"),
            (*batch.pair.crosses, *batch.request.crosses),
            strict=True,
        )
    )
    for name, bag in named.items():
        first, end = ends[name]
        assert bag.values.ge(first).all()
        assert bag.values.lt(end).all()


def test_a_state_of_a_release_that_knew_nothing_of_all_users_is_read(transform: Transform) -> None:
    texts, arrays = transform.to_state()
    del texts["population"]

    assert Transform.from_state(SCHEMA, texts, arrays).population == transform.population


def test_state_round_trips_through_json_values_and_arrays(transform: Transform) -> None:
    data = dataset(ROWS)
    texts, arrays = transform.to_state()

    again = Transform.from_state(SCHEMA, texts, arrays)

    batches = [encode(t, data, data.examples).batch(torch.arange(6)) for t in (transform, again)]
    assert torch.equal(batches[0].request.ids, batches[1].request.ids)
    assert torch.equal(batches[0].pair.dense, batches[1].pair.dense)
    for mine, theirs in zip(batches[0].pair.crosses, batches[1].pair.crosses, strict=True):
        assert lists_of(mine) == lists_of(theirs)
    assert again.sizes == transform.sizes
