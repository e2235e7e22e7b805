"""What the first bodies' ten should be: the plain fp32 scorer's answer, computed here, and how a server's compares."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from bench.reference import Reference
from model.bundle import load
from model.query import App, Query
from model.scorer import Scorer
from service.container import build
from service.settings import Settings
from service.store.ports import FeatureStore

CHECKED = 50
CANDIDATES = 200
TIE = 2e-6
"""Scores this close may stand in either order: fp32 sums taken in another order differ by as much."""

Ten = Sequence[tuple[str, float]]
"""App ids and scores, best first."""


@dataclass(frozen=True)
class Agreement:
    """overlap: mean share of the reference's ten that was answered; same: share of answers that are the reference's
    ten in its order; error: the largest difference of a score."""

    overlap: float
    same: float
    error: float


def reference_tens(reference: Reference) -> list[list[tuple[str, float]]]:
    """The ten best of the first CHECKED bodies of CANDIDATES candidates, kept in the home once computed."""
    file = reference.root / "tens.json"
    if not file.exists():
        file.write_text(json.dumps(_computed(reference)), encoding="utf-8")
    return [[(app_id, score) for app_id, score in ten] for ten in json.loads(file.read_text(encoding="utf-8"))]


def _computed(reference: Reference) -> list[Ten]:
    container = build(Settings.from_env({"APPSHELF_HOME": str(reference.root)}))
    scorer = Scorer.of(load(container.registry.folder(reference.version)))
    return [_ten(scorer, json.loads(body), container.features) for body in reference.bodies(CANDIDATES)[:CHECKED]]


def _ten(scorer: Scorer, body: dict[str, Any], features: FeatureStore) -> Ten:
    user, apps = features.get_user(body["user"]["id"]), [features.get_app(name) for name in body["candidates"]]
    if user is None or not all(apps):
        raise RuntimeError("the home lacks a user or an app of its own bodies; delete it and make it again")
    query = Query(user.id, user.features, body["context"], user.history)
    table = scorer.table([App(app.id, app.features) for app in apps if app])
    scores = scorer.score(query, table, np.arange(len(apps)))
    best = sorted(zip(body["candidates"], scores.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    return best[: body["k"]]


def ten_of(content: bytes) -> Ten:
    """The ten in an answer to `/rank`, a peer's or ours."""
    return [(item["app_id"], item["score"]) for item in json.loads(content)["items"]]


def compare(answers: Sequence[Ten], references: Sequence[Ten]) -> Agreement:
    """How well answers agree with the reference's, request by request."""
    pairs = [list(zip(mine, theirs, strict=True)) for mine, theirs in zip(answers, references, strict=True)]
    shared = [
        len({app for app, _ in mine} & {app for app, _ in theirs}) / len(theirs)
        for mine, theirs in zip(answers, references, strict=True)
    ]
    same = [all(m[0] == t[0] or abs(m[1] - t[1]) <= TIE for m, t in ten) for ten in pairs]
    return Agreement(fmean(shared), fmean(same), max(abs(m[1] - t[1]) for ten in pairs for m, t in ten))
