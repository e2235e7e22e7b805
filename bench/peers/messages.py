"""What peers take and answer: the fields of `/rank` that the reference work uses."""

from collections.abc import Sequence

from pydantic import BaseModel


class User(BaseModel):
    """Who asks."""

    id: str


class Body(BaseModel):
    """One request."""

    user: User
    context: dict[str, str | float]
    candidates: list[str]
    k: int = 10


class Item(BaseModel):
    """One ranked app."""

    rank: int
    app_id: str
    score: float


class Answer(BaseModel):
    """The best, best first."""

    items: list[Item]

    @classmethod
    def of(cls, candidates: Sequence[str], places: Sequence[int], *, scores: Sequence[float]) -> "Answer":
        """What stands at those places of the candidates, best first."""
        found = enumerate(zip(places, scores, strict=True), start=1)
        return cls(items=[Item(rank=rank, app_id=candidates[place], score=score) for rank, (place, score) in found])
