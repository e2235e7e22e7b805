"""What a retrain may be asked to do."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.manifest import VERSION
from service.errors import RetrainRefused
from service.settings import Settings


class RetrainOptions(BaseModel):
    """A retrain's options, as its job keeps them.

    start_from: the version to learn on from, None for live; scratch: learn from nothing, over the whole window;
    compact: drop the rows of values gone cold; promote: take it live where the gate passes it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["incremental", "full"]
    window_days: float = Field(gt=0, allow_inf_nan=False)
    replay: float = Field(ge=0, allow_inf_nan=False)
    start_from: str | None = Field(None, pattern=f"^{VERSION.pattern}$")
    scratch: bool = False
    compact: bool = False
    reset_optimizer: bool = False
    promote: bool = True

    @model_validator(mode="after")
    def _scratch_starts_from_nothing(self) -> Self:
        given = {"from": self.start_from, "compact": self.compact, "reset_optimizer": self.reset_optimizer}
        unfit = [name for name, value in given.items() if value]
        if self.scratch and unfit:
            raise ValueError(f"scratch starts from nothing, so it goes without {' and '.join(unfit)}")
        if self.scratch and self.mode == "incremental":
            raise ValueError("scratch learns from the whole window, so it goes without the mode incremental")
        return self

    @classmethod
    def of(cls, given: Mapping[str, Any], settings: Settings) -> Self:
        """The options of plain values; what is None or left out is as the settings have it. Raises RetrainRefused."""
        defaults = {
            "mode": "full" if given.get("scratch") else settings.retrain_mode,
            "window_days": settings.retrain_window_days,
            "replay": settings.retrain_replay,
        }
        return cls.parse({**defaults, **{name: value for name, value in given.items() if value is not None}})

    @classmethod
    def parse(cls, kept: Mapping[str, Any]) -> Self:
        """Undo `as_json`. Raises RetrainRefused naming the first value that is not allowed."""
        try:
            return cls.model_validate(kept)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "options"
            raise RetrainRefused(f"retrain {place}: {first['msg'].removeprefix('Value error, ')}") from error

    def as_json(self) -> dict[str, Any]:
        """The options as a job keeps them."""
        return self.model_dump(mode="json")
