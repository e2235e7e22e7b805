"""From a request's candidates to the best of them: several requests in one pass, one in chunks, or by popularity."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from model.fast_scorer import Ask
from model.request_side import Encoded
from service.attempts import attempt
from service.catalogue import Selection
from service.engine import Live
from service.ordering import Ranked, Rows, Scores, Top, best, popularity_of

ROWS_AT_ONCE = 512
"""Candidates of one request that are scored before anybody else gets a turn."""

Items = tuple[Ranked, ...]


@dataclass(frozen=True)
class Sought:
    """The k best of a selection. late: there is no time to score, so popularity orders it."""

    live: Live
    encoded: Encoded
    selection: Selection
    k: int
    late: bool = False

    @property
    def is_long(self) -> bool:
        """True where others should have turns while this one is scored."""
        return len(self.selection.rows) > ROWS_AT_ONCE

    @property
    def chunks(self) -> int:
        """How many turns it takes."""
        return -(-len(self.selection.rows) // ROWS_AT_ONCE)


def found_together(sought: Sequence[Sought]) -> list[Items | Exception]:
    """The best of each, scored in one pass; all are of one version. What fails of one fails for it alone."""
    together = attempt(partial(_scored, sought))
    if not isinstance(together, Exception):
        return together
    return [together] if len(sought) == 1 else [one for alone in sought for one in found_together([alone])]


def found_in_chunks(sought: Sought) -> Iterator[Items | None]:
    """None after each chunk that was scored, and the best of all after the last."""
    rows, top = sought.selection.rows, Top(sought.k, sought.selection.table.ids)
    total = sum(sought.live.popularity.values()) if sought.late else 0
    for start in range(0, len(rows), ROWS_AT_ONCE):
        chunk = rows[start : start + ROWS_AT_ONCE]
        if sought.late:
            top.add(_popularity(sought, chunk, total), chunk)
        else:
            (found,) = sought.live.fast.best([_ask(sought, chunk)])
            top.add(found.scores, chunk[found.places])
        yield None
    yield top.ranked()


def _scored(sought: Sequence[Sought]) -> list[Items | Exception]:
    timely = [one for one in sought if not one.late]
    asks = [_ask(one, one.selection.rows) for one in timely]
    found = iter(timely[0].live.fast.best(asks) if asks else ())
    items: list[Items | Exception] = []
    for one in sought:
        rows, ids = one.selection.rows, one.selection.table.ids
        if one.late:
            scores = _popularity(one, rows, sum(one.live.popularity.values()))
        else:
            of_one = next(found)
            scores, rows = of_one.scores, rows[of_one.places]
        items.append(best(scores, rows, ids=ids, k=one.k))
    return items


def _ask(sought: Sought, rows: Rows) -> Ask:
    return Ask(sought.encoded, sought.selection.table, torch.from_numpy(rows), sought.k)


def _popularity(sought: Sought, rows: Rows, total: int) -> Scores:
    ids = sought.selection.table.ids
    return popularity_of([ids[row] for row in rows.tolist()], sought.live.popularity, total=total)
