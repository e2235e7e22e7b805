from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.negatives import Pool, rate, sample
from model.schema import NegativeRule, Negatives

APPS = [f"a{number}" for number in range(6)]
pairs = st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from(APPS)), min_size=1, max_size=25)


def log(events: list[tuple[str, str]]) -> pl.DataFrame:
    users, apps = zip(*events, strict=True)
    return pl.DataFrame({"user_id": users, "app_id": apps, "label": 1, "row": range(len(events))}).cast(
        {"label": pl.Int8}
    )


def pool_of(positives: pl.DataFrame, apps: list[str] = APPS) -> Pool:
    return Pool(pl.Series(apps), positives.select("user_id", "app_id"))


@given(pairs, st.integers(1, 7), st.integers(0, 5))
def test_unused_draws_each_user_distinct_apps_they_never_used(
    events: list[tuple[str, str]], per_positive: int, seed: int
) -> None:
    positives = log(events)
    rule = Negatives(rule=NegativeRule.UNUSED, per_positive=per_positive)
    drawn, share = sample(positives, pool_of(positives), negatives=rule, seed=seed)
    possible = 0
    for user in {user for user, _ in events}:
        used = {app for name, app in events if name == user}
        rows = sum(name == user for name, _ in events)
        got = drawn.filter(user_id=user)["app_id"].to_list()
        assert len(set(got)) == len(got) == min(rows * per_positive, len(APPS) - len(used))
        assert not used & set(got)
        possible += rows * (len(APPS) - len(used))
    assert share == (drawn.height / possible if possible else 1.0)


@given(pairs, st.integers(1, 7), st.integers(0, 5))
def test_uniform_draws_each_row_distinct_apps_but_its_own(
    events: list[tuple[str, str]], per_positive: int, seed: int
) -> None:
    positives = log(events)
    rule = Negatives(rule=NegativeRule.UNIFORM, per_positive=per_positive)
    drawn, share = sample(positives, pool_of(positives), negatives=rule, seed=seed)
    for number, (_, app) in enumerate(events):
        got = drawn.filter(row=number)["app_id"].to_list()
        assert len(set(got)) == len(got) == min(per_positive, len(APPS) - 1)
        assert app not in got
    assert share == min(per_positive, 5) / 5


def test_a_negative_has_its_positives_context_and_label_zero() -> None:
    positives = log([("u", "a0"), ("v", "a1")]).with_columns(pl.Series("daytime", ["noon", "night"]))
    drawn, _ = sample(positives, pool_of(positives), negatives=Negatives(), seed=0)
    assert set(drawn["label"]) == {0}
    assert set(drawn.select("user_id", "daytime", "row").iter_rows()) == {("u", "noon", 0), ("v", "night", 1)}


def test_a_users_rows_share_their_negatives_evenly() -> None:
    positives = log([("u", "a0"), ("u", "a0"), ("u", "a1")])
    drawn, _ = sample(positives, pool_of(positives), negatives=Negatives(per_positive=2), seed=0)
    assert sorted(Counter(drawn["row"]).values()) == [1, 1, 2]


def test_the_negatives_of_users_who_have_used_nearly_everything_lie_all_over_their_rows() -> None:
    """A log is split by time: were they all beside a user's first events, what is held out would have none."""
    apps = [f"a{number}" for number in range(20)]
    positives = log([(f"u{user}", apps[event % 17]) for user in range(100) for event in range(50)])
    drawn, _ = sample(positives, pool_of(positives, apps), negatives=Negatives(), seed=0)
    place = drawn["row"].to_numpy() % 50
    assert len(place) == 300
    assert np.histogram(place, bins=5, range=(0, 50))[0].min() >= 40
    assert Counter(drawn["row"]).most_common(1)[0][1] == 1


@pytest.mark.parametrize("rule", NegativeRule)
@pytest.mark.parametrize("per_positive", [1, 4])
def test_every_allowed_app_is_drawn_equally_often(rule: NegativeRule, per_positive: int) -> None:
    positives = log([(f"u{number}", "a2") for number in range(20_000)])
    negatives = Negatives(rule=rule, per_positive=per_positive)
    drawn, share = sample(positives, pool_of(positives), negatives=negatives, seed=1)
    frequency = np.array([(drawn["app_id"] == app).mean() for app in APPS if app != "a2"])
    assert frequency == pytest.approx(0.2, abs=0.02)
    assert share == per_positive / 5


def test_a_seed_repeats_a_draw_and_another_changes_it() -> None:
    positives = log([(f"u{number}", "a2") for number in range(100)])
    once, again, other = (sample(positives, pool_of(positives), negatives=Negatives(), seed=s)[0] for s in (1, 1, 2))
    assert once.equals(again)
    assert not once.equals(other)


def test_used_apps_outside_the_catalogue_do_not_count() -> None:
    positives = log([("u", "a0")])
    used = pl.DataFrame({"user_id": ["u", "u", "x"], "app_id": ["a0", "gone", "a1"]})
    assert rate(1, positives, Pool(pl.Series(APPS), used), rule=NegativeRule.UNUSED) == 1 / 5


def test_a_user_of_everything_gets_no_negatives() -> None:
    positives = log([("u", "a0")])
    drawn, share = sample(positives, pool_of(positives, ["a0"]), negatives=Negatives(), seed=0)
    assert (drawn.height, share) == (0, 1.0)
