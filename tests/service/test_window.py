"""Reading a window of the log as a dataset: no skew, what is new, what is learned again, and what is refused."""

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import polars as pl
import pytest
import torch

from model.data.dataset import LOGGED, Dataset, read, write
from model.data.examples import encode
from model.data.replay import with_history
from model.data.splits import Shares
from model.data.stored import Rows
from model.fitting import fit
from model.query import NULL
from model.schema import FieldSpec, Kind, Source
from model.training import TrainConfig, train
from model.zoo import forward
from service.golden import golden_requests
from service.labels import JoinCounts
from service.store.log_ports import Impression, LogCounts, Shown
from service.store.ports import AppRecord, HistoryChange, UserRecord
from service.window import SHARES, Learned, WindowPlan, WindowRefused, examples_of, learned_until, notes
from tests.service.rankings import DAY, FULL, NOW, Rankings
from tests.service.store_front import APPS, SCHEMA, USERS

HOUR = 3600.0
PLAN = WindowPlan(schema=FULL, now=NOW, window_s=HOUR, mode="full")


@pytest.fixture
def rankings(tmp_path: Path) -> Rankings:
    return Rankings(tmp_path / "home")


def window(rankings: Rankings, plan: WindowPlan = PLAN, *, data: Path | None = None) -> tuple[Dataset, JoinCounts]:
    return examples_of(rankings.backend.log, rankings.backend.features, plan, data=data)


def scores_of(rankings: Rankings, made: Dataset) -> dict[tuple[str, str], float]:
    """What training's own path gives each row, by request and app."""
    scorer, rows = rankings.scorer, made.examples
    encoded = encode(scorer.transform, made, rows)
    logits = forward(scorer.net, encoded.batch(torch.arange(len(rows)))).double() + scorer.log_rate
    keys = rows.select("request_id", "app_id").rows()
    return dict(zip(keys, torch.sigmoid(logits).tolist(), strict=True))


def known(at: float) -> Learned:
    """As if live knew the log up to this time and had held nothing out."""
    return Learned(at, at)


def odd_requests(rankings: Rankings) -> None:
    """Requests with everything that a value can be: explicit nulls, unknown ones, none, other users' histories."""
    rankings.rank("u1", features={"country": None, "age": None, "interests": None}, context={"battery": None})
    rankings.rank("u2", features={"country": "never seen", "interests": ["fun", "new", ""]}, context={"daytime": None})
    rankings.rank("a stranger", context={"daytime": "evening"})
    rankings.rank("u3", history={app: 9 - place for place, app in enumerate(APPS[:8])}, candidates=APPS[:12], k=12)
    rankings.rank("u4", features={"screen": "a retired field", "age": 31})


def change_the_store(rankings: Rankings) -> None:
    """Apps, users and histories as they were not when all of this was shown."""
    features = rankings.backend.features
    changed = [AppRecord(app, {"category": "changed", "tags": ["new"], "rating": 99.0}) for app in APPS[::2]]
    features.put_apps([*changed, AppRecord(APPS[1], {}), AppRecord("com.new", {"category": "games"})])
    features.delete_app(APPS[3])
    features.change_history(HistoryChange(user, app, installed=True) for user in USERS[:30] for app in APPS[5:9])
    features.change_history(HistoryChange(user, app, installed=False) for user in USERS[10:] for app in APPS[9:25])
    features.put_users([UserRecord(user, {"country": "changed"}, {}) for user in USERS[:5]])
    features.delete_user(USERS[7])


def test_training_scores_every_row_as_it_was_served_whatever_changed_since(rankings: Rankings) -> None:
    odd_requests(rankings)
    rankings.days(3)
    change_the_store(rankings)
    odd_requests(rankings)
    rankings.days(3, seed=1)
    change_the_store(rankings)
    made, _ = window(rankings)
    served = {(one.request_id, item.app_id): item.score for one in rankings.shown.values() for item in one.items}
    trained = scores_of(rankings, made)
    assert trained.keys() == served.keys()
    assert [trained[key] for key in served] == pytest.approx(list(served.values()), abs=1e-6)
    assert len(set(map(lambda score: round(score, 6), served.values()))) > len(served) / 3
    assert made.revisions is not None
    assert made.examples["app_revision"].null_count() < len(made.examples)
    assert made.examples["app_revision"].null_count() > 0


def test_without_what_was_logged_training_would_score_other_values(rankings: Rankings) -> None:
    rankings.days(3)
    change_the_store(rankings)
    made, _ = window(rankings)
    forgetful = replace(made, examples=made.examples.drop(LOGGED))
    trained, again = scores_of(rankings, made), scores_of(rankings, forgetful)
    assert sum(abs(trained[key] - again[key]) > 1e-3 for key in trained) > len(trained) / 2


def test_each_row_has_where_it_stood_and_what_its_user_had_then(rankings: Rankings) -> None:
    rankings.days(3)
    impression = rankings.rank("u1", history={APPS[0]: 4, APPS[9]: 7}, candidates=[APPS[9], APPS[1]], k=2)
    made, _ = window(rankings)
    rows = made.examples.filter(pl.col("request_id") == impression.request_id)
    entries = [{"app_id": APPS[0], "count": 4}, {"app_id": APPS[9], "count": 7}]
    assert rows["history"].to_list() == [entries, entries]
    assert rows.select("app_id", "position").rows() == [(item.app_id, item.position) for item in impression.items]
    assert dict(rows.select("app_id", "uses").rows()) == {APPS[9]: 7.0, APPS[1]: 0.0}
    assert dict(rows.select("app_id", "others").rows()) == {item.app_id: item.others for item in impression.items}
    measures = rows.select("app_id", "measures").rows()
    told = {app: {one["name"]: one["value"] for one in values} for app, values in measures}
    assert told == {item.app_id: item.measures for item in impression.items}
    assert set(told[APPS[1]]) == {"in_context.daytime", "in_context.country", "similar"}
    at = rows["at"].unique().to_list()
    assert [one.timestamp() for one in at] == [impression.at]
    encoded = encode(rankings.scorer.transform, made, made.examples)
    assert encoded.batch(torch.arange(len(rows))).position is not None
    assert encoded.position.tolist() == made.examples["position"].to_list()


def test_a_window_is_written_and_read_back_equal_and_can_be_trained_on(rankings: Rankings, tmp_path: Path) -> None:
    rankings.days(4)
    change_the_store(rankings)
    made, _ = window(rankings)
    write(made, tmp_path / "window")
    again = read(tmp_path / "window")
    assert again.examples.equals(made.examples)
    assert again.revisions is not None
    assert made.revisions is not None
    assert again.revisions.equals(made.revisions)
    config = TrainConfig(params={"hidden": [4]}, epochs=1, batch_size=64)
    assert 0 <= train(config, again, progress=lambda _: None).metrics["auc"] <= 1


def test_vocabularies_hold_apps_as_they_were_scored_and_what_users_had_then(rankings: Rankings) -> None:
    rankings.days(3)
    had = {app for one in rankings.shown.values() for app in one.history}
    for user in USERS:
        rankings.backend.features.put_users([UserRecord(user)])
    rankings.backend.features.put_apps(AppRecord(app, {"category": "renamed", "rating": 1.0}) for app in APPS)
    transform = fit(FULL, window(rankings)[0])
    assert set(transform.vocabularies["category"].values) == {"games", "tools"}
    assert len(set(transform.vocabularies["installed"].values) & had) > len(had) / 2
    assert max(transform.quantiles["rating"].boundaries) > 1.0


def test_new_rows_are_split_by_time_and_no_request_is_divided(rankings: Rankings) -> None:
    rankings.days(5)
    made, _ = window(rankings, replace(PLAN, shares=Shares(train=0.6, stop=0.2)))
    spans = made.examples.group_by("split").agg(first=pl.col("at").min(), last=pl.col("at").max(), rows=pl.len())
    by_name = {row["split"]: row for row in spans.iter_rows(named=True)}
    assert by_name["train"]["last"] < by_name["stop"]["first"]
    assert by_name["stop"]["last"] < by_name["gate"]["first"]
    assert by_name["train"]["rows"] == pytest.approx(0.6 * len(made.examples), abs=5)
    assert made.examples.group_by("request_id").agg(pl.col("split").n_unique())["split"].max() == 1
    facts = made.facts
    assert (facts.source, facts.timed, facts.sampling_rate, facts.negatives) == ("log", True, 1.0, "logged")
    assert sum(facts.counts[name] for name in ("train", "stop", "gate")) == len(made.examples)
    assert facts.counts["train_positive"] == made.examples.filter(split="train")["label"].sum()
    assert facts.window == (made.examples["at"].min().isoformat(), made.examples["at"].max().isoformat())  # type: ignore[union-attr]  # times


def test_apps_and_users_are_those_of_now_and_after_them_those_that_only_the_log_knows(rankings: Rankings) -> None:
    rankings.rank("a stranger", features={"country": "PT"})
    rankings.days(3)
    rankings.backend.features.delete_app(APPS[3])
    rankings.backend.features.put_apps([AppRecord("com.new", available=False, countries=("PT",))])
    rankings.backend.features.change_history([HistoryChange("u1", "com.new", installed=True)])
    made, _ = window(rankings)
    assert set(made.apps["app_id"]) == {*APPS, "com.new"}
    assert dict(made.apps.select("app_id", "available").rows())[APPS[3]] is False
    assert made.apps.row(by_predicate=pl.col("app_id") == "com.new", named=True)["countries"] == ["PT"]
    assert set(made.users["user_id"]) == {*USERS, "a stranger"}
    stranger = made.users.row(by_predicate=pl.col("user_id") == "a stranger", named=True)
    assert (stranger["country"], stranger["installed"]) == ("PT", [])
    assert "com.new" in made.users.row(by_predicate=pl.col("user_id") == "u1", named=True)["installed"]


def test_values_that_no_longer_fit_are_missing_and_counted_and_nulls_are_told_apart(rankings: Rankings) -> None:
    rankings.days(3)
    shown = Shown(APPS[0], 1, 0.5, {"rating": "five", "category": None}, 0)
    odd = Impression(
        "odd", rankings.clock(), "v", "u1", {"age": "old", "country": None}, {"daytime": "evening"}, {}, (shown,)
    )
    rankings.backend.log.show([odd])
    made, _ = window(rankings)
    row = made.examples.row(by_predicate=pl.col("request_id") == "odd", named=True)
    assert (row["age"], row["country"], row["daytime"], row["battery"]) == (None, NULL, "evening", None)
    assert made.revisions is not None
    revision = made.revisions.row(row["app_revision"], named=True)
    assert (revision["rating"], revision["category"], revision["tags"]) == (None, NULL, None)
    assert made.facts.counts["misfits"] == 2
    assert any("2 logged or stored values did not fit" in note for note in notes(made.facts, PLAN))


def test_a_long_log_is_read_page_by_page_to_the_same_window(
    rankings: Rankings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rankings.days(6)
    change_the_store(rankings)
    plan = replace(PLAN, mode="incremental", since=known(rankings.clock() - 2 * DAY), replay=0.5)
    whole, counts = window(rankings, plan)
    monkeypatch.setattr("service.logged.PAGE", 7)
    paged, again = window(rankings, plan)
    assert counts == again
    assert paged.examples.drop("app_revision").equals(whole.examples.drop("app_revision"))
    assert paged.scored_apps[paged.app_rows(paged.examples)].equals(whole.scored_apps[whole.app_rows(whole.examples)])


def test_new_is_all_that_live_was_not_trained_on_what_was_held_out_from_it_too(rankings: Rankings) -> None:
    rankings.days(4)
    first, _ = window(rankings, replace(PLAN, shares=SHARES["incremental"]))
    trained = first.examples.filter(split="train")
    rankings.days(3, seed=1)
    plan = replace(PLAN, mode="incremental", since=learned_until(asdict(first.facts)), replay=0.0)
    second, counts = window(rankings, plan)
    assert len(trained) + len(second.examples) == sum(len(one.items) for one in rankings.shown.values())
    assert not set(trained["request_id"]) & set(second.examples["request_id"])
    assert set(first.examples.filter(pl.col("split") != "train")["request_id"]) < set(second.examples["request_id"])
    assert (counts.outside, counts.orphan) == (0, 0)


def test_what_live_or_the_parent_has_learned_neither_stops_nor_judges(rankings: Rankings) -> None:
    rankings.days(10)
    trained = rankings.clock() - 0.5 * DAY
    late = window(rankings)[0].examples.filter(pl.col("split") == "gate")["at"]
    assert (late.dt.epoch("us") <= trained * 1e6).any()
    whole = replace(PLAN, since=known(trained), seen=trained)
    from_older = replace(whole, mode="incremental", since=known(rankings.clock() - 4 * DAY), replay=0.0)
    for plan in (whole, from_older):
        made = window(rankings, plan)[0].examples
        held = made.filter(pl.col("split") != "train")
        assert (held["at"].dt.epoch("us") > trained * 1e6).all()
        assert set(held["split"]) == {"stop", "gate"}
        assert held.filter(split="stop")["at"].max() < held.filter(split="gate")["at"].min()  # type: ignore[operator]  # both are times
        assert set(made.filter(pl.col("at").dt.epoch("us") <= trained * 1e6)["split"]) == {"train"}
    with pytest.raises(WindowRefused, match="nothing is left to judge on"):
        window(rankings, replace(PLAN, seen=NOW))


def test_only_a_version_that_learned_from_the_log_has_learned_some_of_it() -> None:
    facts = {"source": "parquet: log", "window": ("2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00")}
    assert learned_until(facts) is None
    assert learned_until({**facts, "source": "log"}) == Learned(1769904000.0, 1769904000.0)
    early = {**facts, "source": "log", "trained_until": "2026-01-31T00:00:00+00:00"}
    assert learned_until(early) == Learned(1769904000.0 - DAY, 1769904000.0)
    assert learned_until({"source": "log", "window": None}) is None


def test_a_version_that_kept_its_start_has_learned_no_more_than_the_one_before_it(rankings: Rankings) -> None:
    rankings.days(6)
    plan = replace(PLAN, mode="incremental", since=known(rankings.clock() - 4 * DAY), replay=0.0)
    first, _ = window(rankings, plan)
    kept = asdict(first.facts) | {"training": {"epochs": 2, "best_epoch": 0}}
    assert learned_until(kept | {"training": {"epochs": 2, "best_epoch": 1}}) == learned_until(asdict(first.facts))
    rankings.days(2, seed=1)
    second, _ = window(rankings, replace(plan, since=learned_until(kept)))
    assert set(first.examples["request_id"]) < set(second.examples["request_id"])
    imported, _ = window(rankings, replace(plan, since=None))
    again = learned_until(asdict(imported.facts) | {"training": {"best_epoch": 0}})
    rankings.days(1, seed=2)
    later, _ = window(rankings, replace(plan, since=again))
    assert set(imported.examples["request_id"]) < set(later.examples["request_id"])


def test_old_rows_of_the_log_are_learned_again_each_with_its_label(rankings: Rankings) -> None:
    rankings.days(7)
    since = rankings.clock() - 2 * DAY
    plan = replace(PLAN, mode="incremental", since=known(since), replay=0.7)
    made, _ = window(rankings, plan)
    full = window(rankings)[0].examples
    old = made.examples.filter(pl.col("at").dt.epoch("us") <= since * 1e6)
    fresh = made.examples.filter((pl.col("at").dt.epoch("us") > since * 1e6) & (pl.col("split") == "train"))
    assert len(old) == round(0.7 * len(fresh)) == made.facts.counts["replayed"]
    assert set(old["split"]) == {"train"}
    keys = ["request_id", "app_id", "position", "label", "uses", "others"]
    assert set(old.select(keys).rows()) <= set(full.select(keys).rows())
    assert old["label"].n_unique() == 2
    assert made.facts.window is not None
    assert datetime.fromisoformat(made.facts.window[0]).timestamp() > since


def test_the_seed_decides_which_old_rows_are_learned_again(rankings: Rankings) -> None:
    rankings.days(7)
    plan = replace(PLAN, mode="incremental", since=known(rankings.clock() - 2 * DAY))
    drawn = [
        set(window(rankings, replace(plan, seed=seed, replay=0.3))[0].examples.select("request_id", "app_id").rows())
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_whole_window_takes_nothing_twice_and_no_import(rankings: Rankings) -> None:
    rankings.days(4)
    made, _ = window(rankings, data=rankings.home.data)
    assert len(made.examples) == sum(len(one.items) for one in rankings.shown.values())
    assert (made.facts.counts["replayed"], made.facts.counts["replayed_imported"]) == (0, 0)


FIRST = replace(PLAN, mode="incremental", since=None)
"""The plan of a first retraining, when live has learned from an import alone."""


def test_where_the_log_has_too_few_old_rows_the_import_is_learned_again_as_it_was_known_then(
    rankings: Rankings,
) -> None:
    rankings.days(4)
    change_the_store(rankings)
    made, _ = window(rankings, FIRST, data=rankings.home.data)
    old = made.examples.filter(pl.col("request_id").is_null())
    assert len(old) == made.facts.counts["replayed_imported"] > 0
    imported, keys = rankings.imported, ["user_id", "app_id", "label", "battery"]
    alone = with_history(imported, imported.examples).select(*keys, "history", "uses", "others", "measures")
    matched = old.join(alone, on=keys, how="left", suffix="_there", maintain_order="left")
    for name in ("history", "uses", "others", "measures"):
        assert matched[name].to_list() == matched[f"{name}_there"].to_list()
    categories = dict(imported.apps.select("app_id", "category").rows())
    scored = made.scored_apps[made.app_rows(old)]
    assert scored["category"].to_list() == [categories[app] for app in old["app_id"]]
    assert set(old["split"]) == {"train"}


def test_of_an_import_no_more_rows_are_read_than_are_learned_again(
    rankings: Rankings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rankings.days(4)

    def whole(*_: object) -> None:
        raise AssertionError("all rows are read into memory")

    with monkeypatch.context() as patch:
        patch.setattr(Rows, "__get__", whole)
        made, _ = window(rankings, FIRST, data=rankings.home.data)

    assert made.facts.counts["replayed_imported"] > 0


def test_positives_of_an_import_with_drawn_negatives_are_thinned_to_the_logs_odds(rankings: Rankings) -> None:
    rankings.days(10)
    made, _ = window(rankings, replace(FIRST, replay=5.0), data=rankings.home.data)
    old = made.examples.filter(pl.col("request_id").is_null())["label"]
    given = rankings.imported.examples["label"]
    odds, before = (float(label.sum()) / float((label == 0).sum()) for label in (old, given))
    assert odds == pytest.approx(before * rankings.imported.facts.sampling_rate, rel=0.25)


def test_what_an_import_holds_out_is_never_learned_again(rankings: Rankings) -> None:
    rankings.days(4)
    made, _ = window(rankings, replace(FIRST, replay=100.0), data=rankings.home.data)
    keys = ["user_id", "app_id", "battery"]
    old = set(made.examples.filter(pl.col("request_id").is_null()).select(keys).rows())
    held = rankings.imported.examples.filter(pl.col("split") != "train").select(keys)
    assert old
    assert not old & set(held.rows())


def test_deleted_users_do_not_come_back_from_an_import(rankings: Rankings) -> None:
    rankings.days(4)
    rankings.backend.features.delete_user("u7")
    rankings.backend.log.forget_user("u7")
    made, _ = window(rankings, FIRST, data=rankings.home.data)
    assert "u7" not in set(made.examples["user_id"])
    assert "u7" not in set(made.users["user_id"])


def test_an_import_of_other_fields_and_one_that_is_not_there_are_left_out_with_a_note(rankings: Rankings) -> None:
    rankings.days(4)
    other = replace(PLAN, mode="incremental", schema=SCHEMA)
    for plan, data in ((other, rankings.home.data), (FIRST, rankings.home.root / "nowhere"), (FIRST, None)):
        made, _ = window(rankings, plan, data=data)
        assert made.facts.counts["replayed_imported"] == 0
        assert any(note.startswith("0 old rows are learned again") for note in notes(made.facts, plan))


def test_a_window_of_fewer_rows_than_live_was_trained_on_and_one_that_begins_late_are_noted(
    rankings: Rankings,
) -> None:
    rankings.days(4)
    plan = replace(PLAN, mode="incremental", replay=0.0, since=known(NOW - 40 * DAY), learned=100_000)
    made, _ = window(rankings, plan)
    assert [note.split(",")[0] for note in notes(made.facts, plan)] == [
        f"the window holds {made.facts.counts['new']} new rows",
        "live learned up to 2024-08-25T00:00:00+00:00",
    ]


def test_all_old_rows_and_all_days_may_be_asked_for_by_any_number(rankings: Rankings) -> None:
    rankings.days(4)
    everything = replace(FIRST, replay=1e308, days=1e308, since=known(NOW - 8 * DAY))
    made, _ = window(rankings, everything, data=rankings.home.data)
    whole, _ = window(rankings, replace(everything, replay=1e4, days=1e4), data=rankings.home.data)
    assert made.examples.equals(whole.examples)
    assert made.facts.counts["replayed"] > 0
    assert (
        len(window(rankings, replace(PLAN, days=1e308))[0].examples)
        == made.facts.counts["new"] + made.facts.counts["replayed"]
    )


def test_golden_requests_carry_the_history_that_was_logged(rankings: Rankings) -> None:
    rankings.days(4)
    change_the_store(rankings)
    made, _ = window(rankings)
    logged_histories = [dict(one.history) for one in rankings.shown.values()]
    golden = golden_requests(rankings.scorer, made, seed=0)
    assert all(dict(one.query.history) in logged_histories for one in golden)
    assert any(one.query.history for one in golden)


def nothing(_: Rankings) -> None:
    pass


def still_open(rankings: Rankings) -> None:
    rankings.clock.now = NOW - 10.0
    rankings.rank("u1")


def shown_and_never_taken(rankings: Rankings) -> None:
    for user in USERS:
        rankings.rank(user)
        rankings.clock.advance(60.0)


def all_taken(rankings: Rankings) -> None:
    for user in USERS:
        impression = rankings.rank(user)
        for item in impression.items:
            rankings.install(impression, item.app_id)
        rankings.clock.advance(60.0)


def at_one_moment(rankings: Rankings) -> None:
    rankings.install(rankings.rank("u1"), rankings.rank("u1").items[0].app_id)


def taken_at_first_alone(rankings: Rankings) -> None:
    first = rankings.rank("u1")
    rankings.install(first, first.items[0].app_id)
    rankings.clock.advance(60.0)
    shown_and_never_taken(rankings)


@pytest.mark.parametrize(
    ("happened", "told"),
    [
        (nothing, "no impression of the last 30 days whose window has closed, and 0 shown apps are still"),
        (still_open, "and 5 shown apps are still within their window of 3600 s; rank requests and retrain later"),
        (shown_and_never_taken, "the window has 0 positives and 200 negatives, and both are needed; .*: none; send"),
        (all_taken, "the window has 200 positives and 0 negatives"),
        (at_one_moment, "10 rows of 1 distinct times, and a split by time takes at least 3"),
        (taken_at_first_alone, r"too small to split by time.*: train \d+ \(1 positive\), stop \d+ \(0 positive\)"),
    ],
)
def test_a_window_that_cannot_be_learned_from_is_refused_with_its_numbers(
    rankings: Rankings, happened: Callable[[Rankings], None], told: str
) -> None:
    happened(rankings)
    with pytest.raises(WindowRefused, match=told):
        window(rankings)


@pytest.mark.parametrize("mode", ["incremental", "full"])
def test_a_window_that_shrank_behind_live_is_refused(rankings: Rankings, mode: Literal["incremental", "full"]) -> None:
    rankings.days(4)
    made, _ = window(rankings)
    since = learned_until(asdict(made.facts))
    assert since is not None
    rankings.backend.log.trim(before=since.judged, keep=LogCounts(0, 100))
    with pytest.raises(WindowRefused, match="nothing is new since live, whose data ends at 2024-"):
        window(rankings, replace(PLAN, mode=mode, since=since))


def test_what_was_only_held_out_from_live_is_not_enough_to_learn_again(rankings: Rankings) -> None:
    rankings.days(4)
    made, _ = window(rankings)
    plan = replace(PLAN, mode="incremental", since=learned_until(asdict(made.facts)))
    with pytest.raises(WindowRefused, match="nothing is new since live"):
        window(rankings, plan)
    again, _ = window(rankings, replace(plan, mode="full"))
    assert again.examples.equals(made.examples)


def test_a_schema_with_a_field_named_as_the_logs_own_columns_is_refused(rankings: Rankings) -> None:
    field = FieldSpec(name="uses", source=Source.CONTEXT, kind=Kind.CONTINUOUS)
    schema = FULL.model_copy(update={"fields": (*FULL.fields, field)})
    with pytest.raises(WindowRefused, match="context field 'uses', a name that the log's own columns have"):
        window(rankings, replace(PLAN, schema=schema))


def test_the_reasons_why_events_made_no_label_are_told(rankings: Rankings) -> None:
    for user in USERS:
        impression = rankings.rank(user)
        rankings.install(impression, impression.items[0].app_id, after_s=2 * HOUR)
        rankings.clock.advance(60.0)
    with pytest.raises(WindowRefused, match="events that made no label: 40 late"):
        window(rankings)
