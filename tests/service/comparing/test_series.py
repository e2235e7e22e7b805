"""A comparison on the store front: what is trained, what is found again, and what a failure leaves."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from model.bundle import WEIGHTS, BundleError, load
from model.comparison import Draws
from model.data.dataset import read, write
from model.holdout import predicted
from model.metrics import auc
from model.schema import Source
from model.scorer import Scorer
from model.training import Progress, TrainConfig, TrainingFailed
from model.zoo import UnknownArchitecture
from service.comparing.course import JSON, PAGE, NothingToKeep, folder_of, keep, write_report
from service.comparing.latency import Served
from service.comparing.plan import Plan, plan_of
from service.comparing.report import Report
from service.comparing.run import RECORD, SCORES, carried_out, told
from service.comparing.runs import RunFailed, Runs, Wanted, key_of
from service.comparing.series import Course, DataMoved, NothingToJudge, Series, Watch
from service.container import Container
from service.lifecycle import gate_version

SMALL: dict[str, Any] = {"params": {"hidden": [4], "dim": 2}, "epochs": 2, "batch_size": 256}
SERVED = Served("exact", 30, 30, 10, 0.5, 1.0)


def train_here(arguments: list[str], progress: Callable[[Progress], None]) -> None:
    """What the child process does, in this one."""
    order, data = told(arguments)
    try:
        carried_out(order, read(data), progress=progress)
    except (BundleError, TrainingFailed, UnknownArchitecture) as error:
        raise RunFailed(str(error)) from error


@dataclass
class Diary:
    """What a comparison told."""

    began: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    kept: list[Report] = field(default_factory=list)
    steps: list[Progress] = field(default_factory=list)

    @property
    def watch(self) -> Watch:
        """To be told."""
        return Watch(
            run=lambda one, place, of: self.began.append(f"{one.name} {place}, {of[0] + 1} of {of[1]}"),
            step=self.steps.append,
            found=lambda one, place: self.found.append(f"{one.name} {place}"),
            kept=self.kept.append,
            judging=lambda: None,
        )


@dataclass
class Bench:
    """A comparison's parts over a home; `train` may be replaced."""

    container: Container
    train: Callable[[list[str], Callable[[Progress], None]], None] = train_here
    timed: list[Mapping[str, Path]] = field(default_factory=list)

    def series(self, plan: Plan) -> Series:
        """A comparison of the home's data."""
        return Series(plan, read(self.container.home.data), self.course())

    def course(self) -> Course:
        """Runs kept in the home, and a measurement that takes no time."""
        tokens = iter(f"{number:06x}" for number in range(100))
        runs = Runs(
            self.container.home.comparisons / "runs", lambda *told: self.train(*told), lambda: 1.0, lambda: next(tokens)
        )
        return Course(runs, self.container.home.data, self._timed, Draws(30))

    def _timed(self, bundles: Mapping[str, Path]) -> Mapping[str, Served]:
        self.timed.append(bundles)
        return dict.fromkeys(bundles, SERVED)


@pytest.fixture
def bench(container: Container) -> Bench:
    return Bench(container)


def plan(*contestants: dict[str, Any], seeds: int = 1) -> Plan:
    return plan_of({"contestants": [*contestants], "defaults": SMALL, "seeds": seeds}, {})


TWO = plan({"name": "wide_deep"}, {"name": "adam", "recipe": "adam"}, seeds=2)


def test_every_contestant_is_trained_with_every_seed_and_judged_on_the_gate_split(bench: Bench) -> None:
    diary, series = Diary(), bench.series(TWO)
    report = series.run(diary.watch)
    assert diary.began == ["wide_deep 0, 1 of 4", "adam 0, 2 of 4", "wide_deep 1, 3 of 4", "adam 1, 4 of 4"]
    assert [one.state for one in report.entries] == ["done", "done"]
    first = report.entries[0]
    label = read(bench.container.home.data).examples.filter(pl.col("split") == "gate")["label"].to_numpy()
    values = [auc(label, run.scores) for run in series.results.runs["wide_deep"]]
    assert first.standing["auc"].value == pytest.approx(np.mean(values))
    assert first.by_seed == tuple(values)
    assert first.standing["auc"].gain is None
    assert report.entries[1].standing["auc"].gain is not None
    assert first.cost is not None
    assert first.cost.parameters > 100
    assert first.cost.epochs == 2
    assert [len(curve.points) for curve in first.curves] == [2, 2]
    assert first.served == SERVED
    assert report.finished
    assert report.judged.counts["gate"] == label.size
    assert set(bench.timed[0]) == {"wide_deep", "adam"}


def test_scores_are_those_of_the_run_in_its_bundle(bench: Bench) -> None:
    series = bench.series(plan({"name": "one", "arch": "wide_deep"}))
    series.run(Diary().watch)
    dataset, (run,) = read(bench.container.home.data), series.results.runs["one"]
    again = predicted(Scorer.of(load(run.bundle)), dataset, dataset.examples.filter(pl.col("split") == "gate"))
    assert np.array_equal(again, run.scores)


def test_what_was_trained_before_on_the_same_data_is_not_trained_again(bench: Bench) -> None:
    first = bench.series(TWO).run(Diary().watch)
    diary = Diary()
    second = bench.series(
        plan({"name": "another name", "arch": "wide_deep"}, {"name": "adam", "recipe": "adam"}, seeds=2)
    )
    report = second.run(diary.watch)
    assert diary.began == []
    assert len(diary.found) == 4
    now, before = (one.entries[0].standing for one in (report, first))
    assert {name: one.value for name, one in now.items()} == {name: one.value for name, one in before.items()}


@pytest.mark.parametrize("damaged", [RECORD, SCORES, f"*/{WEIGHTS}"])
def test_a_damaged_run_is_made_again(bench: Bench, damaged: str) -> None:
    one = plan({"name": "one", "arch": "wide_deep"})
    bench.series(one).run(Diary().watch)
    (file,) = (bench.container.home.comparisons / "runs").glob(f"*/{damaged}")
    file.write_text("{")
    diary = Diary()
    bench.series(one).run(diary.watch)
    assert diary.began == ["one 0, 1 of 1"]


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"epochs": 3}, {"params": {"hidden": [5]}}, {"recipe": "adam"}, {"batch_size": 64}]
)
def test_a_run_is_kept_under_all_that_it_was_made_of(other: dict[str, Any]) -> None:
    config = TrainConfig.model_validate(SMALL)
    key = key_of(config, data="d", software="s")
    assert key == key_of(TrainConfig.model_validate(SMALL), data="d", software="s")
    assert key != key_of(TrainConfig.model_validate(SMALL | other), data="d", software="s")
    assert key not in (key_of(config, data="e", software="s"), key_of(config, data="d", software="t"))


def test_a_run_of_other_arithmetic_is_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig.model_validate(SMALL)
    keys = []
    for able in (True, False):
        monkeypatch.setattr("model.precision.multiplies_bfloat16", lambda device, able=able: able)
        keys.append(key_of(config, data="d", software="s"))
    monkeypatch.setattr(torch, "__version__", "0.0")
    keys.append(key_of(config, data="d", software="s"))
    assert len(set(keys)) == 3


def test_of_two_commands_that_want_the_same_run_one_makes_it_and_the_other_takes_it(bench: Bench) -> None:
    runs, taken = bench.course().runs, []
    wanted = Wanted(TrainConfig.model_validate(SMALL), bench.container.home.data, "key")

    def slow(arguments: list[str], progress: Callable[[Progress], None]) -> None:
        bench.train = train_here  # what a second run would be made by
        other = Thread(target=lambda: taken.append(runs.made(wanted, progress=lambda step: None)))
        other.start()
        train_here(arguments, progress)
        others.append(other)

    bench.train, others = slow, list[Thread]()
    mine = runs.made(wanted, progress=lambda step: None)
    others[0].join()
    assert [one.record.version for one in taken] == [mine.record.version]


def test_a_run_of_another_machine_is_said_to_be_one(bench: Bench) -> None:
    one = plan({"name": "one", "arch": "wide_deep"})
    bench.series(one).run(Diary().watch)
    (record,) = (bench.container.home.comparisons / "runs").glob(f"*/{RECORD}")
    told = json.loads(record.read_text()) | {"machine": "a fast one"}
    record.write_text(json.dumps(told))
    (note,) = bench.series(one).run(Diary().watch).notes
    assert note == "one was trained on another machine, so its train s is that of a fast one"


def test_a_contestant_that_fails_is_an_entry_that_says_why_and_the_others_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    diverging = {"name": "diverging", "arch": "wide_deep", "recipe_options": {"rate": 1e30}}
    elsewhere = {"name": "elsewhere", "device": "cuda"}
    report = bench.series(plan(diverging, elsewhere, {"name": "sound"}, seeds=2)).run(Diary().watch)
    assert [one.state for one in report.entries] == ["failed", "failed", "done"]
    assert "seed 0: the loss became nan" in report.entries[0].why
    assert "seed 0: device cuda was asked for" in report.entries[1].why
    assert report.baseline == "sound"
    assert "the baseline diverging has no run" in report.notes[0]
    assert [one.name for one in report.failed] == ["diverging", "elsewhere"]


def test_a_comparison_cut_short_goes_on_where_it_was_and_leaves_what_it_has(bench: Bench, tmp_path: Path) -> None:
    def interrupted(arguments: list[str], progress: Callable[[Progress], None]) -> None:
        if '"adam"' in arguments[1]:
            raise KeyboardInterrupt
        train_here(arguments, progress)

    bench.train, diary = interrupted, Diary()
    with pytest.raises(KeyboardInterrupt):
        bench.series(TWO).run(diary.watch)
    assert not list((bench.container.home.comparisons / "runs").glob(".*"))
    partial = diary.kept[-1]
    assert [one.state for one in partial.entries] == ["waiting", "waiting"]
    assert partial.entries[0].standing["auc"].around is None
    assert not partial.finished
    write_report(partial, tmp_path)
    assert "Not finished" in (tmp_path / PAGE).read_text()
    assert json.loads((tmp_path / JSON).read_text())["entries"][1]["standing"] == {}
    bench.train, diary = train_here, Diary()
    assert bench.series(TWO).run(diary.watch).finished
    assert diary.found == ["wide_deep 0"]
    assert len(diary.began) == 3


def test_data_that_was_replaced_meanwhile_ends_the_comparison_and_keeps_nothing_of_it(bench: Bench) -> None:
    data = bench.container.home.data

    def moving(arguments: list[str], progress: Callable[[Progress], None]) -> None:
        train_here(arguments, progress)
        before = read(data)
        write(replace(before, examples=before.examples.head(1000)), data)

    bench.train = moving
    with pytest.raises(DataMoved, match="was replaced"):
        bench.series(TWO).run(Diary().watch)
    assert not list((bench.container.home.comparisons / "runs").iterdir())


def test_each_half_of_wide_and_deep_has_its_share(bench: Bench) -> None:
    halves = plan_of(
        {
            "contestants": [
                {"name": "both", "arch": "wide_deep", "params": SMALL["params"]},
                {"name": "wide only", "arch": "wide_deep", "params": SMALL["params"] | {"deep": False}},
                {"name": "deep only", "arch": "wide_deep", "params": SMALL["params"] | {"wide": False}},
            ],
            "defaults": {"epochs": 1},
        },
        {},
    )
    report = bench.series(halves).run(Diary().watch)
    assert report.halves is not None
    assert report.halves.wide_adds is not None
    gains = {one.name: one.standing["auc"].gain for one in report.entries}
    for name, adds in (("wide only", report.halves.deep_adds), ("deep only", report.halves.wide_adds)):
        lost = gains[name]
        assert adds is not None
        assert lost is not None
        assert adds.mean == pytest.approx(-lost.mean)


def test_a_gate_split_of_a_few_groups_has_values_and_says_why_no_intervals(bench: Bench) -> None:
    data = bench.container.home.data
    before = read(data)
    same = ("user_id", "request_id", *before.schema.from_source(Source.CONTEXT))
    alone = [pl.col(name).first() for name in same if name in before.examples.columns]
    write(replace(before, examples=before.examples.with_columns(alone)), data)
    report = bench.series(TWO).run(Diary().watch)
    first, second = (one.standing["auc"] for one in report.entries)
    assert (first.around, second.gain, report.judged.resamples) == (None, None, 0)
    assert "1 groups of rows ranked together, too few" in " ".join(report.notes)


def test_what_the_halves_add_is_not_told_before_it_is_known(bench: Bench) -> None:
    halves = plan(*({"name": name} for name in ("wide_deep", "wide", "deep")))
    diary = Diary()
    assert bench.series(halves).run(diary.watch).halves is not None
    assert diary.kept[2].entries[2].state == "done"
    assert diary.kept[2].halves is None


def test_a_gate_split_of_one_class_is_refused_before_anything_is_trained(bench: Bench) -> None:
    data = bench.container.home.data
    before = read(data)
    write(replace(before, examples=before.examples.filter((pl.col("split") != "gate") | (pl.col("label") == 1))), data)
    with pytest.raises(NothingToJudge, match="both classes are needed to compare, so import a log"):
        bench.series(TWO)


def test_a_kept_contestant_is_a_challenger_like_any_other(bench: Bench) -> None:
    series = bench.series(TWO)
    series.run(Diary().watch)
    version = keep(bench.container, "adam", series.results.runs["adam"])
    entered = bench.container.registry.get(version)
    assert (entered.state, entered.recipe) == ("challenger", "adam")
    best = max(run.record.stop["auc"] for run in series.results.runs["adam"])
    assert entered.metrics["auc"] == best
    assert gate_version(bench.container, version).version == version
    assert bench.container.registry.live() != version


def test_a_contestant_that_failed_cannot_be_kept(bench: Bench) -> None:
    with pytest.raises(NothingToKeep, match="broken"):
        keep(bench.container, "broken", [])


def test_a_run_that_leaves_nothing_behind_has_failed(bench: Bench) -> None:
    bench.train = lambda arguments, progress: None
    with pytest.raises(RunFailed, match="left no run"):
        bench.course().runs.made(Wanted(TrainConfig(), bench.container.home.data, "key"), progress=lambda step: None)


def test_the_same_plan_on_the_same_data_has_the_same_folder(container: Container) -> None:
    assert folder_of(container, TWO, "d") == folder_of(container, TWO, "d")
    assert folder_of(container, TWO, "d") != folder_of(container, TWO, "e")


@dataclass
class Shelf:
    """Runs that are only folders, used at a time each."""

    folder: Path

    @property
    def runs(self) -> Runs:
        """With a clock that stands at 50."""
        return Runs(self.folder, lambda *told: None, lambda: 50.0, lambda: "a")

    @property
    def standing(self) -> list[str]:
        """What lies there."""
        return sorted(one.name for one in self.folder.iterdir())

    def put(self, **used: float) -> None:
        """Runs by name, and when each was used last."""
        for name, at in used.items():
            (self.folder / name).mkdir(parents=True)
            os.utime(self.folder / name, (at, at))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    one = Shelf(tmp_path / "runs")
    one.put(old=10, older=5, newer=20, newest=50)
    return one


def test_the_runs_that_were_used_longest_ago_are_swept(shelf: Shelf) -> None:
    assert shelf.runs.sweep(keep=2, since=50) == 2
    assert shelf.standing == ["newer", "newest"]
    assert shelf.runs.sweep(keep=2, since=50) == 0


def test_what_one_comparison_used_stays_however_much_that_is(shelf: Shelf) -> None:
    assert shelf.runs.sweep(keep=1, since=10) == 1
    assert shelf.standing == ["newer", "newest", "old"]


def test_a_run_that_was_found_again_was_used_now(bench: Bench) -> None:
    one = plan({"name": "one", "arch": "wide_deep"})
    bench.series(one).run(Diary().watch)
    runs = bench.course().runs
    (folder,) = runs.folder.iterdir()
    os.utime(folder, (0, 0))
    bench.series(one).run(Diary().watch)
    assert folder.stat().st_mtime == runs.clock()


def test_nothing_is_swept_while_another_comparison_goes_on(shelf: Shelf) -> None:
    with shelf.runs.in_use():
        assert shelf.runs.sweep(keep=1, since=50) == 0
    assert len(shelf.standing) == 4


def test_what_a_killed_comparison_left_half_made_is_swept_with_the_locks_of_runs_that_are_no_more(
    shelf: Shelf, tmp_path: Path
) -> None:
    (shelf.folder / ".half.partial").mkdir()
    (tmp_path / "locks").mkdir()
    for name in ("newest", "half", "gone"):
        (tmp_path / "locks" / name).touch()
    assert shelf.runs.sweep(keep=9, since=50) == 0
    assert len(shelf.standing) == 4
    assert [one.name for one in (tmp_path / "locks").iterdir()] == ["newest"]
