"""Old rows to learn again beside new ones, so that a net does not forget: from the log, else from what was imported."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from model.data.dataset import Dataset, read
from model.data.replay import with_history
from service.labels import CLOCK_SKEW_S, EVENTS, JoinRule, event_frame, join_frames
from service.logged import Page, Reader, framed, is_after, with_times
from service.store.log_ports import EventLog, Impression

SLACK = 2
"""How far a sample may outgrow what is wanted before it is cut back."""


@dataclass(frozen=True)
class Wanted:
    """How many old rows, of what was shown from rule.since up to `until`, both in epoch seconds."""

    rows: int
    until: float
    rule: JoinRule
    seed: int


class Sample:
    """The requests whose keys are least, until they have shown as many apps as are wanted.

    A request's key follows from the seed and its id alone. So the draw is the same however the log is paged, and of a
    long log few impressions are turned into frames: those whose key is still among the least when they come.
    """

    def __init__(self, reader: Reader, wanted: Wanted) -> None:
        self._reader, self._wanted = reader, wanted
        self._limit = 1 << 64
        self._page = reader.page(())

    def offer(self, impressions: Iterable[Impression]) -> None:
        """Take those of these impressions that belong into the sample so far."""
        page = self._reader.page(one for one in impressions if self._key(one.request_id) < self._limit)
        self._page = Page(pl.concat([self._page.requests, page.requests]), pl.concat([self._page.shown, page.shown]))
        if len(self._page.shown) > SLACK * self._wanted.rows:
            self._page = self.cut()

    def cut(self) -> Page:
        """The sample so far, of no more rows than are wanted."""
        ids = self._page.requests["request_id"]
        keys = pl.Series("key", [self._key(one) for one in ids], dtype=pl.UInt64)
        keyed = self._page.shown.join(pl.DataFrame([ids, keys]), on="request_id", how="left", maintain_order="left")
        kept = keyed.sort("key", "position").head(self._wanted.rows)
        if len(kept) and len(kept) == self._wanted.rows:
            self._limit = kept["key"][-1] + 1
        requests = self._page.requests.join(kept, on="request_id", how="semi")
        return Page(requests, kept.drop("key"))

    def _key(self, request_id: str) -> int:
        digest = hashlib.blake2b(f"{self._wanted.seed}:{request_id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big")


def from_log(log: EventLog, reader: Reader, wanted: Wanted) -> pl.DataFrame:
    """Labelled rows of what was shown, drawn by whole requests; fewer than are wanted where the log has no more."""
    sample = Sample(reader, wanted)
    if wanted.rows and wanted.until > wanted.rule.since:
        old = log.impressions(wanted.rule.since, wanted.until + 1.0)
        for _ in framed((one for one in old if not is_after(one.at, wanted.until)), sample.offer):
            pass
    page = sample.cut()
    joined = join_frames(page.shown, _events(log, page, wanted), rule=wanted.rule)
    return with_times(joined.examples).join(page.requests, on="request_id", how="left", maintain_order="left")


def from_import(data: Path | None, reader: Reader, wanted: Wanted, *, users: pl.Series) -> pl.DataFrame:
    """Training rows of the imported dataset in `data`, each with its history there; none where its fields are others.

    What was held out there stays so: it judges versions that are trained on the import, and live beside them. Users
    whom the store does not know any more are left out, since they were deleted. Where negatives were drawn, at a rate
    w, positives are thinned to the same rate: the odds are then those of the log (He et al. 2014, section 6.3). Raises
    DatasetError where the data is damaged.
    """
    if data is None or not wanted.rows or not data.exists():
        return pl.DataFrame(schema={"user_id": pl.String})
    dataset = read(data)
    if dataset.schema.fingerprint() != reader.schema.fingerprint():
        return pl.DataFrame(schema={"user_id": pl.String})
    rows = with_history(dataset, _drawn(dataset, wanted, users))
    apps = dataset.apps.join(rows, on="app_id", how="semi")
    revisions = apps.select("app_id").with_columns(reader.revisions.of_apps(apps).alias("app_revision"))
    revised = rows.join(revisions, on="app_id", how="left", maintain_order="left")
    return revised.with_columns(pl.lit("train").alias("split"))


def _events(log: EventLog, page: Page, wanted: Wanted) -> pl.DataFrame:
    """The events that name a request of the page."""
    found = [pl.DataFrame(schema=EVENTS)]
    if len(page.requests):
        first, last = wanted.rule.since - CLOCK_SKEW_S, wanted.until + wanted.rule.window_s + 1.0
        for events in framed(log.feedback(first, last), event_frame):
            found.append(events.join(page.requests, on="request_id", how="semi"))
    return pl.concat(found)


def _drawn(dataset: Dataset, wanted: Wanted, users: pl.Series) -> pl.DataFrame:
    rng = np.random.default_rng(wanted.seed)
    split = dataset.scan().with_row_index("_row").filter(pl.col("split") == "train")
    every = dataset.collect(split.select("_row", "user_id", "label"))
    numbered = every.join(users.to_frame("user_id"), on="user_id", how="semi").sort("_row")
    kept = (numbered["label"] == 0).to_numpy() | (rng.random(len(numbered)) < dataset.facts.sampling_rate)
    among = np.flatnonzero(kept)
    chosen = rng.choice(among, size=min(wanted.rows, len(among)), replace=False)
    drawn = pl.col("_row").is_in(numbered["_row"][chosen].implode())
    return dataset.collect(dataset.scan().with_row_index("_row").filter(drawn)).sort("_row").drop("_row")
