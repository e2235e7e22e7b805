from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import id_index
from model.id_index import IDS_A_BUCKET, UNKNOWN, IdIndex

anything = st.text(st.characters(exclude_categories=()), max_size=12)
long = st.builds(lambda text, times: text * times, st.text(min_size=1, max_size=8), st.integers(1, 64))
package = st.from_regex(r"com\.[a-z]{1,6}\.[a-z0-9]{1,30}", fullmatch=True)
ids_of_all_kinds = st.lists(anything | long | package, max_size=60)


def as_a_dict_finds(index: dict[str, int], ids: Sequence[str]) -> list[int]:
    return [index.get(app_id, UNKNOWN) for app_id in ids]


@given(ids_of_all_kinds, ids_of_all_kinds)
def test_it_finds_what_a_dict_finds(ids: list[str], others: list[str]) -> None:
    expected = {app_id: place for place, app_id in enumerate(ids)}
    near = [one[:-1] for one in ids] + [one + "\0" for one in ids] + [one + "x" for one in ids]
    asked = [*others, *ids, *near]

    index = IdIndex.of(ids)

    assert index.find(asked).tolist() == as_a_dict_finds(expected, asked)
    assert [index.id_at(place) for place in range(len(index))] == ids


@given(ids_of_all_kinds)
def test_it_is_the_same_after_being_kept_as_arrays(ids: list[str]) -> None:
    index = IdIndex.of(ids)

    again = IdIndex.from_arrays(index.arrays())

    assert len(again) == len(ids)
    assert again.find(ids).tolist() == index.find(ids).tolist()
    assert [again.id_at(place) for place in range(len(ids))] == ids


@pytest.mark.parametrize("kinds", [1, 2, 7])
def test_ids_whose_hashes_are_equal_are_told_apart(kinds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def poor(rows: npt.NDArray[np.uint64], _: object) -> npt.NDArray[np.uint64]:
        return (rows[:, 0] >> np.uint64(40)) % np.uint64(kinds) * np.uint64(0x1_0000_0001)

    monkeypatch.setattr(id_index, "_hashes", poor)
    ids = [f"app{place}" for place in range(300)]

    index = IdIndex.of(ids)

    assert index.find(ids).tolist() == list(range(300))
    assert set(index.find([f"bad{place}" for place in range(300)]).tolist()) == {UNKNOWN}


def test_an_id_in_a_full_bucket_is_found_in_the_next() -> None:
    ids = [f"com.company{place % 97}.app{place}" for place in range(20_000)]
    index = IdIndex.of(ids)

    assert (index.ordinals[:, -1] != UNKNOWN).any()
    assert np.array_equal(index.find(ids), np.arange(len(ids)))
    assert set(index.find([app_id + "-" for app_id in ids]).tolist()) == {UNKNOWN}


def test_a_longer_id_is_never_taken_for_one_that_it_begins_with() -> None:
    index = IdIndex.of(["a" * 7, "b" * 8, "c" * 15])

    assert index.find(["a" * 8, "a" * 7 + "\0", "b" * 9, "c" * 16, "c" * 500]).tolist() == [UNKNOWN] * 5


def test_a_few_long_ids_do_not_widen_every_row() -> None:
    index = IdIndex.of([*(f"app{place}" for place in range(1000)), "x" * 512, "ü" * 512])

    assert index.rows.shape == (1002, 1)
    assert index.find(["x" * 512, "ü" * 512, "app999", "x" * 511]).tolist() == [1000, 1001, 999, UNKNOWN]


def test_of_equal_ids_the_last_is_found() -> None:
    assert IdIndex.of(["a", "b", "a", "x" * 300, "x" * 300]).find(["a", "b", "x" * 300]).tolist() == [2, 1, 4]


def test_an_empty_index_finds_nothing() -> None:
    assert IdIndex.of([]).find(["a", "b"]).tolist() == [UNKNOWN] * 2
    assert IdIndex.of(["a"]).find([]).tolist() == []


def test_a_million_ids_are_found_in_tables_of_eight_bytes_a_slot() -> None:
    ids = [f"com.company{place % 1009}.app{place}" for place in range(1_000_000)]
    index = IdIndex.of(ids)

    some = np.random.default_rng(0).integers(0, len(ids), 5000)

    assert np.array_equal(index.find([ids[place] for place in some]), some)
    assert [index.id_at(int(place)) for place in some[:100]] == [ids[place] for place in some[:100]]
    assert len(index.tags) < 2 * len(ids) / IDS_A_BUCKET
    assert index.tags.itemsize + index.ordinals.itemsize == 8
