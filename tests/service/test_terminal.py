"""How a training is told where nobody looks at a terminal."""

import pytest

from model.training import Progress
from service.commands.terminal import training_progress


def test_an_epoch_is_a_line_that_names_its_phase_where_another_net_is_trained_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with training_progress() as tell:
        tell(Progress(1, 10, 3, 4, 0.5, None, "pretraining"))
        tell(Progress(1, 10, 4, 4, 0.5, None, "pretraining"))
        tell(Progress(2, 3, 4, 4, 0.25, 0.75))
    assert capsys.readouterr().err.splitlines() == [
        "pretraining, epoch 1/10: loss 0.5000",
        "epoch 2/3: loss 0.2500, auc of the epoch before 0.7500",
    ]
