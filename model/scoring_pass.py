"""One pass over the candidates of many requests, which a quickened net combines all in one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from model.app_columns import Gathered
from model.app_table import AppTable
from model.batch import Pair
from model.cross_plan import met
from model.pairing import PairNumbers, uses_of
from model.quick import quickened
from model.request_side import Encoded, RequestSide
from model.scorer import Scorer
from model.sums import Added, Sums

WIDE = 4096
"""Numbers of a request's part that are not halved, above which requests are combined one by one: to write them once for
every candidate would cost more than that saves."""


@dataclass(frozen=True)
class Candidates:
    """The apps at `rows` (N,) int64 of a table, for one request."""

    encoded: Encoded
    table: AppTable
    rows: Tensor


class ScoringPass:
    """A net, and how much of an app table it reads: all of it in float32, or what is halved as bfloat16."""

    def __init__(self, scorer: Scorer, requests: RequestSide, dtype: torch.dtype) -> None:
        self._net = quickened(scorer.net, dtype)
        self._requests = requests
        self._halved = scorer.net.halved
        self._dtype = dtype
        self._numbers = PairNumbers(scorer.transform)

    def logits(self, asked: Sequence[Candidates]) -> Tensor:
        """The logits of the candidates of each request, end to end. In inference mode."""
        groups: dict[int, list[int]] = {}
        for place, one in enumerate(asked):
            groups.setdefault(id(one.table), []).append(place)
        if len(groups) == 1:
            return self._of_one_table(asked)
        found = [torch.empty(0)] * len(asked)
        for places in groups.values():
            together = self._of_one_table([asked[place] for place in places])
            parts = torch.split_with_sizes(together, [len(asked[place].rows) for place in places])
            for place, logits in zip(places, parts, strict=True):
                found[place] = logits
        return torch.cat([torch.empty(0), *found])

    def _of_one_table(self, asked: Sequence[Candidates]) -> Tensor:
        table, encoded = asked[0].table, [one.encoded for one in asked]
        mine = self._requests.parts(encoded)
        if len(asked) > 1 and sum(one[0].numel() for name, one in mine.items() if name not in self._halved) > WIDE:
            return torch.cat([self._of_one_table([one]) for one in asked])
        counts = [len(one.rows) for one in asked]
        rows = torch.cat([one.rows for one in asked])
        if not len(rows):
            return torch.empty(0)
        apps = table.gather(rows, exact=None)
        pair = Pair(self._paired(asked, apps), (met([one.keys for one in encoded], apps.keys, counts),))
        # A net adds and multiplies these: a sum made in blocks takes part in that as a tensor does.
        request: dict[str, Any] = {}
        app: dict[str, Any] = dict(apps.part)
        for name, part in mine.items():
            if name in self._halved:
                take = partial(table.halved, name, exact=self._dtype is torch.float32)
                app[name] = Sums(take, rows, mine=part.to(self._dtype), counts=counts)
                request[name] = Added()
            else:
                request[name] = part if len(asked) == 1 else part.repeat_interleave(torch.tensor(counts), dim=0)
        return self._net.combine(request, app, pair)

    def _paired(self, asked: Sequence[Candidates], apps: Gathered) -> Tensor:
        if not len(self._numbers):
            return torch.empty((len(apps.others), 0))
        queries = [one.encoded.query for one in asked]
        uses = [uses_of(one.encoded.query.history, one.table, one.rows.numpy()) for one in asked]
        return self._numbers.of([*zip(queries, uses, strict=True)], apps)
