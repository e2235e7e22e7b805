import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.app_columns import AppSide, Gathered
from model.app_table import ROWS_AT_ONCE, AppTable, build_table, mapped_table, open_table, write_table
from model.array_folder import ArraysUnusable, ArrayWriter, Mapped, Pages, map_arrays
from model.query import App, Query
from model.schema import FeatureSchema
from model.scorer import Scorer
from tests.model.nets import scrambled
from tests.model.stores import APP_COUNT, SCHEMA, bundle_of, store

CROSSED = FeatureSchema.model_validate(
    {
        **SCHEMA.model_dump(mode="json"),
        "crosses": [
            {"fields": ["installed", "app_id"], "bits": 10},
            {"fields": ["country", "app_id"], "exact": True},
            {"fields": ["user_id", "country"], "bits": 8},
        ],
    }
)
APPS = [App(f"com.app{place}") for place in range(APP_COUNT)]
QUERY = Query("u1", {}, {"country": "PT"}, {"com.app3": 2})


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    made = Scorer.of(bundle_of(store(requests=70, schema=CROSSED), params={"dim": 4, "hidden": (16, 8)}))
    scrambled(made.net)
    return replace(made, transform=replace(made.transform, audience={"com.app0": 3, "com.app1": 1}))


@pytest.fixture
def mapped(scorer: Scorer, tmp_path: Path) -> AppTable:
    """The table of APPS over files."""
    build_table(tmp_path / "t", scorer.app_side, [APPS[:25], [], APPS[25:]], pause=lambda: None)
    return open_table(tmp_path / "t", scorer.app_side)


def in_memory(scorer: Scorer) -> AppTable:
    """The same apps in the same chunks, so that the same products were computed."""
    table = scorer.table(APPS[:25])
    table.put(APPS[25:])
    return table


def assert_same(seen: Gathered, expected: Gathered) -> None:
    assert seen.part.keys() == expected.part.keys()
    pairs = [(seen.part[name], expected.part[name]) for name in seen.part]
    for one, other in [*pairs, (seen.keys, expected.keys), (seen.others, expected.others)]:
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert torch.equal(one, other)


def rows_of(*rows: int) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int64)


@pytest.mark.parametrize("exact", [True, False])
def test_a_table_opened_from_files_gathers_bit_for_bit_what_one_in_memory_does(
    scorer: Scorer, mapped: AppTable, exact: bool
) -> None:
    rows = rows_of(39, 0, 25, 24, 0)

    assert_same(mapped.gather(rows, exact=exact), in_memory(scorer).gather(rows, exact=exact))


def test_exact_rows_are_the_nets_app_part_bit_for_bit_and_others_are_its_upper_half(scorer: Scorer) -> None:
    _, part = scorer.app_side.encode(APPS)
    table, rows = scorer.table(APPS), torch.arange(APP_COUNT)

    exact, fast = table.gather(rows, exact=True), table.gather(rows, exact=False)

    assert all(torch.equal(exact.part[name], part[name]) for name in ("wide", "deep"))
    assert torch.equal(fast.part["wide"], part["wide"])
    assert fast.part["deep"].dtype == torch.bfloat16
    assert torch.allclose(fast.part["deep"].float(), part["deep"], rtol=2**-8, atol=0)


def test_gathered_keys_and_audience_are_those_of_the_apps(scorer: Scorer, mapped: AppTable) -> None:
    side, _ = scorer.app_side.encode(APPS)

    gathered = mapped.gather(rows_of(1, 0, 5), exact=False)

    assert gathered.others.tolist() == [1, 3, 0]
    assert gathered.keys.shape == (3, 2)
    for place, bag in enumerate(side.keys):
        assert gathered.keys[:, place].tolist() == bag.values[[1, 0, 5]].tolist()
        assert gathered.side.keys[place].values.tolist() == bag.values[[1, 0, 5]].tolist()


def test_scores_over_files_equal_scores_over_memory_bit_for_bit(scorer: Scorer, mapped: AppTable) -> None:
    rows = np.arange(APP_COUNT)

    np.testing.assert_array_equal(scorer.score(QUERY, mapped, rows), scorer.score(QUERY, in_memory(scorer), rows))


def test_apps_put_after_opening_follow_the_base_and_are_gathered_beside_it(scorer: Scorer, mapped: AppTable) -> None:
    put = [App("com.app7"), App("new"), App("com.app0")]

    mapped.put(put)

    assert (mapped.base_count, len(mapped)) == (APP_COUNT, APP_COUNT + 3)
    assert mapped.rows_of(["new", "com.app7", "com.app8", "never", "com.app0"]).tolist() == [41, 40, 8, -1, 42]
    for exact in (True, False):
        mixed = mapped.gather(rows_of(41, 3, 40, 39, 42), exact=exact)
        new = scorer.table(put).gather(rows_of(1, 0, 2), exact=exact)
        old = in_memory(scorer).gather(rows_of(3, 39), exact=exact)
        assert_same(mixed, in_order([new, old], [0, 3, 1, 4, 2]))
        assert_same(mapped.gather(rows_of(41, 40, 42), exact=exact), new)


def in_order(parts: Sequence[Gathered], order: list[int]) -> Gathered:
    part = {name: torch.cat([one.part[name] for one in parts])[order] for name in parts[0].part}
    keys, others = (torch.cat([getattr(one, name) for one in parts])[order] for name in ("keys", "others"))
    return Gathered(part, keys, others)


def test_ids_and_index_read_like_a_list_and_a_dict(mapped: AppTable) -> None:
    mapped.put([App("com.app7"), App("new")])

    ids = [*(app.id for app in APPS), "com.app7", "new"]
    assert list(mapped.ids) == ids
    assert (mapped.ids[-1], mapped.ids[38:41], len(mapped.ids)) == ("new", ids[38:41], 42)
    assert dict(mapped.index) == {app_id: row for row, app_id in enumerate(ids)}
    assert len(mapped.index) == 41
    assert ("new" in mapped.index, "never" in mapped.index, mapped.index.get("never")) == (True, False, None)
    with pytest.raises(IndexError):
        mapped.ids[42]
    with pytest.raises(KeyError, match="never"):
        mapped.index["never"]


def test_rows_of_a_table_in_memory_are_the_newest(scorer: Scorer) -> None:
    table = in_memory(scorer)
    table.put([App("com.app7")])

    assert table.rows_of(["com.app7", "com.app8", "never"]).tolist() == [40, 8, -1]
    assert scorer.table([]).rows_of(["never"]).tolist() == [-1]


def test_only_some_rows_are_kept_of_those_put_and_all_of_the_base(scorer: Scorer, mapped: AppTable) -> None:
    mapped.put([App("x"), App("y"), App("com.app7"), App("z")])

    kept = mapped.only([43, 40, 3])

    assert kept.rows_of(["z", "x", "y", "com.app7", "com.app3"]).tolist() == [40, 41, -1, 7, 3]
    assert_same(kept.gather(rows_of(40, 41, 3), exact=True), mapped.gather(rows_of(43, 40, 3), exact=True))
    kept.put([App("y")])
    assert kept.rows_of(["y", "z"]).tolist() == [42, 40]
    assert mapped.rows_of(["y", "z"]).tolist() == [41, 43]
    assert len(mapped.only([])) == APP_COUNT


def test_reading_the_base_while_another_thread_puts_gives_the_rows_asked(mapped: AppTable) -> None:
    mapped.put([App("first")])
    rows = rows_of(APP_COUNT, 0, 39)
    expected = mapped.gather(rows, exact=True)
    names = [f"n{place}" for place in range(300)]

    def put_all() -> None:
        for name in names:
            mapped.put([App(name)])

    writer = threading.Thread(target=put_all)
    writer.start()
    while writer.is_alive():
        assert_same(mapped.gather(rows, exact=True), expected)
        newest = mapped.rows_of(names)
        known = newest[newest >= 0]
        assert [mapped.ids[row] for row in known] == [names[place] for place in (newest >= 0).nonzero()[0]]
        mapped.gather(torch.from_numpy(known), exact=False)
    writer.join()

    assert mapped.rows_of(names).tolist() == list(range(APP_COUNT + 1, APP_COUNT + 301))


def test_a_table_is_built_in_small_steps_with_a_pause_after_each(scorer: Scorer, tmp_path: Path) -> None:
    apps, steps = [App(f"n{place}") for place in range(2 * ROWS_AT_ONCE + 1)], []

    build_table(tmp_path / "t", scorer.app_side, [apps], pause=lambda: steps.append(len(list(tmp_path.glob("t")))))

    assert steps == [0, 0, 0]
    assert len(open_table(tmp_path / "t", scorer.app_side)) == len(apps)


def test_touching_a_table_changes_nothing_of_it(scorer: Scorer, mapped: AppTable) -> None:
    mapped.touch(lambda: None, exact=True)
    scorer.table(APPS).touch(lambda: None, exact=False)

    assert_same(mapped.gather(rows_of(3), exact=True), in_memory(scorer).gather(rows_of(3), exact=True))


def test_a_base_without_apps_is_a_table_to_put_apps_into(scorer: Scorer, tmp_path: Path) -> None:
    build_table(tmp_path / "t", scorer.app_side, [], pause=lambda: None)
    table = open_table(tmp_path / "t", scorer.app_side)

    table.put(APPS)

    assert (table.base_count, len(table)) == (0, APP_COUNT)
    assert_same(table.gather(rows_of(3, 1), exact=False), scorer.table(APPS).gather(rows_of(3, 1), exact=False))


def test_a_table_may_share_its_folder_with_other_arrays(scorer: Scorer, tmp_path: Path) -> None:
    with ArrayWriter(tmp_path / "t") as writer:
        count = write_table(writer, scorer.app_side, [APPS], pause=lambda: None)
        writer.append("markets", torch.zeros(count, dtype=torch.uint8))
        writer.close({"version": "v1"})

    mapped = map_arrays(tmp_path / "t")
    table = mapped_table(mapped, scorer.app_side, origin="t")

    assert (len(table), mapped.facts, len(mapped.arrays["markets"])) == (APP_COUNT, {"version": "v1"}, APP_COUNT)


def test_a_table_that_was_let_go_still_answers(scorer: Scorer, tmp_path: Path) -> None:
    build_table(tmp_path / "t", scorer.app_side, [APPS], pause=lambda: None)
    table = open_table(tmp_path / "t", scorer.app_side)
    before, pauses = table.gather(rows_of(3, 1), exact=True), list[None]()

    table.let_go(lambda: pauses.append(None))

    assert pauses
    assert_same(table.gather(rows_of(3, 1), exact=True), before)
    scorer.table(APPS).let_go(lambda: pytest.fail("a table without a base has nothing to let go"))


def test_arrays_that_are_no_table_of_this_net_are_refused_naming_what_is_missing(
    scorer: Scorer, tmp_path: Path
) -> None:
    wide = replace(scorer.app_side, halved=frozenset())
    build_table(tmp_path / "t", AppSide(wide.encode, wide.halved, {}), [APPS], pause=lambda: None)
    with pytest.raises(ArraysUnusable, match=r"t has no part\.deep\.hi, part\.deep\.lo, which this version needs"):
        open_table(tmp_path / "t", scorer.app_side)
    with pytest.raises(ArraysUnusable, match=r"here has no array 'id\.rows'"):
        mapped_table(Mapped({}, {}, Pages()), scorer.app_side, origin="here")
    with pytest.raises(ArraysUnusable, match="here has no ordinals, which this version needs"):
        mapped_table(map_arrays(tmp_path / "t"), replace(wide, ordinals={}), origin="here")
    mapped = map_arrays(tmp_path / "t")
    mapped.arrays["table.others"] = torch.zeros(3)
    with pytest.raises(ArraysUnusable, match=r"here has 3 rows of others where there are 40 ids"):
        mapped_table(mapped, wide, origin="here")
