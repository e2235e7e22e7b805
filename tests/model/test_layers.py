import torch

from model.batch import SideSizes
from model.layers import FieldEmbedding
from tests.model.nets import SIZES


def test_ids_that_training_never_saw_take_their_fields_weighted_mean() -> None:
    layer = FieldEmbedding(SideSizes((SIZES.app.ids[0], SIZES.app.ids[1]), (), 0), 2)
    before = layer.tables[0].detach().clone()
    counts = {"app_id": torch.tensor([0, 0, 0, 3, 1, 0]), "category": torch.tensor([1, 1, 1, 1])}

    layer.settle_unseen(counts)

    mean = (3 * before[3] + before[4]) / 4
    torch.testing.assert_close(layer.tables[0][[0, 1, 2, 5]], mean.expand(4, 2))
    torch.testing.assert_close(layer.tables[0][[3, 4, 6, 7, 8, 9]], before[[3, 4, 6, 7, 8, 9]])
