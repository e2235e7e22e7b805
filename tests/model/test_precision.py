import pytest
import torch

from model.data.synthetic import SyntheticConfig, dataset
from model.precision import training_dtype
from model.train_config import TrainConfig
from model.training import train

CPU = torch.device("cpu")


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
