"""Dropout: Srivastava et al. 2014."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.core.tracing import traced

PARTS = 2**16  # a share is so many of these: 0.1 is 6,554


class Dropout(nn.Dropout):
    """torch's, drawn by `dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, training=self.training)


def dropout(x: Tensor, share: float, *, training: bool = True) -> Tensor:
    """In training, zero for `share` of the numbers of `x`; the others are scaled so that the mean stays.

    16 random bits decide on each, so one draw of 64 serves four: half the time of torch's on a CPU, which draws for
    every number (`zoo bench core --only dropout`). On other devices, and where the compiler or torch.func looks in, it
    is torch's.
    """
    dropped = round(share * PARTS)
    if not training or dropped == 0:
        return x
    if dropped == PARTS or not x.is_cpu or traced():
        return F.dropout(x, share)
    with torch.no_grad():
        drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        drawn = drawn.view(torch.int16)[: x.numel()].view(x.shape)
        noise = (drawn >= dropped - PARTS // 2).to(x.dtype).mul_(PARTS / (PARTS - dropped))
    return x * noise
