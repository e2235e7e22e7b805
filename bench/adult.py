"""Wide & Deep on Adult (Census Income), the data of its first tutorial: accuracy of both halves and of the whole.

    python -m bench.adult PATH [--seeds 5] [--test] [--json figures.json]

PATH holds `adult/`. A tenth of adult.data stops training, another tenth is what settings were chosen on, adult.test is
opened only with --test. A person is the request's context and there is one app, "earns more than 50K", so that it
runs through the same schema, encoder and training as a store's log. `fnlwgt`, a survey weight, is left out.
Beside the settings that were looked for on that tenth stands each recipe with every option at its default.
"""

import argparse
import gzip
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch

from bench.quality import figure, markdown
from model.data.dataset import Dataset
from model.data.examples import encode, rows_of
from model.data.prepare import prepare
from model.data.readers import RawLog, Table
from model.metrics import auc, log_loss
from model.optim import RECIPES
from model.schema import CrossSpec, FeatureSchema, FieldSpec, Kind, LogSpec, Source
from model.training import Progress, TrainConfig, probabilities, train

COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship"),
    *("race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income"),
)
TEXTS = (
    *("workclass", "education", "marital_status", "occupation", "relationship", "race", "sex", "native_country"),
)  # fmt: skip
NUMBERS = ("age", "education_num", "capital_gain", "capital_loss", "hours_per_week")
CUTS: Mapping[str, Sequence[float]] = {
    "age": (18, 21, 25, 30, 35, 40, 45, 50, 55, 60, 65),
    "hours_per_week": (20, 30, 35, 39, 40, 45, 50, 55, 60),
    "capital_gain": (0, 3000, 4000, 5000, 5500, 6500, 7000, 7500, 8000, 10000, 15000),
    "capital_loss": (0, 1400, 1600, 1700, 1800, 1880, 1950, 2000, 2200, 2400),
}
CROSSES = (
    ("education", "occupation"),
    ("age_range", "education", "occupation"),
    ("native_country", "occupation"),
    ("relationship", "education"),
    ("marital_status", "occupation"),
    ("relationship", "hours_per_week_range"),
)
PUBLISHED = {"wide": ".836", "deep": "-", "wide_deep": ".844"}
WHOLE = TrainConfig(
    recipe="paper",
    recipe_options={"alpha": 0.05, "l1": 1.0, "rate": 0.02},
    params={"dim": 8, "hidden": (100, 50)},
    batch_size=256,
    epochs=30,
    patience=4,
)
CONFIGS: Mapping[str, TrainConfig] = {
    "wide": WHOLE.model_copy(update={"params": {**WHOLE.params, "deep": False}}),
    "deep": WHOLE.model_copy(update={"params": {**WHOLE.params, "wide": False}}),
    "wide_deep": WHOLE,
    **{f"wide_deep, {recipe} as it comes": TrainConfig(recipe=recipe) for recipe in RECIPES},
}
LEAST = 0.855


@dataclass(frozen=True)
class Scored:
    """One run: which half, its seed, and the share of rows on the right side of one half."""

    name: str
    seed: int
    epochs: int
    accuracy: float
    auc: float
    log_loss: float


def read(file: Path) -> pl.DataFrame:
    """The rows of adult.data or adult.test as text; `?` is null. The test file's comment line and dots are dropped."""
    lines = [line for line in gzip.decompress(file.read_bytes()).decode().splitlines() if "," in line]
    rows = [[value.strip() for value in line.split(",")] for line in lines]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")
    known = pl.all().replace("?", None)
    return frame.select(known).with_columns(pl.col("income").str.strip_chars_end("."), *map(_number, NUMBERS))


def schema() -> FeatureSchema:
    """A person's fields, four of the numbers also as ranges, and the crosses of the tutorial with a few more."""
    context = [FieldSpec(name=name, source=Source.CONTEXT, kind=Kind.CATEGORICAL) for name in TEXTS]
    context += [FieldSpec(name=f"{name}_range", source=Source.CONTEXT, kind=Kind.CATEGORICAL) for name in CUTS]
    context += [FieldSpec(name=name, source=Source.CONTEXT, kind=Kind.CONTINUOUS, quantiles=50) for name in NUMBERS]
    return FeatureSchema(
        fields=tuple(context),
        crosses=tuple(CrossSpec(fields=fields, exact=True, min_count=2) for fields in CROSSES),
        log=LogSpec(user="person", app="question", split="split", label="income", positive=(">50K",)),
    )


def dataset(folder: Path, *, test: bool = False) -> Dataset:
    """adult.data cut into train, stop and gate by a fixed draw; with `test`, adult.test stands in gate instead."""
    rows = read(folder / "adult" / "adult.data.gz")
    part = np.random.default_rng(0).choice(["train", "stop", "gate"], size=len(rows), p=[0.8, 0.1, 0.1])
    learned = rows.with_columns(pl.Series("split", part))
    if test:
        judged = read(folder / "adult" / "adult.test.gz").with_columns(split=pl.lit("gate"))
        learned = pl.concat([learned.filter(pl.col("split") != "gate"), judged])
    ranges = [pl.sum_horizontal(pl.col(name) > cut for cut in CUTS[name]).cast(pl.String) for name in CUTS]
    named = [values.alias(f"{name}_range") for name, values in zip(CUTS, ranges, strict=True)]
    people = learned.with_columns(named).with_row_index("person").with_columns(question=pl.lit("over 50K"))
    log = people.with_columns(pl.col("person").cast(pl.String)).drop("fnlwgt")
    return prepare(RawLog("adult", Table.of("adult", log)), schema())[0]


def run(name: str, seed: int, made: Dataset) -> Scored:
    """Train one net and judge it on split `gate`."""
    config = CONFIGS[name].model_copy(update={"seed": seed})
    result = train(config, made, progress=partial(_tell, name))
    rows = rows_of(made, "gate")
    scores, label = probabilities(result.net, encode(result.transform, made, rows)), rows["label"].to_numpy()
    right = float(((scores > 0.5) == (label > 0)).mean())
    return Scored(name, seed, result.epochs, right, auc(label, scores), log_loss(label, scores))


def report(found: Sequence[Scored], *, test: bool) -> str:
    """Both tables."""
    part = "adult.test, read once" if test else "a tenth of adult.data (adult.test was not opened)"
    rows = []
    for name in CONFIGS:
        runs = [one for one in found if one.name == name]
        accuracy = [one.accuracy for one in runs]
        missed = test and name == "wide_deep" and statistics.mean(accuracy) < LEAST
        shown = figure(accuracy, places=4) + (" (missed)" if missed else "")
        least = f"{LEAST:.3f}".removeprefix("0") if name == "wide_deep" else "-"
        others = (figure([getattr(one, of) for one in runs], places=4) for of in ("auc", "log_loss"))
        rows.append((name, PUBLISHED.get(name, "-"), least, len(runs), shown, *others))
    each = [
        (one.name, one.seed, f"{one.accuracy:.4f}", f"{one.auc:.4f}", f"{one.log_loss:.4f}", one.epochs)
        for one in found
    ]
    return "\n".join(
        [
            f"Adult, {part}:",
            "",
            markdown(("net", "tutorial", "at least", "seeds", "accuracy", "AUC", "log loss"), rows),
            "",
            "Every run:",
            "",
            markdown(("net", "seed", "accuracy", "AUC", "log loss", "epochs"), each),
        ]
    )


def main() -> None:
    """Train all of CONFIGS, print the tables, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--test", action="store_true", help="read adult.test; once everything is chosen")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    made = dataset(arguments.data, test=arguments.test)
    found = [run(name, seed, made) for name in CONFIGS for seed in range(1, arguments.seeds + 1)]
    print(report(found, test=arguments.test))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in found], indent=1), encoding="utf-8")


def _number(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Float64)


def _tell(name: str, progress: Progress) -> None:
    if progress.step == progress.steps:
        print(f"{name}: epoch {progress.epoch}, loss {progress.loss:.4f}, AUC before {progress.auc}", file=sys.stderr)


if __name__ == "__main__":
    main()
