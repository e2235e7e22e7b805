from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from model.data.synthetic import SyntheticConfig, dataset
from model.learner import Learner
from model.optim import PaperRecipe
from model.precision import training_dtype
from model.train_config import TrainConfig
from model.training import train
from tests.model.families import FORMS
from tests.model.nets import random_batch

CPU = torch.device("cpu")
PRODUCTS = (
    torch.mv, torch.mm, torch.bmm, torch.matmul, torch.addmm, F.linear,
    Tensor.mv, Tensor.mm, Tensor.bmm, Tensor.matmul, Tensor.__matmul__, Tensor.addmm,
)  # fmt: skip
SUMS = (torch.sum, Tensor.sum, torch.cumsum, Tensor.cumsum, Tensor.pow, Tensor.norm)


class AsOnAGPU(TorchFunctionMode):
    """Autocast on the processor with what it rounds, and what it makes float32 again, on a GPU: those are others."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function gives
        if torch.is_autocast_enabled("cpu") and func in (*PRODUCTS, *SUMS):
            to = torch.bfloat16 if func in PRODUCTS else torch.float32
            args = tuple(one.to(to) if isinstance(one, Tensor) and one.is_floating_point() else one for one in args)
        return func(*args, **(kwargs or {}))


def test_auto_is_bfloat16_only_where_the_processor_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for able, expected in (({"avx512_bf16": True}, torch.bfloat16), ({"avx512_bf16": False}, torch.float32)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=able: found)
        assert training_dtype("auto", CPU) is expected
    assert training_dtype("float32", CPU) is torch.float32
    assert training_dtype("bfloat16", CPU) is torch.bfloat16


@pytest.mark.parametrize("recipe", ["paper", "adam"])
def test_bfloat16_learns_as_well_as_float32_and_keeps_everything_in_float32(recipe: str) -> None:
    made, _ = dataset(SyntheticConfig.small(seed=1))
    config = TrainConfig(recipe=recipe, params={"dim": 16, "hidden": (64, 32)}, epochs=3, batch_size=256)

    results = {
        name: train(config.model_copy(update={"precision": name}), made, progress=lambda _: None)
        for name in ("float32", "bfloat16")
    }

    assert abs(results["bfloat16"].metrics["auc"] - results["float32"].metrics["auc"]) < 0.01
    tensors = [*results["bfloat16"].net.state_dict().values(), *results["bfloat16"].optimizer_state.values()]
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("form", FORMS)
def test_every_family_takes_a_step_where_autocast_rounds_as_it_does_on_a_gpu(form: str) -> None:
    optimizers = partial(PaperRecipe().optimizers, batch_size=64)
    learner = Learner.of(FORMS[form].net(), None, optimizers=optimizers, dtype=torch.bfloat16)
    learner.net.train()

    with AsOnAGPU():
        loss = learner.step(random_batch(64))

    assert 0 < loss < 10
    assert all(parameter.isfinite().all() for parameter in learner.net.parameters())
