"""Feed-forwards: what a block does to each token alone. Axes: t tokens, d model width, f hidden width."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.core.linear import Linear
from zoo.core.setting import Setting, check_word

if TYPE_CHECKING:
    from zoo.core.config import StackConfig

Activation = Literal["relu", "gelu", "gelu_tanh", "silu"]


def activate(x: Tensor, name: Activation) -> Tensor:
    """torch's own kernels: a GELU composed in Python takes five times as long."""
    match name:
        case "relu":
            return F.relu(x)
        case "gelu":
            return F.gelu(x)
        case "gelu_tanh":  # Hendrycks & Gimpel 2016, section 2: GPT-2's and T5 v1.1's form
            return F.gelu(x, approximate="tanh")
        case "silu":
            return F.silu(x)


class FeedForward(Setting):
    """A feed-forward."""

    def build(self, config: "StackConfig") -> nn.Module:
        """A module from tokens "t d" to "t d"."""
        raise NotImplementedError

    def parameters(self, config: "StackConfig") -> int:
        """How many trainable numbers that module has."""
        raise NotImplementedError


def check_feed_forward(activation: str, dim: int | None) -> None:
    """ValueError for an activation that does not exist, or a width below 1."""
    check_word("activation", activation, Activation)
    if dim is not None and dim < 1:
        raise ValueError(f"dim ({dim}) must be at least 1: it is the hidden width")


@dataclass(frozen=True)
class Plain(FeedForward):
    """down(activation(up(x))). Vaswani et al. 2017, section 3.3. `dim`: hidden width, 4 d where not given."""

    activation: Activation = "gelu"
    dim: int | None = None

    def __post_init__(self) -> None:
        check_feed_forward(self.activation, self.dim)

    def build(self, config: "StackConfig") -> nn.Module:
        return PlainFeedForward(config.dim, self.width(config), self.activation, bias=config.bias.ffn)

    def parameters(self, config: "StackConfig") -> int:
        width = self.width(config)
        return 2 * config.dim * width + config.bias.ffn * (config.dim + width)

    def width(self, config: "StackConfig") -> int:
        return 4 * config.dim if self.dim is None else self.dim


@dataclass(frozen=True)
class Gated(FeedForward):
    """down(activation(gate(x)) * up(x)): GEGLU with gelu, SwiGLU with silu. Shazeer 2020. `dim`: hidden width."""

    activation: Activation
    dim: int

    def __post_init__(self) -> None:
        check_feed_forward(self.activation, self.dim)

    def build(self, config: "StackConfig") -> nn.Module:
        return GatedFeedForward(config.dim, self.dim, self.activation, bias=config.bias.ffn)

    def parameters(self, config: "StackConfig") -> int:
        return 3 * config.dim * self.dim + config.bias.ffn * (config.dim + 2 * self.dim)


class PlainFeedForward(nn.Module):
    def __init__(self, dim: int, width: int, activation: Activation, *, bias: bool):
        super().__init__()
        self.activation = activation
        self.up = Linear(dim, width, bias=bias)
        self.down = Linear(width, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(activate(self.up(x), self.activation))
        return out


class GatedFeedForward(nn.Module):
    """Gate and up are one product: rows of `gate_up` are the gate's, then up's."""

    def __init__(self, dim: int, width: int, activation: Activation, *, bias: bool):
        super().__init__()
        self.activation = activation
        self.gate_up = Linear(dim, 2 * width, bias=bias)
        self.down = Linear(width, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, -1)
        out: Tensor = self.down(activate(gate, self.activation) * up)
        return out
