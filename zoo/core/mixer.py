"""What a mixer is: the branch of a block that moves information between tokens, and the scale of its scores."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from zoo.core.layout import Layout
from zoo.core.position import PositionModule
from zoo.core.setting import Setting

if TYPE_CHECKING:
    from zoo.core.cache import State, Writing
    from zoo.core.config import StackConfig


@dataclass(frozen=True, eq=False, kw_only=True)
class Frame:
    """What the layers of one forward share."""

    layout: Layout  # of the tokens that go through
    keys: Layout  # of what they may look at: the same tokens, or with a cache also those before
    position: PositionModule
    prepared: Any  # what the position scheme made for this forward
    context: Tensor | None = None  # "s d": what cross attention looks at
    context_layout: Layout | None = None
    writing: "Writing | None" = None  # where a cache puts the new tokens


class MixerModule(nn.Module):
    """Base of mixer modules."""

    def forward(self, x: Tensor, frame: Frame, state: "State") -> Tensor:
        """Tokens "t d" to "t d"; what must be remembered for later tokens goes through `state`.

        Without a cache `state` remembers nothing, so that the same code serves both.
        """
        raise NotImplementedError

    def new_state(self, batch: int, capacity: int, like: Tensor) -> "State":
        """An empty state for `batch` sequences of at most `capacity` tokens, of `like`'s device and type."""
        raise NotImplementedError


class Mixer(Setting):
    """A mixer. `has_queries`: it has queries and keys, on which a position scheme may act."""

    has_queries: ClassVar[bool] = False

    def build(self, config: "StackConfig", layer: int) -> MixerModule:
        """The module of block number `layer`, from 0."""
        raise NotImplementedError

    def parameters(self, config: "StackConfig") -> int:
        """How many trainable numbers the module of one block has."""
        raise NotImplementedError

    def check(self, config: "StackConfig") -> None:
        """ValueError where the mixer cannot serve such a stack."""
        if config.position.in_attention and not self.has_queries:
            name, scheme = type(self).__name__, type(config.position).__name__
            raise ValueError(f"{name} has no queries and keys: position {scheme} cannot act")


class Scale(Setting):
    """The factor on the scores of attention."""

    def value(self, width: int, layer: int) -> float:
        """The factor for heads of `width` channels in block number `layer`, from 0."""
        raise NotImplementedError


@dataclass(frozen=True)
class HeadScale(Scale):
    """1 / sqrt(e) (Vaswani et al. 2017, section 3.2.1); `inverse_layer` divides by the layer's number, from 1, too."""

    inverse_layer: bool = False

    def value(self, width: int, layer: int) -> float:
        return 1 / math.sqrt(width) / (layer + 1 if self.inverse_layer else 1)


@dataclass(frozen=True)
class FixedScale(Scale):
    """The same for every width: 1 in T5, whose initialisation absorbs 1 / sqrt(e)."""

    factor: float = 1.0

    def value(self, width: int, layer: int) -> float:
        return self.factor
