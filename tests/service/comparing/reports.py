"""Reports made by hand: what a comparison of a few contestants would have found."""

from dataclasses import replace

from model.comparison import Estimate
from model.metrics import Interval
from service.comparing.latency import Served
from service.comparing.report import Cost, Curve, Entry, Halves, Judged, Report, Slice


def around(value: float, half: float) -> Interval:
    return Interval(value - half, value, value + half)


def entry(name: str, auc: float, *, gain: float | None = None, p50_ms: float = 0.5) -> Entry:
    """A contestant that was trained with two seeds, judged and timed."""
    over = None if gain is None else around(gain, 0.002)
    standing = {
        "auc": Estimate(auc, 0.0004, around(auc, 0.01), over),
        "log_loss": Estimate(0.3, 0.0002, around(0.3, 0.01), over),
        "calibration": Estimate(0.02, 0.001, around(0.02, 0.01), over),
    }
    points = tuple({"epoch": turn, "auc": auc - 0.05 / turn, "loss": 0.4, "log_loss": 0.35} for turn in (1, 2, 3))
    return Entry(
        name=name,
        architecture="wide_deep",
        recipe="paper",
        config={"batch_size": 512, "params": {"hidden": [16], "note": "<b>&"}, "recipe_options": {}},
        state="done",
        why="",
        seeds=(0, 1),
        standing=standing,
        by_seed=(auc - 0.001, auc + 0.001),
        slices={"new_users": {"auc": standing["auc"]}},
        cost=Cost(1_128_531, 2_300_000, 12.5, 4.5, 410.0),
        served=Served("exact", 200, 5000, 300, p50_ms, 3 * p50_ms),
        curves=(Curve(0, 3, points), Curve(1, 3, points[:2])),
    )


def failed(name: str, why: str) -> Entry:
    """A contestant that came to no end."""
    blank = replace(entry(name, 0.5), state="failed", why=why, standing={}, by_seed=(), slices={})
    return replace(blank, cost=None, served=None, curves=())


def report(*entries: Entry, finished: bool = True) -> Report:
    """A report whose baseline is the first of them."""
    slices = (Slice("new_users", 700, 120, ""), Slice("new_apps", 34, 2, "500 rows are needed"))
    judged = Judged("parquet: <log>", "ab" * 32, {"train": 15814, "stop": 1978, "gate": 1972}, "137 users", 200, slices)
    return Report(
        created_at="2026-11-21T18:13:20+00:00",
        software="0.4.0",
        machine="a processor, 2 hardware thread(s)",
        judged=judged,
        baseline=entries[0].name,
        seeds=2,
        finished=finished,
        entries=entries,
        halves=Halves(entries[0].name, around(0.001, 0.0005), around(0.03, 0.002)),
    )


def whole() -> Report:
    """A comparison with all there can be in it."""
    names = ["lr", "fm", "ffm", "fnn", "pnn", "deepfm", "dcn_v2", "deep_crossing", "a contestant of a long name (2)"]
    others = [
        entry(name.replace("(", "").replace(")", ""), 0.70 + place / 200, gain=place / 500 - 0.006, p50_ms=0.4 + place)
        for place, name in enumerate(names)
    ]
    return report(entry("wide_deep", 0.72), *others, failed("broken", "seed 0: the loss became nan <at> epoch 1"))
