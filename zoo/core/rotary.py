"""Positions that turn queries and keys: Su et al. 2021, and the wavelengths stretched for longer texts.

Axes: t tokens, h query heads, g key heads, e head width, r pairs of channels, a axes of a position. The hooks are
those of zoo/core/position.py.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor

from zoo.core.layout import Layout
from zoo.core.position import Position, PositionModule, axes, check_theta
from zoo.core.setting import Setting
from zoo.core.tracing import traced

if TYPE_CHECKING:
    from zoo.core.config import StackConfig


class Stretch(Setting):
    """How the wavelengths of a rotary position are changed, so that a trained model reads longer texts."""

    def rates(self, rates: Tensor) -> Tensor:
        """Radians a position, "r", changed."""
        raise NotImplementedError


@dataclass(frozen=True)
class NoStretch(Stretch):
    """As trained."""

    def rates(self, rates: Tensor) -> Tensor:
        return rates


@dataclass(frozen=True)
class EvenStretch(Stretch):
    """Every wavelength `factor` times as long: positions interpolated (Chen et al. 2023, section 2.2)."""

    factor: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.factor < math.inf:
            raise ValueError(f"factor ({self.factor}) must be above 0")

    def rates(self, rates: Tensor) -> Tensor:
        return rates / self.factor


@dataclass(frozen=True)
class LongStretch(Stretch):
    """Only long wavelengths are stretched (Llama 3.1; Grattafiori et al. 2024, section 3.4.2, gives the purpose).

    Wavelengths that fit less than `low` times into `length` tokens become `factor` times as long, those that fit more
    than `high` times stay, and between the two the rates are mixed linearly.
    """

    factor: float
    low: float
    high: float
    length: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.factor < math.inf and 0 < self.low < self.high < math.inf):
            raise ValueError(
                f"factor ({self.factor}) and low ({self.low}) must be above 0, high ({self.high}) above low"
            )

    def rates(self, rates: Tensor) -> Tensor:
        fits = self.length * rates / (2 * math.pi)
        kept = ((fits - self.low) / (self.high - self.low)).clamp(0, 1)
        return (1 - kept) * rates / self.factor + kept * rates


@dataclass(frozen=True)
class Rotary(Position):
    """Queries and keys turned by an angle proportional to their position. Su et al. 2021, section 3.2.

    The two halves of a head form the pairs (as in Llama and ESM-2, not neighbours as in the paper). A position with
    several axes gives each an equal share of the pairs.
    """

    theta: float = 10_000.0
    stretch: Stretch = field(default_factory=NoStretch)

    in_attention: ClassVar[bool] = True
    many_axes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_theta(self.theta)

    def build(self, config: "StackConfig") -> PositionModule:
        return RotaryPosition(config.head_width, self)

    def check(self, config: "StackConfig") -> None:
        if config.head_width % 2:
            raise ValueError(f"Rotary position turns pairs of channels: head_dim ({config.head_width}) must be even")


class RotaryPosition(PositionModule):
    def __init__(self, width: int, setting: Rotary):
        super().__init__()
        self.width, self.setting = width, setting

    def prepare(self, queries: Layout, keys: Layout) -> tuple[Tensor, Tensor]:
        """Cosines (c, c) and sines (-s, s) of each token, "t 1 e", in float32 whatever the module's type: published
        tables are."""
        pos = axes(queries.pos).clamp(min=0)  # no place: an angle of 0
        share, rest = divmod(self.width // 2, pos.shape[-1])
        if rest:
            raise ValueError(f"Rotary position over {pos.shape[-1]} axes needs an equal share of {self.width} channels")
        exponent = torch.arange(0, 2 * share, 2, dtype=torch.float32, device=pos.device) / (2 * share)
        rates = self.setting.stretch.rates(1.0 / self.setting.theta**exponent)
        angle = rearrange(pos.unsqueeze(-1) * rates, "t a w -> t 1 (a w)")
        cos, sin = angle.cos(), angle.sin()
        return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)

    def rotate(self, q: Tensor, k: Tensor, prepared: Any) -> tuple[Tensor, Tensor]:
        cos, sin = (table.to(q.dtype) for table in prepared)
        turn = _turn if traced() else _Turn.apply
        return turn(q, cos, sin), turn(k, cos, sin)

    def extra_repr(self) -> str:
        return f"{self.width}, {self.setting}"


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x cos + (the other half of x) sin, for "t h e"."""
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat((right, left), -1) * sin


class _Turn(torch.autograd.Function):
    """The same in half the time, there and back: no half is copied, and the gradient is turned back by one angle.

    But for short halves of many tokens in half precision: on a CPU torch multiplies number by number what fills no
    register (of 32, at most). They are copied, and the tables are laid out for all heads, so that a row is a token: a
    third to a half of the time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        width = x.shape[-1] // 2
        if x.is_cpu and x.dtype.itemsize == 2 and width < 32 and len(x) >= 64:
            cos, sin = (table.expand_as(x).contiguous() for table in (cos, sin))
            return _turn(x, cos, sin)
        out = x * cos
        for here, there in ((slice(width), slice(width, None)), (slice(width, None), slice(width))):
            out[..., here].addcmul_(x[..., there], sin[..., here])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _Turn.apply(grad, cos, -sin), None, None  # type: ignore[no-untyped-call]
