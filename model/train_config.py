"""What a training run is asked to do, and the error of one that cannot."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.optim import RECIPES, Recipe
from model.zoo import first_wrong, params_for


class TrainingFailed(RuntimeError):
    """Training cannot go on or cannot start; the message holds the numbers."""


class Diverged(TrainingFailed):
    """The loss is not finite any more; the same training comes to the same end however often it is begun."""


class TrainConfig(BaseModel):
    """What is trained and how.

    epochs: most of them, of a family that is trained first as of the net itself; training stops early.
    precision: of the dense layers' products, auto for bfloat16 where the processor or GPU multiplies it; tables and
    optimizer state stay float32. device: auto for a GPU where there is one. shuffle_rows: how many rows are shuffled
    among each other; a longer log is shuffled by blocks, so that a batch does not touch all of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str = "wide_deep"
    params: dict[str, Any] = Field(default_factory=dict)
    recipe: str = "paper"
    recipe_options: dict[str, Any] = Field(default_factory=dict)
    batch_size: int = Field(512, ge=1)
    epochs: int = Field(30, ge=1)
    patience: int = Field(2, ge=1)
    seed: int = Field(0, ge=0, lt=1 << 63)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    shuffle_rows: int = Field(8_000_000, ge=1024)

    def built_recipe(self) -> Recipe:
        """The recipe with its options. Raises TrainingFailed naming an unknown recipe or option."""
        if self.recipe not in RECIPES:
            raise TrainingFailed(f"no recipe {self.recipe!r}; there are {', '.join(sorted(RECIPES))}")
        try:
            return RECIPES[self.recipe].model_validate(self.recipe_options)
        except ValidationError as error:
            there = ", ".join(RECIPES[self.recipe].model_fields)
            raise TrainingFailed(f"recipe {self.recipe}: {first_wrong(error)}; its options: {there}") from error

    def net_params(self) -> dict[str, Any]:
        """What the network is built with: what the recipe wants of it, as far as it knows that, under its own params.

        Raises TrainingFailed and UnknownArchitecture.
        """
        return params_for(self.architecture, self.built_recipe().net_params, self.params)
