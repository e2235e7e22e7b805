"""Position bias: what an app gains by where it stood in its list, kept apart from what people like."""

import torch
from torch import Tensor, nn

MOST = 50
AT_ONCE = 1 << 20


class PositionBias(nn.Module):
    """A weight a position, added to the logit in training only, so that the net need not explain it by the app.

    A shallow tower beside the net (Zhao et al. 2019, Recommending what video to watch next, RecSys, section 4.3) of
    the one feature that decides examination (Richardson et al. 2007). The weights are centred over the training log's
    positions so that the odds, averaged over them, stay the net's own: a score served without the term is the one
    at an average position, and stays calibrated. shares: (MOST + 1,) of the log's rows with a known position.
    """

    def __init__(self, positions: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(MOST + 1))
        parts = (torch.bincount(part.clamp(0, MOST), minlength=MOST + 1) for part in torch.split(positions, AT_ONCE))
        counts = torch.stack([*parts]).sum(0).float()
        counts[0] = 0.0
        self.register_buffer("shares", counts / counts.sum().clamp(min=1.0), persistent=False)

    def forward(self, position: Tensor) -> Tensor:
        """(B,) to add to the logits of rows at `position` (B,) int64, from 1; 0 where it is unknown, which is 0."""
        shares = self.get_buffer("shares")
        seen = shares > 0
        mean = torch.logsumexp(self.weight[seen] + shares[seen].log(), dim=0) if seen.any() else self.weight.sum() * 0
        return torch.where(position > 0, self.weight[position.clamp(0, MOST)] - mean, 0.0)
