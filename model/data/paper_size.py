"""Work of the size that Cheng et al. 2016 describe, with a network that has learned nothing, to be timed and no more.

1200 values go into 1024-512-256: 24 categorical fields of a request and 12 of an app, embedded in 32 dimensions each,
and 24 continuous ones of either; 60 crosses of both sides in a table of about 2^20 rows.
"""

import math

import numpy as np
import torch

from model.crosses import Crosses
from model.query import App, Query, Value
from model.schema import CrossSpec, FeatureSchema, FieldSpec, Kind, Source
from model.scorer import Scorer
from model.transforms import Transform
from model.vocabulary import FIRST_ID, Quantiles, Vocabulary
from model.zoo import build

IDS = {Source.USER: 20, Source.CONTEXT: 4, Source.APP: 11}
NUMBERS = {Source.USER: 22, Source.CONTEXT: 2, Source.APP: 24}
VALUES, CUTS = 1_000, 100
CROSSES, CROSS_BITS, CROSS_STD = 60, 14, 0.1


def schema() -> FeatureSchema:
    """The fields, `app_id` among them, and the crosses of a request's field with an app's."""
    ids = [_field(source, number, Kind.CATEGORICAL) for source, count in IDS.items() for number in range(count)]
    numbers = [_field(source, number, Kind.CONTINUOUS) for source, count in NUMBERS.items() for number in range(count)]
    app_id = FieldSpec(name="app_id", source=Source.APP, kind=Kind.CATEGORICAL)
    mine, theirs = ([one.name for one in ids if (one.source is Source.APP) is app] for app in (False, True))
    pairs = [(mine[n % len(mine)], theirs[(n + n // len(mine)) % len(theirs)]) for n in range(CROSSES)]
    crosses = tuple(CrossSpec(fields=pair, bits=CROSS_BITS) for pair in pairs)
    return FeatureSchema(fields=(*ids, app_id, *numbers), crosses=crosses)


def scorer(*, seed: int) -> Scorer:
    """A network of random weights; the crosses' make it tell one app from another as a trained one does."""
    fields = schema()
    named = [field for field in fields.fields if field.kind is Kind.CATEGORICAL]
    counts = np.ones(FIRST_ID + VALUES, dtype=np.int64)
    vocabularies = {one.name: Vocabulary(one.name, tuple(map(_value, range(VALUES))), counts) for one in named}
    cuts = Quantiles(tuple(np.linspace(0, 1, CUTS).tolist()))
    quantiles = {field.name: cuts for field in fields.fields if field.kind is Kind.CONTINUOUS}
    transform = Transform(fields, vocabularies, quantiles, Crosses(fields, vocabularies, {}), {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build("wide_deep", {}, transform.sizes)
        for name, weights in net.named_parameters():
            if name.endswith("crosses"):
                torch.nn.init.normal_(weights, std=CROSS_STD)
    net.requires_grad_(False).eval()
    return Scorer("paper-size", fields, transform, net, math.log(1.0))


def apps(count: int, *, seed: int) -> list[App]:
    """A catalogue."""
    drawn = _drawn(count, (Source.APP,), seed=seed)
    return [App(f"com.studio.app{number:06d}", features) for number, features in enumerate(drawn)]


def queries(count: int, *, seed: int) -> list[Query]:
    """Requests of as many users."""
    users = _drawn(count, (Source.USER,), seed=seed)
    contexts = _drawn(count, (Source.CONTEXT,), seed=seed + 1)
    return [Query(f"u{number}", *sides) for number, sides in enumerate(zip(users, contexts, strict=True))]


def _drawn(count: int, sources: tuple[Source, ...], *, seed: int) -> list[dict[str, Value]]:
    rng = np.random.default_rng(seed)
    fields = [field for field in schema().fields if field.source in sources and field.name != "app_id"]
    columns = [
        map(_value, rng.integers(VALUES, size=count).tolist())
        if field.kind is Kind.CATEGORICAL
        else rng.random(count).tolist()
        for field in fields
    ]
    names = [field.name for field in fields]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _field(source: Source, number: int, kind: Kind) -> FieldSpec:
    return FieldSpec(name=f"{source}_{kind}_{number}", source=source, kind=kind)


def _value(number: int) -> str:
    return f"v{number}"
