"""What a retrain may be asked to do."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.manifest import VERSION
from service.errors import RetrainRefused
from service.settings import Settings


class RetrainOptions(BaseModel):
    """A retrain's options; None leaves it to the settings. As a job keeps them, and as a request body gives them.

    start_from: the version to learn on from, None for live; scratch: learn from nothing, over the whole window;
    compact: drop the rows of values gone cold; promote: take it live where the gate passes it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

    mode: Literal["incremental", "full"] | None = None
    window_days: float | None = Field(None, gt=0, allow_inf_nan=False)
    replay: float | None = Field(None, ge=0, allow_inf_nan=False)
    start_from: str | None = Field(None, alias="from", pattern=f"^{VERSION.pattern}$")
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
    def parse(cls, given: Mapping[str, Any]) -> Self:
        """The options of plain values. Raises RetrainRefused naming the first that is not allowed."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "options"
            raise RetrainRefused(f"retrain {place}: {first['msg'].removeprefix('Value error, ')}") from error

    def settled(self, settings: Settings) -> Self:
        """The same with what was left open taken from the settings."""
        mode = "full" if self.scratch else self.mode or settings.retrain_mode
        window_days = self.window_days or settings.retrain_window_days
        replay = settings.retrain_replay if self.replay is None else self.replay
        return self.model_copy(update={"mode": mode, "window_days": window_days, "replay": replay})
