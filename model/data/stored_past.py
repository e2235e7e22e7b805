"""The events of a log that memory does not hold: by user and by app in mapped files, read where they are asked for.

They are put in order by counting, in two passes over the log: how many events each user has, then each event into its
place. What stays in memory is a number a user and an app, and of the service's own log a time for each app that a user
has. The measures of `FieldSpec.by` and SIMILAR are counted from all positive events at once, as in any `Past`.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from model.data.dataset import PIECE, Dataset
from model.data.past import LONG_AGO_US, Past, moment
from model.population import Floats, Ints
from model.train_config import TrainingFailed

EVENTS_AT_ONCE = 1 << 17
"""Earlier events of the users of some rows that are looked at together."""

GROUPED_AT_ONCE = 1 << 17
"""Events of which each user's first use of an app is sought together."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Places = npt.NDArray[np.int32]


class StoredPast(Past):
    """A past whose events lie in a folder, which it writes when it is first asked for any."""

    at_once = EVENTS_AT_ONCE

    def __init__(self, dataset: Dataset, folder: Path) -> None:
        super().__init__(dataset)
        self._folder = folder

    @cached_property
    def audience(self) -> pl.DataFrame:
        """app_id and how many `users` are known to use it in the end, in order of the app's id."""
        return pl.DataFrame({"app_id": self._apps, "users": np.diff(self._firsts[0])})

    def events_of(self, users: pl.Series) -> pl.DataFrame:
        """The events of these users, each of them once."""
        codes = _codes(self._users, users.unique())
        codes = codes[codes >= 0]
        starts, apps, at = self._by_user
        places, lengths = _slices(starts, codes)
        known = {"user_id": self._users.gather(codes.repeat(lengths)), "app_id": self._apps.gather(apps[places])}
        if not self.timed:
            return pl.DataFrame(known).group_by("user_id", "app_id").len("count")
        when = pl.Series("at", at[places]).replace(LONG_AGO_US, None).cast(pl.Datetime("us", "UTC"))
        return pl.DataFrame(known).with_columns(when)

    def audience_before(self, rows: pl.DataFrame) -> Floats:
        """(B,) users known to use each row's app before the row's time, for rows with app_id and at."""
        starts, first = self._firsts
        codes, at = _codes(self._apps, rows["app_id"]), rows.select(moment()).to_series().to_numpy()
        users, order = np.zeros(len(rows)), np.argsort(codes, kind="stable")
        for of_app in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1) if len(order) else ():
            if (app := codes[of_app[0]]) >= 0:
                users[of_app] = np.searchsorted(first[starts[app] : starts[app + 1]], at[of_app], side="left")
        return users

    def event_counts(self, users: pl.Series) -> Ints:
        """(B,) how many of the events are each user's."""
        counts: Ints = np.append(np.diff(self._by_user[0]), 0)  # none for a user who is not there
        return counts[_codes(self._users, users)]

    @cached_property
    def _users(self) -> pl.Series:
        """The ids of all users with an event, ascending; a user's place is its code."""
        return self._ids("user_id")

    @cached_property
    def _apps(self) -> pl.Series:
        """The ids of all apps with an event, ascending; an app's place is its code."""
        return self._ids("app_id")

    def _ids(self, name: str) -> pl.Series:
        positives = self._positives().select(name)
        both = pl.concat([positives, self.had().lazy().select(name)])
        return self._dataset.collect(both.unique()).to_series().sort()

    def _events(self) -> Iterator[tuple[Ints, Ints, Ints]]:
        """User, app (their codes) and time of some events at a time."""
        columns = ["user_id", "app_id", *(["at"] if self.timed else [])]
        is_event = pl.col("label") == 1
        if not self.timed:
            is_event &= pl.col("split") == "train"
        for start in range(0, self._dataset.count(), PIECE):
            piece = self._dataset.scan().slice(start, PIECE).filter(is_event).select(columns)
            yield self._coded(self._dataset.collect(piece))
        yield from map(self._coded, self.had().iter_slices(PIECE))

    def _coded(self, events: pl.DataFrame) -> tuple[Ints, Ints, Ints]:
        if "at" in events.columns:
            at = events.select(moment()).to_series().to_numpy()
        else:
            at = np.full(len(events), LONG_AGO_US)
        return _codes(self._users, events["user_id"]), _codes(self._apps, events["app_id"]), at

    @cached_property
    def _by_user(self) -> tuple[Ints, Places, Ints]:
        """Where each user's events begin, (U + 1,), and app and time of each event."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        counts = np.zeros(len(self._users), dtype=np.int64)
        for user, _, _ in self._events():
            counts += np.bincount(user, minlength=len(counts))
        starts = np.concatenate([[0], counts.cumsum()])
        apps: Places = self._made("apps", np.int32, int(starts[-1]))
        at: Ints = self._made("at", np.int64, int(starts[-1]))
        filled = starts[:-1].copy()
        for user, app, when in self._events():
            order, places = _places(user, filled)
            apps[places], at[places] = app[order], when[order]
        return starts, apps, at

    @cached_property
    def _firsts(self) -> tuple[Ints, Ints]:
        """Where each app's users begin, (A + 1,), and when each of them first used it, ascending."""
        counts = np.zeros(len(self._apps), dtype=np.int64)
        for app, _ in self._pairs():
            counts += np.bincount(app, minlength=len(counts))
        starts = np.concatenate([[0], counts.cumsum()])
        first: Ints = self._made("first", np.int64, int(starts[-1]))
        filled = starts[:-1].copy()
        for app, when in self._pairs():
            order, places = _places(app, filled)
            first[places] = when[order]
        for place in np.flatnonzero(counts > 1).tolist():
            first[starts[place] : starts[place + 1]].sort()
        return starts, first

    def _pairs(self) -> Iterator[tuple[Ints, Ints]]:
        """App and time of the first use of each app by each user, of some users at a time."""
        starts, apps, at = self._by_user
        part = starts[1:] // GROUPED_AT_ONCE
        ends = [*np.flatnonzero(np.diff(part)) + 1, len(part)] if len(part) else []
        begin = 0
        for end in ends:
            rows = slice(int(starts[begin]), int(starts[end]))
            user = np.arange(begin, end).repeat(np.diff(starts[begin : end + 1]))
            events = pl.DataFrame({"user": user, "app": apps[rows], "at": at[rows]})
            first = events.group_by("user", "app").agg(pl.min("at"))
            yield first["app"].to_numpy().astype(np.int64), first["at"].to_numpy()
            begin = end

    def _made(self, name: str, kind: type[np.generic], length: int) -> npt.NDArray[Any]:
        """A file of so many zeros, mapped to be written; none where there are none.

        Raises TrainingFailed where the disk has no room: found out while the map is written, that would be a SIGBUS.
        """
        if not length:
            return np.empty(0, dtype=kind)
        size = length * np.dtype(kind).itemsize
        try:
            with (self._folder / name).open("wb") as file:
                file.truncate(size)
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise TrainingFailed(
                f"the disk of {self._folder} has no room for the events of the log: {name} takes {size >> 20} MiB; "
                "make room or put the home on another disk"
            ) from error
        return np.memmap(self._folder / name, dtype=kind, mode="r+", shape=(length,))


def keep_past(dataset: Dataset, folder: Path) -> None:
    """Have the dataset's past lie in a folder from here on."""
    vars(dataset)["past"] = StoredPast(dataset, folder)


def _codes(ids: pl.Series, asked: pl.Series) -> Ints:
    """(B,) the place of each among the ids, which ascend; -1 where it is not there."""
    if not len(ids):
        return np.full(len(asked), -1, dtype=np.int64)
    places = ids.search_sorted(asked).to_numpy().astype(np.int64).clip(max=len(ids) - 1)
    return np.where((ids.gather(places) == asked).fill_null(False).to_numpy(), places, -1)


def _places(owner: Ints, filled: Ints) -> tuple[Ints, Ints]:
    """The order that puts some rows beside those of the same owner, and the place of each, which is then filled."""
    order = np.argsort(owner, kind="stable")
    mine = owner[order]
    rank = np.arange(len(mine)) - np.searchsorted(mine, mine)
    places = filled[mine] + rank
    filled += np.bincount(mine, minlength=len(filled))
    return order, places


def _slices(starts: Ints, of: Ints) -> tuple[Ints, Ints]:
    """The places of all rows of these owners, and how many each has."""
    lengths = starts[of + 1] - starts[of]
    shift = (starts[of] - lengths.cumsum() + lengths).repeat(lengths)
    return np.arange(len(shift)) + shift, lengths
