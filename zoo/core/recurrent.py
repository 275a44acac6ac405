"""Recurrent mixers: what the Transformer replaced, with the call signature of attention.

Axes: t tokens, b sequences, n tokens of the longest sequence, d model width, u hidden width.

The recurrence itself is torch's fused kernel (oneDNN, cuDNN): a loop of our own would lose the comparison before it
began. A causal stack reads from left to right; another one both ways, half the hidden width each. LSTM: Hochreiter &
Schmidhuber 1997; GRU: Cho et al. 2014; RNN: Elman 1990.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from zoo.core.cache import RecurrentState, State
from zoo.core.layout import Layout
from zoo.core.linear import Linear
from zoo.core.mixer import Frame, Mixer, MixerModule

if TYPE_CHECKING:
    from zoo.core.config import StackConfig


@dataclass(frozen=True)
class Recurrent(Mixer, abstract=True):
    """Base of the recurrent settings. `hidden`: width u of the state, d where not given."""

    hidden: int | None = None

    kind: ClassVar[Callable[..., nn.RNNBase]]
    gates: ClassVar[int]

    def __post_init__(self) -> None:
        if type(self) is Recurrent:
            raise ValueError("Recurrent is what LSTM, GRU and RNN have in common: name one of them")
        if self.hidden is not None and self.hidden < 1:
            raise ValueError(f"hidden ({self.hidden}) must be at least 1")

    def width(self, config: "StackConfig") -> int:
        return config.dim if self.hidden is None else self.hidden

    def build(self, config: "StackConfig", layer: int) -> "RecurrentMixer":
        ways = 1 if config.causal else 2
        cells = self.kind(
            config.dim,
            self.width(config) // ways,
            batch_first=True,
            bias=config.bias.qkv,
            bidirectional=not config.causal,
        )
        return RecurrentMixer(cells, config)

    def parameters(self, config: "StackConfig") -> int:
        ways = 1 if config.causal else 2
        hidden = self.width(config) // ways
        cells = ways * self.gates * hidden * (config.dim + hidden + 2 * config.bias.qkv)
        return cells + config.dim * (self.width(config) + config.bias.out)

    def check(self, config: "StackConfig") -> None:
        super().check(config)
        if not config.causal and self.width(config) % 2:
            raise ValueError(f"{type(self).__name__} reads both ways: hidden ({self.width(config)}) must be even")


@dataclass(frozen=True)
class LSTM(Recurrent):
    """Long short-term memory."""

    kind: ClassVar[Callable[..., nn.RNNBase]] = nn.LSTM
    gates: ClassVar[int] = 4


@dataclass(frozen=True)
class GRU(Recurrent):
    """Gated recurrent unit."""

    kind: ClassVar[Callable[..., nn.RNNBase]] = nn.GRU
    gates: ClassVar[int] = 3


@dataclass(frozen=True)
class RNN(Recurrent):
    """Plain tanh recurrence."""

    kind: ClassVar[Callable[..., nn.RNNBase]] = nn.RNN
    gates: ClassVar[int] = 1


class RecurrentMixer(MixerModule):
    """Reads each sequence from its first token, or from where its state was left."""

    def __init__(self, cells: nn.RNNBase, config: "StackConfig"):
        super().__init__()
        self.cells = cells
        self.to_out = Linear(cells.hidden_size * (2 if cells.bidirectional else 1), config.dim, bias=config.bias.out)

    # Stacks of these are compiled around the recurrence; as one graph (fullgraph) they are refused with this reason.
    @torch.compiler.disable(reason="torch.compile cannot take a recurrent kernel into a graph")  # type: ignore[untyped-decorator, no-untyped-call]
    def forward(self, x: Tensor, frame: Frame, state: State) -> Tensor:
        left = state.read()
        read, left = self.run_packed(x, frame.layout, left) if frame.layout.packed else self.run(x, frame.layout, left)
        state.write(left)
        out: Tensor = self.to_out(read)
        return out

    def run(self, x: Tensor, layout: Layout, left: tuple[Tensor, ...] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        out, left = self.cells(layout.pad(x), self._inward(left))
        return layout.pack(out), self._outward(left)

    def run_packed(
        self, x: Tensor, layout: Layout, left: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """torch wants packed sequences step after step, longest first; ours stand sequence after sequence."""
        assert layout.lengths is not None
        assert layout.index is not None
        order = layout.lengths.argsort(descending=True, stable=True)
        order = order[: int((layout.lengths > 0).sum())]  # torch refuses empty sequences; they keep their state
        rank = torch.empty_like(layout.lengths).index_copy_(0, order, torch.arange(len(order), device=x.device))
        row, column = layout.index // layout.length, layout.index % layout.length
        by_step = (column * layout.batch + rank[row]).argsort()
        sizes = torch.bincount(column, minlength=layout.length).cpu()
        start = None if left is None else tuple(s[order] for s in left)
        out, end = self.cells(PackedSequence(x[by_step], sizes), self._inward(start))
        back = torch.empty_like(by_step).index_copy_(0, by_step, torch.arange(len(by_step), device=x.device))
        ended = self._outward(end)
        held = tuple(e.new_zeros(layout.batch, *e.shape[1:]) for e in ended) if left is None else left
        return out.data[back], tuple(h.index_copy(0, order, e) for h, e in zip(held, ended, strict=True))

    def _inward(self, left: tuple[Tensor, ...] | None) -> Tensor | tuple[Tensor, ...] | None:
        if left is None:
            return None
        parts = tuple(rearrange(s, "b ways u -> ways b u").contiguous() for s in left)
        return parts if isinstance(self.cells, nn.LSTM) else parts[0]

    def _outward(self, left: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        parts = (left,) if isinstance(left, Tensor) else left
        return tuple(rearrange(s, "ways b u -> b ways u") for s in parts)

    def new_state(self, batch: int, capacity: int, like: Tensor) -> State:
        return RecurrentState()
