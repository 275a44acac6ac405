"""One state for a whole sequence. Axes: t tokens, b sequences, d model width."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.core.attention import CrossAttention
from zoo.core.cache import STATELESS
from zoo.core.layout import Layout
from zoo.core.linear import Linear
from zoo.core.mixer import Frame
from zoo.core.position import PositionModule
from zoo.core.setting import Setting

if TYPE_CHECKING:
    from zoo.core.config import StackConfig


class Pool(Setting):
    """A way to make one state of a sequence's states. The module it builds maps (states "t d", layout) to "b d".

    `stack`: whose states they are; it says the width, and of what a pool with weights is made.
    """

    def of_first(self) -> bool:
        """Whether it reads the first token alone, which must then have seen the others."""
        return False

    def build(self, stack: "StackConfig") -> nn.Module:
        raise NotImplementedError


@dataclass(frozen=True)
class First(Pool):
    """The first token's state: that of a class token."""

    def of_first(self) -> bool:
        return True

    def build(self, stack: "StackConfig") -> nn.Module:
        return FirstToken()


@dataclass(frozen=True)
class Last(Pool):
    """The last token's state: the one of a causal stack that has seen the whole sequence. Radford et al. 2018, section
    3.2."""

    def build(self, stack: "StackConfig") -> nn.Module:
        return LastToken()


@dataclass(frozen=True)
class Mean(Pool):
    """The mean of the real tokens' states."""

    def build(self, stack: "StackConfig") -> nn.Module:
        return MeanOfTokens()


@dataclass(frozen=True)
class Max(Pool):
    """The largest value of each channel over the real tokens (Collobert et al. 2011, section 3.2.2)."""

    def build(self, stack: "StackConfig") -> nn.Module:
        return MaxOfTokens()


@dataclass(frozen=True)
class Standardised(Pool):
    """Another pool's states, each channel with mean 0 and standard deviation 1 over the sequences: those of the
    batch in training, moving averages afterwards (Ioffe & Szegedy 2015, without their gains).

    What all sequences share goes, and what tells them apart is brought to one scale: where they differ in one token of
    hundreds, a mean leaves next to nothing of that.
    """

    pool: Pool = field(default_factory=Mean)

    def of_first(self) -> bool:
        return self.pool.of_first()

    def build(self, stack: "StackConfig") -> nn.Module:
        return StandardisedState(self.pool.build(stack), stack.dim)


@dataclass(frozen=True)
class Pooler(Pool):
    """tanh(dense(first token's state)). Devlin et al. 2019's code."""

    def of_first(self) -> bool:
        return True

    def build(self, stack: "StackConfig") -> nn.Module:
        return TanhOfFirst(stack.dim)


@dataclass(frozen=True)
class LearnedQuery(Pool):
    """A learned query looks at the real tokens, and a feed-forward follows. Lee et al. 2019, section 3.2, one seed.

    The heads, their norms and biases, and the feed-forward are the stack's.
    """

    def build(self, stack: "StackConfig") -> nn.Module:
        return LookOfQuery(stack)


class FirstToken(nn.Module):
    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        return layout.first(x)


class LastToken(nn.Module):
    """Zero for a sequence without any token."""

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        return layout.last(x)


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


class StandardisedState(nn.Module):
    def __init__(self, pool: nn.Module, dim: int):
        super().__init__()
        self.pool = pool
        self.norm = nn.BatchNorm1d(dim, affine=False)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        pooled: Tensor = self.pool(x, layout)
        if len(pooled) == 1:  # one sequence alone has no deviation: what was seen before it has
            return F.batch_norm(pooled, self.norm.running_mean, self.norm.running_var, eps=self.norm.eps)
        normed: Tensor = self.norm(pooled)
        return normed


class TanhOfFirst(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.dense = Linear(dim, dim)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        return torch.tanh(self.dense(layout.first(x)))


class LookOfQuery(nn.Module):
    """For a sequence without any token: what the feed-forward makes of nothing seen."""

    def __init__(self, stack: "StackConfig"):
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, stack.dim))
        self.attention = CrossAttention(stack, 0)
        self.norm = stack.norm.build(stack.dim)
        self.ffn = stack.ffn.build(stack)
        nn.init.trunc_normal_(self.query, std=0.02)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        queries = Layout.dense(layout.batch, 1, device=x.device)
        frame = Frame(
            layout=queries,
            keys=queries,
            position=PositionModule(),
            prepared=None,
            context=x,
            context_layout=layout,
        )
        x = self.attention(self.query.expand(layout.batch, -1), frame, STATELESS.cross)
        out: Tensor = x + self.ffn(self.norm(x))
        return out
