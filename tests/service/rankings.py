"""A store that is ranked for real and logs what it shows, at times that a test sets: what windows are read from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import torch

from model.data.dataset import Dataset
from model.fast_scorer import FastScorer, Precision
from model.fitting import fit
from model.query import Value
from model.schema import FieldSpec, Kind, PairStatistic, Source
from model.scorer import Scorer
from model.zoo import build
from service.catalogue import Shelf
from service.engine import Engine, Live
from service.fetching import Fetched
from service.home import Home
from service.importing import keep
from service.ranker import Ranker, RankerParts, RankQuery
from service.store.log_ports import Feedback, Impression
from service.store.sqlite_backend import open_sqlite
from tests.service.clock import Clock
from tests.service.store_front import DAYTIMES, SCHEMA, USERS, dataset

DAY = 86_400.0
NOW = 20_000 * DAY
OTHERS = FieldSpec(name="other_users", source=Source.PAIR, kind=Kind.CONTINUOUS, of=PairStatistic.OTHERS)
IN_CONTEXT = PairStatistic.IN_CONTEXT
COUNTED = (
    OTHERS,
    FieldSpec(name="users_now", source=Source.PAIR, kind=Kind.CONTINUOUS, of=IN_CONTEXT, by="daytime"),
    FieldSpec(name="users_there", source=Source.PAIR, kind=Kind.CONTINUOUS, of=IN_CONTEXT, by="country"),
    FieldSpec(name="beside", source=Source.PAIR, kind=Kind.CONTINUOUS, of=PairStatistic.SIMILAR),
)
FULL = SCHEMA.model_copy(update={"fields": (*SCHEMA.fields, *COUNTED)})
"""The store front's schema with every statistic of a pair in it."""


class Rankings:
    """The store front's users and apps in a home, ranked by a net of random weights. clock: of what is shown."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.home.ensure()
        self.clock = Clock(NOW - 10 * DAY)
        self.backend = open_sqlite(self.home, self.clock)
        self.imported = replace(dataset(), schema=FULL)
        keep(self.imported, self.home, self.backend.features)
        self.scorer = scorer_of(self.imported)
        self.shelf = Shelf(self.scorer.table(()), FULL)
        self.fast = FastScorer(self.scorer, precision=Precision.EXACT, error=inf)
        self.shown: dict[str, Impression] = {}
        self.events: list[Feedback] = []

    @property
    def now(self) -> float:
        """The moment at which the windows of all that was shown have closed."""
        return NOW

    def rank(
        self, user_id: str, *, k: int = 5, context: Mapping[str, Value] | None = None, **query: object
    ) -> Impression:
        """Rank for a user with what the store says now, and log what was shown."""
        self.shelf.refresh(self.backend.features.apps_since(self.shelf.sequence))
        engine = Engine()
        engine.swap(Live("v", self.scorer, self.shelf, self.fast, self.fast.precision))
        parts = RankerParts(Silent(), lambda: 0.0, self.clock, budget_s=1.0, record=self._record)
        ranker = Ranker(self._fetch, engine, parts=parts)
        request_id = f"r{len(self.shown)}"
        ranker.rank(RankQuery(user_id, k=k, context=context or {}, **query), request_id=request_id)  # type: ignore[arg-type]  # a test's own
        return self.shown[request_id]

    def _fetch(self, user_ids: Sequence[str], /, *, at_once: bool = False) -> list[Fetched]:
        return [Fetched(record) for record in self.backend.features.get_users(user_ids)]

    def install(self, impression: Impression, app_id: str, *, after_s: float = 60.0) -> None:
        """Log that an app which was shown was installed."""
        at, number = impression.at + after_s, len(self.events)
        event = Feedback(f"e{number}", "install", at, at, app_id, impression.user_id, impression.request_id, dated=True)
        self.events.append(event)
        self.backend.log.take([event])

    def days(self, count: int, *, per_day: int = 20, seed: int = 0) -> None:
        """So many days of rankings for everyone in turn, of which one app in five is installed."""
        rng = np.random.default_rng(seed)
        for _ in range(count):
            for number in rng.integers(0, len(USERS), size=per_day):
                context: dict[str, Value] = {"daytime": DAYTIMES[rng.integers(0, 2)], "battery": rng.random()}
                impression = self.rank(USERS[number], context=context)
                for item in impression.items:
                    if rng.random() < 0.2:
                        self.install(impression, item.app_id)
                self.clock.advance(0.9 * DAY / per_day)
            self.clock.advance(0.1 * DAY)

    def _record(self, impression: Impression) -> None:
        self.shown[impression.request_id] = impression
        self.backend.log.show([impression])


class Silent:
    """A meter that nobody reads."""

    def ranked(self, *, count: int, statuses: Mapping[str, str], degraded: Iterable[str]) -> None:
        pass


def scorer_of(imported: Dataset) -> Scorer:
    """A scorer with a net that was never trained, every weight of which is random."""
    transform = fit(imported.schema, imported)
    with torch.random.fork_rng(devices=[]):
        net = build("wide_deep", {"hidden": [8]}, transform.sizes)
    draw = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.4, generator=draw)
    net.requires_grad_(False).eval()
    return Scorer("v", imported.schema, transform, net, float(np.log(imported.facts.sampling_rate)))
