"""Random schemas with an encoder and a net of random weights, and random queries and apps for them: no training."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from model.crosses import Crosses
from model.population import MISSING, Contexts, Neighbours, Population, population_fields
from model.query import NULL, App, Query
from model.schema import CrossSpec, FeatureSchema, FieldSpec, Kind, Source
from model.scorer import Scorer
from model.transforms import Transform
from model.vocabulary import Quantiles, Vocabulary
from model.zoo import build
from tests.model.nets import scrambled

FIELDS: Mapping[str, dict[str, Any]] = {
    "user_id": {"source": "user", "kind": "categorical"},
    "plan": {"source": "user", "kind": "categorical", "dim": 3},
    "likes": {"source": "user", "kind": "multi", "max_values": 3},
    "age": {"source": "user", "kind": "continuous"},
    "daytime": {"source": "context", "kind": "categorical"},
    "device": {"source": "context", "kind": "categorical"},
    "near": {"source": "context", "kind": "multi"},
    "speed": {"source": "context", "kind": "continuous"},
    "installed": {"source": "history", "kind": "multi", "max_values": 4},
    "app_id": {"source": "app", "kind": "categorical"},
    "category": {"source": "app", "kind": "categorical"},
    "tags": {"source": "app", "kind": "multi"},
    "rating": {"source": "app", "kind": "continuous"},
    "own_uses": {"source": "pair", "kind": "continuous", "of": "uses"},
    "other_users": {"source": "pair", "kind": "continuous", "of": "others"},
    "users_now": {"source": "pair", "kind": "continuous", "of": "in_context", "by": "daytime"},
    "users_of_plan": {"source": "pair", "kind": "continuous", "of": "in_context", "by": "plan"},
    "beside": {"source": "pair", "kind": "continuous", "of": "similar"},
}
CROSSED = [
    ("user_id", "app_id"), ("installed", "app_id"), ("daytime", "device", "app_id"), ("likes", "daytime", "category"),
    ("plan", "category", "app_id"), ("user_id", "daytime"), ("installed", "plan"), ("near", "user_id"),
    ("device", "daytime"), ("app_id", "category"),
]  # fmt: skip
KNOWN = [f"v{number}" for number in range(6)]
TEXTS = [*KNOWN, "v6", "v7", "2", "true"]
BOUNDARIES = (0.5, 1.0, 2.0)
NET: Mapping[str, Any] = {"dim": 4, "hidden": (16, 8)}


@st.composite
def schemas(draw: st.DrawFn) -> FeatureSchema:
    """Any of the fields with any of their crosses; an app and a user have an id."""
    extra = draw(st.sets(st.sampled_from([name for name in FIELDS if name not in ("user_id", "app_id")])))
    counted = {str(FIELDS[name]["by"]) for name in extra if "by" in FIELDS[name]}
    names = [name for name in FIELDS if name in extra | counted | {"user_id", "app_id"}]
    possible = [fields for fields in CROSSED if set(fields) <= set(names)]
    chosen = draw(st.lists(st.sampled_from(possible), unique=True)) if possible else []
    crosses = [CrossSpec(fields=fields, bits=draw(st.integers(4, 9)), exact=draw(st.booleans())) for fields in chosen]
    return schema_of(names, crosses)


def schema_of(names: Sequence[str], crosses: Sequence[CrossSpec]) -> FeatureSchema:
    """These of the fields, in their order."""
    fields = tuple(FieldSpec(name=name, **FIELDS[name]) for name in names)
    return FeatureSchema(fields=fields, crosses=tuple(crosses))


EVERYTHING = schema_of([*FIELDS], [CrossSpec(fields=one, bits=8, exact=len(one[0]) == 7) for one in CROSSED])

TEXT = st.sampled_from(TEXTS)
NUMBER = st.sampled_from([0.0, 0.5, 1.0, 1.5, 3.0, 2, -1])
VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    Kind.CATEGORICAL: st.one_of(TEXT, st.none(), st.integers(0, 3), st.booleans()),
    Kind.CONTINUOUS: st.one_of(NUMBER, st.none()),
    Kind.MULTI: st.one_of(st.lists(TEXT, max_size=5), st.none()),
}


def features(schema: FeatureSchema, source: Source) -> st.SearchStrategy[dict[str, Any]]:
    """Values for some of the fields of a source; unknown, null and missing ones too."""
    fields = schema.from_source(source)
    optional = {name: VALUES[field.kind] for name, field in fields.items() if name not in ("user_id", "app_id")}
    return st.fixed_dictionaries({}, optional=optional)


def queries(schema: FeatureSchema) -> st.SearchStrategy[Query]:
    """Queries of few users, so that the same user comes again with other values."""
    histories = st.dictionaries(TEXT, st.integers(1, 4), max_size=7)
    users = st.sampled_from(["v0", "v1", "stranger"])
    return st.builds(Query, users, features(schema, Source.USER), features(schema, Source.CONTEXT), histories)


def apps(seed: int, count: int) -> list[App]:
    """Apps `v0`, `v1`, ... with random values, some missing."""
    rng = np.random.default_rng(seed)
    return [
        App(
            f"v{place}",
            {"category": str(rng.choice(TEXTS)), "tags": [str(one) for one in rng.choice(TEXTS, rng.integers(0, 3))]}
            | ({"rating": float(rng.normal(1, 1))} if rng.random() < 0.8 else {}),
        )
        for place in range(count)
    ]


def scorer_of(
    schema: FeatureSchema, *, architecture: str = "wide_deep", params: Mapping[str, Any] = NET, log_rate: float = 0.0
) -> Scorer:
    """A scorer of random weights."""
    transform = transform_of(schema)
    with torch.random.fork_rng(devices=[]):
        net = build(architecture, params, transform.sizes)
    scrambled(net)
    spread = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=spread) * max(tensor.shape[-1], 1) ** -0.5)
    return Scorer("v", schema, transform, net.requires_grad_(False).eval(), log_rate)


def transform_of(schema: FeatureSchema) -> Transform:
    """An encoder that knows the values of KNOWN, and half of the keys that some requests and apps make."""
    ids = [field.name for field in schema.fields if field.kind is not Kind.CONTINUOUS]
    vocabularies = {name: Vocabulary(name, (*KNOWN, "true"), np.ones(len(KNOWN) + 4, dtype=np.int64)) for name in ids}
    quantiles = {field.name: Quantiles(BOUNDARIES) for field in schema.fields if field.kind is Kind.CONTINUOUS}
    none = {cross.name: np.empty(0, dtype=np.int64) for cross in schema.crosses if cross.exact}
    audience = {f"v{place}": place for place in range(9)}
    crosses = Crosses(schema, vocabularies, none)
    blank = Transform(schema, vocabularies, quantiles, crosses, audience, population_of(schema))
    return replace(blank, crosses=Crosses(schema, vocabularies, _seen(blank, none)))


def population_of(schema: FeatureSchema) -> Population:
    """What random users did with the apps `v0` to `v8` under random values."""
    rng, apps = np.random.default_rng(1), 9
    contexts = {one.by: _contexts(rng, apps) for one in population_fields(schema) if one.by is not None}
    both = np.triu(rng.integers(0, 3, (apps, apps)), 1)
    both += both.T
    counts = both[both > 0].astype(np.int32)
    starts = np.append(0, (both > 0).sum(1).cumsum())
    users = both.max(1) + rng.integers(0, 3, apps)
    neighbours = Neighbours(users, starts, np.nonzero(both)[1].astype(np.int32), counts)
    return Population(tuple(f"v{place}" for place in range(apps)), contexts, neighbours)


def _contexts(rng: np.random.Generator, apps: int) -> Contexts:
    values = ("v0", "v1", "v2", NULL, MISSING)
    users = rng.integers(0, 4, (len(values), apps))
    counts = users[users > 0].astype(np.int32)
    starts = np.append(0, (users > 0).sum(1).cumsum())
    return Contexts(values, starts, np.nonzero(users)[1].astype(np.int32), counts)


def _seen(blank: Transform, none: Mapping[str, Any]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    columns = {
        field.name: [
            [str(one) for one in rng.choice(KNOWN, 2)] if field.kind is Kind.MULTI else str(rng.choice(KNOWN))
            for _ in range(200)
        ]
        for field in blank.schema.fields
        if field.kind is not Kind.CONTINUOUS
    }
    keys = blank.crosses.exact_keys(blank.requests(columns, 200), blank.apps(columns, 200))
    return {name: np.unique(keys[name].values.numpy())[::2].copy() for name in none}
