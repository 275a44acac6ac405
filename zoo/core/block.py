"""A block: a mixer, cross attention where there is a context, and a feed-forward, each with its residual.

Axes: t tokens, b sequences, d model width.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zoo.core.absent import same, whole
from zoo.core.attention import CrossAttention
from zoo.core.cache import LayerState, State
from zoo.core.dropout import Dropout
from zoo.core.layout import Layout
from zoo.core.mixer import Frame, MixerModule
from zoo.core.norm import Transform
from zoo.core.tracing import transformed

if TYPE_CHECKING:
    from zoo.core.config import StackConfig


class Residual(nn.Module):
    """x + branch(norm(x)), or norm(x + branch(x)): the only place where a branch, a norm and a sum meet.

    Pre-norm: Xiong et al. 2020; post-norm: Vaswani et al. 2017, section 3.1.
    """

    def __init__(self, config: "StackConfig", layer: int, branch: nn.Module):
        super().__init__()
        norm = config.norm.build(config.dim)
        self.before: Transform = norm if config.norm_order == "pre" else same
        self.after: Transform = norm if config.norm_order == "post" else same
        self.branch = branch
        self.gain = same if config.layer_scale is None else Gain(config.dim, config.layer_scale)
        self.dropout = Dropout(config.dropout) if config.dropout else same
        share = config.drop_path * layer / max(config.depth - 1, 1)
        self.drop_path = DropPath(share) if share else whole

    def forward(self, x: Tensor, layout: Layout, *others: Frame | State) -> Tensor:
        out = self.dropout(self.gain(self.branch(self.before(x), *others)))
        summed: Tensor = self.after(x + self.drop_path(out, layout))
        return summed

    def new_state(self, batch: int, capacity: int, like: Tensor) -> State:
        """The branch's own empty state."""
        assert isinstance(self.branch, MixerModule)
        return self.branch.new_state(batch, capacity, like)


class Gain(nn.Module):
    """A learned gain for each channel, small at first (LayerScale, Touvron et al. 2021, section 3)."""

    def __init__(self, dim: int, first: float):
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), first))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


class DropPath(nn.Module):
    """In training, leaves a branch out for whole sequences (stochastic depth, Huang et al. 2016)."""

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        if not self.training:
            return x
        kept = torch.rand(layout.batch, 1, device=x.device) >= self.share
        return x * layout.spread(kept.to(x.dtype) / (1 - self.share))

    def extra_repr(self) -> str:
        return f"{self.share:.3f}"


class NoCross:
    """Stands where a stack without a context has no cross attention."""

    def __call__(self, x: Tensor, layout: Layout, frame: Frame, state: State) -> Tensor:
        return x

    def new_state(self, batch: int, capacity: int, like: Tensor) -> State:
        return State()


class Block(nn.Module):
    """One layer of a stack: Vaswani et al. 2017, figure 1.

    `checkpointed`: in training nothing is kept of it but its input, and the backward pass computes the block a second
    time (activation checkpointing, Chen et al. 2016). It gives the same numbers in less memory and more time.
    """

    checkpointed = False

    def __init__(self, config: "StackConfig", layer: int):
        super().__init__()
        self.mixer = Residual(config, layer, config.mixer.build(config, layer))
        self.cross: Residual | NoCross = (
            Residual(config, layer, CrossAttention(config, layer)) if config.cross else NoCross()
        )
        self.ffn = Residual(config, layer, config.ffn.build(config))

    def forward(self, x: Tensor, frame: Frame, state: LayerState) -> Tensor:
        # within the block, so that what wraps a block (FSDP) has its weights at hand for both times
        if (
            self.checkpointed
            and self.training
            and torch.is_grad_enabled()
            and frame.writing is None
            and not transformed()
        ):
            again: Tensor = checkpoint(self.branches, x, frame, state, use_reentrant=False)
            return again
        return self.branches(x, frame, state)

    def branches(self, x: Tensor, frame: Frame, state: LayerState) -> Tensor:
        """Mixer, cross attention and feed-forward, one after the other."""
        x = self.mixer(x, frame.layout, frame, state.mixer)
        x = self.cross(x, frame.layout, frame, state.cross)
        x = self.ffn(x, frame.layout)
        return x

    def new_state(self, batch: int, capacity: int, like: Tensor) -> LayerState:
        return LayerState(self.mixer.new_state(batch, capacity, like), self.cross.new_state(batch, capacity, like))
