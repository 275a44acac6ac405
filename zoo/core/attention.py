"""Multi-head attention. Vaswani et al. 2017, section 3.2; grouped heads: Ainslie et al. 2023.

Axes: t tokens, s context tokens, d model width, h query heads, g key/value heads, e head width.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from einops import rearrange
from torch import Tensor

from zoo.core.attend import attend
from zoo.core.cache import KeyValueState, SourceState, State
from zoo.core.layout import Layout
from zoo.core.linear import Linear
from zoo.core.mixer import Frame, Mixer, MixerModule
from zoo.core.relative import Bias

if TYPE_CHECKING:
    from zoo.core.config import StackConfig


@dataclass(frozen=True)
class Attention(Mixer):
    """Every token looks at all the others, or at the past, at once."""

    has_queries: ClassVar[bool] = True

    def build(self, config: "StackConfig", layer: int) -> "SelfAttention":
        return SelfAttention(config, layer)

    def parameters(self, config: "StackConfig") -> int:
        inner, shared = config.heads * config.head_width, config.key_heads * config.head_width
        weights = config.dim * (2 * inner + 2 * shared)
        biases = config.bias.qkv * (inner + 2 * shared) + config.bias.out * config.dim
        return weights + biases + 2 * config.qk_norm.parameters(config.head_width)


class MultiHead(MixerModule):
    """What self and cross attention share: heads, norms of queries and keys, the way out."""

    def __init__(self, config: "StackConfig", layer: int):
        super().__init__()
        self.layer = layer
        self.causal = config.causal
        self.heads, self.groups, self.width = config.heads, config.key_heads, config.head_width
        self.scale = config.scale.value(self.width, layer)
        self.dropout = config.attention_dropout
        self.q_norm, self.k_norm = (config.qk_norm.build(self.width) for _ in range(2))
        self.to_out = Linear(self.heads * self.width, config.dim, bias=config.bias.out)

    # What computes attention. `record` puts another function here for a while, on the instance.
    attend = staticmethod(attend)

    def look(
        self, q: Tensor, k: Tensor, v: Tensor, queries: Layout, keys: Layout, bias: Bias, *, causal: bool
    ) -> Tensor:
        """Queries "t h e" on keys and values "s g e" (or rows "b g m e") to what the block adds, "t d"."""
        dropout = self.dropout if self.training else 0.0
        out = self.attend(
            q, k, v, queries=queries, keys=keys, causal=causal, bias=bias, scale=self.scale, dropout=dropout
        )  # "t h e"
        projected: Tensor = self.to_out(out.flatten(-2))
        return projected


class SelfAttention(MultiHead):
    """Tokens look at tokens of their own sequence. Rows of `to_qkv`: all queries, all keys, all values."""

    def __init__(self, config: "StackConfig", layer: int):
        super().__init__(config, layer)
        rows = (self.heads + 2 * self.groups) * self.width
        self.to_qkv = Linear(config.dim, rows, bias=config.bias.qkv)

    def forward(self, x: Tensor, frame: Frame, state: State) -> Tensor:
        qkv = self.to_qkv(x).unflatten(-1, (-1, self.width))  # "t (h + g + g) e"
        q, k, v = qkv.split((self.heads, self.groups, self.groups), dim=-2)  # "t h e", "t g e", "t g e"
        q, k = frame.position.rotate(self.q_norm(q), self.k_norm(k), frame.prepared)  # of the same shapes
        bias = frame.position.score(q, frame.prepared, self.layer)  # "h n m", "b h n m", vectors of distances or None
        k, v = state.extend(k, v, frame.writing)  # "t g e", or all that a cache holds, "b g m e"
        return self.look(q, k, v, frame.layout, frame.keys, bias, causal=self.causal)  # "t d"

    def new_state(self, batch: int, capacity: int, like: Tensor) -> State:
        return KeyValueState(batch, capacity, self.groups, self.width, like)


class CrossAttention(MultiHead):
    """Tokens look at all tokens of a context. Rows of `to_kv`: all keys, all values."""

    def __init__(self, config: "StackConfig", layer: int):
        super().__init__(config, layer)
        self.to_q = Linear(config.dim, self.heads * self.width, bias=config.bias.qkv)
        self.to_kv = Linear(config.dim, 2 * self.groups * self.width, bias=config.bias.qkv)

    def forward(self, x: Tensor, frame: Frame, state: State) -> Tensor:
        assert frame.context_layout is not None
        keys = frame.context_layout
        q = self.q_norm(self.to_q(x).unflatten(-1, (-1, self.width)))  # "t h e"
        k, v = state.once(lambda: self.project(frame), keys)  # "s g e", or as a cache holds them, "b g m e"
        return self.look(q, k, v, frame.layout.share(keys.batch), keys, None, causal=False)  # "t d"

    def project(self, frame: Frame) -> tuple[Tensor, Tensor]:
        """Keys and values of the context, "s g e"."""
        k, v = rearrange(self.to_kv(frame.context), "s (two g e) -> two s g e", two=2, e=self.width)
        return self.k_norm(k), v

    def new_state(self, batch: int, capacity: int, like: Tensor) -> State:
        return SourceState()
