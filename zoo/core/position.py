"""Where a token stands, and how the stack learns of it: the hooks, and the schemes that add to the embeddings.

Axes: t tokens, b sequences, n queries, m keys, h query heads, e head width, d model width, r relative distances,
a axes of a position.

A scheme is one module with four hooks, each the identity unless the scheme overrides it:

    embed(x, layout)               once, before the first block: add something to the embeddings
    prepare(queries, keys)         once for each forward: what all layers share (rotary tables, a static bias)
    rotate(q, k, prepared)         in each layer: turn queries and keys
    score(q, prepared, layer)      in each layer: a bias on the scaled scores, "h n m" or "b h n m", vectors that stand
                                   for one (`Relative`), or None

Shapes: x "t d"; q "t h e"; k "t g e" (g key heads), of the tokens of this forward alone, before a cache adds the keys
of earlier ones; `prepared` is whatever the scheme's own `prepare` returned. `queries` and `keys` are layouts: equal
without a cache; with one, `keys` also covers the tokens before.

Attention never asks which scheme it has. Positions are always the layout's, so that caches, left padding, packing and
images are no special cases. One instance serves the whole stack; what a layer owns is its row of a parameter.

Schemes that turn queries and keys are in rotary.py, those that weigh scores by distance in distance.py.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from zoo.core.layout import Layout
from zoo.core.relative import Bias
from zoo.core.setting import Setting
from zoo.errors import UserError

if TYPE_CHECKING:
    from zoo.core.config import StackConfig


class Position(Setting):
    """A position scheme.

    `in_attention`: it acts on queries, keys or scores, so it needs a mixer that has them. `many_axes`: a position may
    have several numbers (row and column of a patch), not one alone.
    """

    in_attention: ClassVar[bool] = False
    many_axes: ClassVar[bool] = False

    def build(self, config: "StackConfig") -> "PositionModule":
        """The module with the hooks, one for the whole stack."""
        raise NotImplementedError

    def parameters(self, config: "StackConfig") -> int:
        """How many trainable numbers that module has."""
        return 0

    def check(self, config: "StackConfig") -> None:
        """ValueError where the scheme cannot serve such a stack."""


class PositionModule(nn.Module):
    """No position: what every hook does unless a scheme says otherwise. `longest`: tokens it can place; None: any."""

    longest: int | None = None

    def embed(self, x: Tensor, layout: Layout) -> Tensor:
        """Embeddings "t d" to "t d"."""
        return x

    def prepare(self, queries: Layout, keys: Layout) -> Any:
        """What `rotate` and `score` of every layer get as `prepared`, from the positions of both layouts."""
        return None

    def rotate(self, q: Tensor, k: Tensor, prepared: Any) -> tuple[Tensor, Tensor]:
        """Queries "t h e" and keys "t g e" to the same shapes."""
        return q, k

    def score(self, q: Tensor, prepared: Any, layer: int) -> Bias:
        """For rotated queries "t h e" a bias "h n m" or "b h n m" or what stands for one, added after the scores were
        scaled; None: none.

        n and m are the lengths of the two layouts; what stands at padding is masked afterwards.
        """
        return None


@dataclass(frozen=True)
class NoPosition(Position):
    """The order of tokens is not told; a causal stack can still infer it (Haviv et al. 2022)."""

    def build(self, config: "StackConfig") -> PositionModule:
        return PositionModule()


def axes(pos: Tensor) -> Tensor:
    """Positions "t" or "t a" to "t a"."""
    return pos if pos.dim() == 2 else pos.unsqueeze(-1)


def lookup_positions(pos: Tensor, layout: Layout) -> Tensor:
    """Positions that can be looked up: a token without a place takes the first's, and `zero_unplaced` drops it."""
    return pos if layout.placed is None else pos.clamp(min=0)


def zero_unplaced(added: Tensor, layout: Layout) -> Tensor:
    """What a scheme adds "t d", nothing where a token has no place."""
    return added if layout.placed is None else added * layout.placed.unsqueeze(-1)


def one_axis(pos: Tensor, scheme: str) -> Tensor:
    """Positions "t" as they are; ValueError where they have axes."""
    if pos.dim() != 1:
        raise ValueError(f"{scheme} position takes one axis, these positions have {pos.shape[-1]}")
    return pos


@dataclass(frozen=True)
class Sinusoidal(Position):
    """Fixed sines and cosines of geometric wavelengths, added to the embeddings. Vaswani et al. 2017, section 3.5.

    Published code disagrees on the order of channels: `interleaved` is the paper's (sin, cos, sin, cos ...), `halves`
    has all sines first (Marian), `cosine_first` all cosines first and a geometric series that includes its last
    wavelength (MusicGen). A position with several axes gives each an equal share of the channels.
    """

    order: Literal["interleaved", "halves", "cosine_first"] = "interleaved"
    theta: float = 10_000.0

    many_axes: ClassVar[bool] = True

    def build(self, config: "StackConfig") -> PositionModule:
        return SinusoidalPosition(config.dim, self)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_theta(self.theta)

    def check(self, config: "StackConfig") -> None:
        if config.dim % 2:
            raise ValueError(f"Sinusoidal position pairs channels: dim ({config.dim}) must be even")


def check_theta(theta: float) -> None:
    """ValueError where the base of the wavelengths makes none."""
    if not 0 < theta < math.inf:
        raise ValueError(f"theta ({theta}) must be above 0")


class SinusoidalPosition(PositionModule):
    def __init__(self, dim: int, setting: Sinusoidal):
        super().__init__()
        self.dim, self.setting = dim, setting

    def embed(self, x: Tensor, layout: Layout) -> Tensor:
        pos = axes(layout.pos)
        width, rest = divmod(self.dim, pos.shape[-1])
        if rest or width % 2:
            raise ValueError(f"Sinusoidal position over {pos.shape[-1]} axes needs an even share of dim ({self.dim})")
        if layout.reach < layout.tokens:  # a sine is dear, a look-up is not
            table = self.waves(torch.arange(layout.reach, device=x.device), width)
            added = table[lookup_positions(pos, layout)]
        else:
            added = self.waves(pos, width)
        return x + zero_unplaced(added.flatten(-2).to(x.dtype), layout)

    def waves(self, pos: Tensor, width: int) -> Tensor:
        """Positions "..." to "... width"; made in float64, so that far positions keep their phase."""
        half = width // 2
        last = half - 1 if self.setting.order == "cosine_first" else half
        steps = torch.arange(half, dtype=torch.float64, device=pos.device) / max(last, 1)
        angle = pos.unsqueeze(-1) * torch.exp(-math.log(self.setting.theta) * steps)
        sin, cos = angle.sin().float(), angle.cos().float()
        if self.setting.order == "interleaved":
            return torch.stack((sin, cos), -1).flatten(-2)
        return torch.cat((sin, cos) if self.setting.order == "halves" else (cos, sin), -1)

    def extra_repr(self) -> str:
        return f"{self.setting}"


@dataclass(frozen=True)
class Learned(Position):
    """One learned vector a position, added to the embeddings; `offset` rows before position 0 stay unused (BART)."""

    length: int
    offset: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length < 1 or self.offset < 0:
            raise ValueError(f"length ({self.length}) must be at least 1, and offset ({self.offset}) at least 0")

    def build(self, config: "StackConfig") -> PositionModule:
        return LearnedPosition(config.dim, self)

    def parameters(self, config: "StackConfig") -> int:
        return (self.length + self.offset) * config.dim


class LearnedPosition(PositionModule):
    """UserError for a sequence longer than the table."""

    def __init__(self, dim: int, setting: Learned):
        super().__init__()
        self.length, self.offset = setting.length, setting.offset
        self.longest = setting.length
        self.table = nn.Embedding(self.length + self.offset, dim)

    def embed(self, x: Tensor, layout: Layout) -> Tensor:
        if layout.reach > self.length:
            raise UserError(
                f"a sequence reaches position {layout.reach - 1}, the position table has {self.length} rows"
            )
        added: Tensor = self.table(lookup_positions(one_axis(layout.pos, "Learned"), layout) + self.offset)
        return x + zero_unplaced(added, layout)


@dataclass(frozen=True)
class Periodic(Position):
    """One learned vector for each place in a cycle of `period` positions, added to the embeddings.

    For sequences that are made in rounds: voices that take turns, steps of a beat. What it tells stays true however far
    a sequence goes, which `Learned` must be taught at every length.
    """

    period: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.period < 2:
            raise ValueError(f"period ({self.period}) must be at least 2")

    def build(self, config: "StackConfig") -> PositionModule:
        return PeriodicPosition(config.dim, self)

    def parameters(self, config: "StackConfig") -> int:
        return self.period * config.dim


class PeriodicPosition(PositionModule):
    def __init__(self, dim: int, setting: Periodic):
        super().__init__()
        self.period = setting.period
        self.table = nn.Embedding(self.period, dim)

    def embed(self, x: Tensor, layout: Layout) -> Tensor:
        place = lookup_positions(one_axis(layout.pos, "Periodic"), layout) % self.period
        return x + zero_unplaced(self.table(place), layout)
