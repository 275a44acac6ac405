"""One state for a whole sequence. Axes: t tokens, b sequences, d model width."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.core.layout import Layout
from zoo.core.setting import Setting


class Pool(Setting):
    """A way to make one state of a sequence's states. The module it builds maps (states "t d", layout) to "b d"."""

    def build(self, dim: int) -> nn.Module:
        raise NotImplementedError


@dataclass(frozen=True)
class First(Pool):
    """The first token's state: that of a class token."""

    def build(self, dim: int) -> nn.Module:
        return FirstToken()


@dataclass(frozen=True)
class Mean(Pool):
    """The mean of the real tokens' states."""

    def build(self, dim: int) -> nn.Module:
        return MeanOfTokens()


@dataclass(frozen=True)
class Max(Pool):
    """The largest value of each channel over the real tokens (Collobert et al. 2011, section 3.2.2)."""

    def build(self, dim: int) -> nn.Module:
        return MaxOfTokens()


@dataclass(frozen=True)
class Pooler(Pool):
    """tanh(dense(first token's state)). Devlin et al. 2019's code."""

    def build(self, dim: int) -> nn.Module:
        return TanhOfFirst(dim)


class FirstToken(nn.Module):
    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        return layout.first(x)


class MeanOfTokens(nn.Module):
    """Zero for a sequence without any token."""

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        total = layout.pad(x).sum(1, dtype=torch.promote_types(x.dtype, torch.float32))
        count = layout.length if layout.lengths is None else layout.lengths.clamp(min=1).unsqueeze(-1)
        return (total / count).to(x.dtype)


class MaxOfTokens(nn.Module):
    """Zero for a sequence without any token."""

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        rows = layout.pad(x)
        if layout.keep is None:
            return rows.amax(1)
        largest = rows.masked_fill(~layout.keep.unsqueeze(-1), float("-inf")).amax(1)
        return largest.masked_fill(~layout.keep.any(1, keepdim=True), 0)


class TanhOfFirst(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.dense = nn.Linear(dim, dim)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        return torch.tanh(self.dense(layout.first(x)))
