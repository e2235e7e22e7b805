"""Where each row and column of a new net's parameters lies in an older net's: by value, field and cross, by name."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.blocks import Block, Per, total
from model.crosses import CrossTable
from model.growth import known_crosses, known_fields
from model.transforms import Transform
from model.vocabulary import FIRST_ID

NOWHERE = -1


@dataclass(frozen=True)
class Match:
    """Where the L rows (or columns) of one dimension come from.

    source: (L,) int64, the older parameter's row, NOWHERE where there is none; same: (L,) bool, whether that row stands
    for the same value, rather than for its field's values that were not known (the OOV row).
    """

    source: Tensor
    same: Tensor

    @classmethod
    def none(cls, length: int) -> "Match":
        """Rows that come from nowhere."""
        return cls(torch.full((length,), NOWHERE), torch.zeros(length, dtype=torch.bool))

    @classmethod
    def whole(cls, length: int) -> "Match":
        """Rows that are the same throughout."""
        return cls(torch.arange(length), torch.ones(length, dtype=torch.bool))


class Matcher:
    """What two transforms have in common."""

    def __init__(self, before: Transform, after: Transform) -> None:
        self.before, self.after = before, after
        self.fields = known_fields(before.schema, after.schema)
        self.crosses = known_crosses(before.schema, after.schema)

    def along(self, mine: Sequence[Block], theirs: Sequence[Block], *, length: int) -> Match:
        """The match of one dimension of `length`, from its blocks and the older parameter's; what no block names has
        no source."""
        places, first = {}, 0
        for block in theirs:
            places[block.owner, block.per] = first, block.size
            first += block.size
        parts = [self._placed(block, *places.get((block.owner, block.per), (0, NOWHERE))) for block in mine]
        parts.append(Match.none(length - total(mine)))
        return Match(torch.cat([part.source for part in parts]), torch.cat([part.same for part in parts]))

    def values(self, field: str) -> Match | None:
        """The ids of a field's vocabulary, a new value with the OOV id; None for a field that was not known."""
        if field not in self.fields:
            return None
        ids = torch.from_numpy(self.before.vocabularies[field].ids(self.after.vocabularies[field].values))
        special = torch.arange(FIRST_ID)
        return Match(torch.cat([special, ids]), torch.cat([special >= 0, ids >= FIRST_ID]))

    def _placed(self, block: Block, first: int, size: int) -> Match:
        match = self._within(block, size) if size != NOWHERE else None
        if match is None or len(match.source) != block.size:
            return Match.none(block.size)
        return Match(match.source + first, match.same)

    def _within(self, block: Block, size: int) -> Match | None:
        """The rows of one block within the older one of `size` rows; None where it is not the same thing."""
        match block.per:
            case Per.VALUE:
                return self.values(block.owner)
            case Per.KEY:
                return self._keys(block.owner) if block.owner in self.crosses else None
            case Per.NUMBER:
                return Match.whole(size) if self._alike(block.owner) else None
            case Per.EMBEDDING:
                return Match.whole(size) if block.owner in self.fields else None
            case Per.PRODUCT:
                return Match.whole(size) if all(map(self._alike, block.owner.split("*"))) else None
            case Per.PLACE:
                return Match.whole(size)

    def _alike(self, field: str) -> bool:
        """Whether a value of the field is what it was before; numbers by the same quantiles."""
        theirs, mine = (transform.quantiles.get(field) for transform in (self.before, self.after))
        return field in self.fields and theirs == mine

    def _keys(self, cross: str) -> Match:
        """The rows of a cross: a hashed one's stay, an exact one's go by key, a new key with the row of unseen keys."""
        theirs, mine = (_table(transform, cross) for transform in (self.before, self.after))
        if mine.keys is None:
            return Match.whole(mine.size)
        rows = torch.cat([torch.zeros(1, dtype=torch.int64), theirs.rows(mine.keys) - theirs.first])
        same = rows > 0
        same[0] = True
        return Match(rows, same)


def _table(transform: Transform, cross: str) -> CrossTable:
    return next(table for table in transform.crosses.tables if table.spec.name == cross)
