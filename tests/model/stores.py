"""A small store whose apps have known qualities, and bundles of nets whose weights are written by hand: no training."""

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from model.bundle import Bundle, Golden, Manifest
from model.data.dataset import Dataset, Facts
from model.fitting import fit
from model.query import App, Query
from model.schema import FeatureSchema
from model.scorer import Scorer
from model.zoo import build

VERSION = "20261120T194846Z-1a2b3c"
LATER = "20261121T070000Z-00ff00"
WIDE: dict[str, Any] = {"deep": False}
SCHEMA = FeatureSchema.model_validate(
    {
        "fields": [
            {"name": "user_id", "source": "user", "kind": "categorical"},
            {"name": "country", "source": "context", "kind": "categorical"},
            {"name": "installed", "source": "history", "kind": "multi"},
            {"name": "app_id", "source": "app", "kind": "categorical"},
        ]
    }
)
APP_COUNT, USER_COUNT, SHELF = 40, 120, 12


def qualities(*, noise: float = 0.0) -> npt.NDArray[np.float64]:
    """(APP_COUNT,) the log odds that each app is installed, known up to some noise."""
    rng = np.random.default_rng(5)
    return rng.normal(-1, 1.2, APP_COUNT) + noise * rng.normal(size=APP_COUNT)


def store(*, requests: int = 700, schema: FeatureSchema = SCHEMA) -> Dataset:
    """A log of `requests` shelves of SHELF apps, the last 3 in 7 the gate's; the last 20 users come in those alone."""
    rng = np.random.default_rng(0)
    gate = np.arange(requests) >= requests * 4 // 7
    user = np.where(gate, rng.integers(0, USER_COUNT, requests), rng.integers(0, USER_COUNT - 20, requests))
    app = np.argsort(rng.random((requests, APP_COUNT)), axis=1)[:, :SHELF].ravel()
    label = rng.random(app.size) < 1 / (1 + np.exp(-qualities()[app]))
    examples = pl.DataFrame(
        {
            "user_id": [f"u{one}" for one in np.repeat(user, SHELF)],
            "app_id": [f"com.app{one}" for one in app],
            "label": pl.Series(label.astype(np.int8)),
            "split": np.repeat(np.where(gate, "gate", "train"), SHELF),
            "request_id": [f"r{one}" for one in np.repeat(np.arange(requests), SHELF)],
            "country": np.repeat(np.where(rng.random(requests) < 0.8, "PT", "GR"), SHELF),
        }
    )
    none = pl.lit([], dtype=pl.List(pl.String))
    apps = pl.DataFrame({"app_id": [f"com.app{one}" for one in range(APP_COUNT)], "available": True})
    users = pl.DataFrame({"user_id": [f"u{one}" for one in range(USER_COUNT)]})
    facts = Facts("test", False, 1.0, "logged", None, {})
    return Dataset(schema, examples, apps.with_columns(countries=none), users.with_columns(installed=none), facts)


def bundle_of(dataset: Dataset, *, version: str = VERSION, noise: float = 0.0, params: dict[str, Any] = WIDE) -> Bundle:
    """A net whose wide side knows the apps' qualities; `params` may add a deep side of random weights."""
    transform = fit(dataset.schema, dataset)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build("wide_deep", params, transform.sizes)
    places = transform.vocabularies["app_id"].ids(f"com.app{one}" for one in range(APP_COUNT))
    table = cast(torch.Tensor, net.state_dict()["wide.app.table"])
    table[torch.from_numpy(places), 0] = torch.from_numpy(qualities(noise=noise)).float()
    manifest = Manifest(
        version=version,
        created_at="2026-11-20T19:48:46+00:00",
        architecture="wide_deep",
        params=params,
        config={},
        recipe="paper",
        schema_fingerprint=dataset.schema.fingerprint(),
        parent=None,
        facts={},
        metrics={},
        sampling_rate=1.0,
    )
    unproven = Bundle(manifest, dataset.schema, transform, net.state_dict(), {}, (), None)
    return prove(unproven)


def prove(bundle: Bundle) -> Bundle:
    """The bundle with golden requests as its own weights score them."""
    scorer, golden = Scorer.of(bundle), []
    for place in range(8):
        query = Query(f"u{place}", {}, {"country": "PT"}, {f"com.app{place}": 2})
        apps = tuple(App(f"com.app{(place * 5 + one) % APP_COUNT}") for one in range(10))
        scores = scorer.score(query, scorer.table(apps), np.arange(len(apps)))
        golden.append(Golden(query, apps, tuple(scores.tolist())))
    return Bundle(**{**vars(bundle), "golden": tuple(golden)})
