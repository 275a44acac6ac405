"""Where a token stands, and how the stack learns of it.

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
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from zoo.core.layout import Layout
from zoo.core.relative import Bias, Relative
from zoo.core.setting import Setting
from zoo.core.tracing import traced
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


# -- added to the embeddings ------------------------------------------------------------------------------------------


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
        pos = _axes(layout.pos)
        width, rest = divmod(self.dim, pos.shape[-1])
        if rest or width % 2:
            raise ValueError(f"Sinusoidal position over {pos.shape[-1]} axes needs an even share of dim ({self.dim})")
        if layout.reach < layout.tokens:  # a sine is dear, a look-up is not
            table = self.waves(torch.arange(layout.reach, device=x.device), width)
            added = table[_lookup_positions(pos, layout)]
        else:
            added = self.waves(pos, width)
        return x + _zero_unplaced(added.flatten(-2).to(x.dtype), layout)

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
        added: Tensor = self.table(_lookup_positions(_one_axis(layout.pos, "Learned"), layout) + self.offset)
        return x + _zero_unplaced(added, layout)


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
        place = _lookup_positions(_one_axis(layout.pos, "Periodic"), layout) % self.period
        return x + _zero_unplaced(self.table(place), layout)


# -- turning queries and keys -----------------------------------------------------------------------------------------


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
        pos = _axes(queries.pos).clamp(min=0)  # no place: an angle of 0
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


# -- a bias on the scores ---------------------------------------------------------------------------------------------


class StaticBias(PositionModule):
    """A bias that depends on the distance between key and query alone, made once a forward for all layers."""

    def prepare(self, queries: Layout, keys: Layout) -> Tensor:
        """ "h n m", or "b h n m" where sequences stand at different positions."""
        if queries.start is not None and keys.start is not None:
            # Equal distances stand on diagonals: ask for each of the n + m - 1 once, then lay them out. `unfold` would
            # do it by name, and have the compiler make a graph for every length.
            n, m = queries.length, keys.length
            first = keys.start - queries.start - (n - 1)
            line = self.bias(torch.arange(first, first + n + m - 1, device=queries.pos.device)).contiguous()
            return line.as_strided((line.shape[0], n, m), (n + m - 1, 1, 1)).flip(-2)
        return self.bias(_distances(queries, keys)).transpose(0, 1)

    def bias(self, distance: Tensor) -> Tensor:
        """Bias of each head at `distance` (key position minus query position, "..."): "h ..."."""
        raise NotImplementedError

    def score(self, q: Tensor, prepared: Any, layer: int) -> Bias:
        bias: Tensor = prepared
        return bias.to(q.dtype)


@dataclass(frozen=True)
class RelativeBuckets(Position):
    """A learned bias for each head and bucket of distances, shared by all layers. Raffel et al. 2020, section 2.1.

    Half of the buckets hold one distance each, the others grow up to `max_distance`. A stack that is not causal splits
    them between past and future.
    """

    buckets: int = 32
    max_distance: int = 128

    in_attention: ClassVar[bool] = True

    def build(self, config: "StackConfig") -> PositionModule:
        return BucketBias(config.heads, self, both=not config.causal)

    def parameters(self, config: "StackConfig") -> int:
        return self.buckets * config.heads

    def check(self, config: "StackConfig") -> None:
        least, what = (2, "a causal stack") if config.causal else (4, "past and future")
        if self.buckets < least:
            raise ValueError(f"buckets ({self.buckets}) must be at least {least}, for {what}")
        if self.max_distance <= (exact := self.buckets // least):
            raise ValueError(f"max_distance ({self.max_distance}) must be above the {exact} that have their own bucket")


class BucketBias(StaticBias):
    def __init__(self, heads: int, setting: RelativeBuckets, *, both: bool):
        super().__init__()
        self.setting, self.both = setting, both
        self.table = nn.Embedding(setting.buckets, heads)

    def bias(self, distance: Tensor) -> Tensor:
        values: Tensor = rearrange(self.table(self.bucket(distance)), "... h -> h ...")
        return values

    def bucket(self, distance: Tensor) -> Tensor:
        """The bucket of a distance (key minus query)."""
        count = self.setting.buckets
        if self.both:
            count //= 2
            future, back = (distance > 0) * count, distance.abs()
        else:
            future, back = torch.zeros_like(distance), (-distance).clamp(min=0)
        exact = count // 2
        growth = torch.log(back.clamp(min=1).float() / exact) / math.log(self.setting.max_distance / exact)
        far = (exact + (growth * (count - exact)).long()).clamp(max=count - 1)
        return torch.where(back < exact, back, far) + future

    def extra_repr(self) -> str:
        return f"{self.setting}, both={self.both}"


@dataclass(frozen=True)
class ALiBi(Position):
    """A penalty that grows with the distance, steeper from head to head. Press et al. 2022, section 3."""

    in_attention: ClassVar[bool] = True

    def build(self, config: "StackConfig") -> PositionModule:
        # The paper's slopes for a power of two; for other counts, those and every second one of the next power.
        heads = config.heads
        power = 2 ** math.floor(math.log2(heads))
        slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
        slopes += [2 ** (-4 * (2 * i + 1) / power) for i in range(heads - power)]
        return LinearBias(slopes, [0] * heads)


@dataclass(frozen=True)
class Peaks(Position):
    """ALiBi whose heads look at neighbours: head i has no penalty at distances[i] (key minus query), and slopes[i] for
    each place between a key and there.

    The steeper, the more a head is one tap of a convolution (Cordonnier et al. 2020, section 3; d'Ascoli et al. 2021
    begin with such heads); the flatter, the more of a sequence it sees. Content counts as ever, and direction is told,
    which ALiBi keeps from a stack that is not causal.
    """

    distances: tuple[int, ...]
    slopes: tuple[float, ...]

    in_attention: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("distances", "slopes"):  # lists would be equal to nothing that was read from a file
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def build(self, config: "StackConfig") -> PositionModule:
        return LinearBias(self.slopes, self.distances)

    def check(self, config: "StackConfig") -> None:
        for name in ("distances", "slopes"):
            if len(getattr(self, name)) != config.heads:
                raise ValueError(f"Peaks: {config.heads} heads need as many {name}, not {len(getattr(self, name))}")
        if not all(0 <= slope < math.inf for slope in self.slopes):
            raise ValueError(f"Peaks: slopes {self.slopes} must be at least 0")
        if config.causal and max(self.distances) > 0:
            raise ValueError(f"Peaks: a causal stack sees no key at distance {max(self.distances)}")


class LinearBias(StaticBias):
    """No penalty at a head's peak, and its slope for each place from there."""

    def __init__(self, slopes: Sequence[float], peaks: Sequence[int]):
        super().__init__()
        self.slopes, self.peaks = slopes, peaks

    def bias(self, distance: Tensor) -> Tensor:
        slopes, peaks = (
            torch.tensor(values, device=distance.device).view(-1, *[1] * distance.dim())
            for values in (self.slopes, self.peaks)
        )
        return -slopes * (distance - peaks).abs()

    def extra_repr(self) -> str:
        return f"slopes={self.slopes}, peaks={self.peaks}"


@dataclass(frozen=True)
class Skewed(Position):
    """Each layer and head learns a vector for every distance; a query's product with it biases the score.

    The relative attention of Music Transformer (Huang et al. 2019, section 3.4): the products "n r" are *skewed* into
    scores "n m", so that no tensor of size n x m x e exists. Distances beyond `max_distance` share the last vector.
    `absolute` is what is added to the embeddings beside it (sines in the paper).
    """

    max_distance: int
    absolute: Position = field(default_factory=NoPosition)

    in_attention: ClassVar[bool] = True

    def build(self, config: "StackConfig") -> PositionModule:
        return SkewedPosition(config, self)

    def parameters(self, config: "StackConfig") -> int:
        own = config.depth * config.heads * self.rows(config) * config.head_width
        return own + self.absolute.parameters(config)

    def rows(self, config: "StackConfig") -> int:
        return self.max_distance if config.causal else 2 * self.max_distance - 1

    def check(self, config: "StackConfig") -> None:
        if self.max_distance < 1:
            raise ValueError(f"max_distance ({self.max_distance}) must be at least 1")
        if self.absolute.in_attention:
            raise ValueError(f"absolute must be added to the embeddings, {type(self.absolute).__name__} is not")
        self.absolute.check(config)


class SkewedPosition(PositionModule):
    def __init__(self, config: "StackConfig", setting: Skewed):
        super().__init__()
        self.absolute = setting.absolute.build(config)
        self.longest = self.absolute.longest
        self.causal, self.max_distance = config.causal, setting.max_distance
        # row i holds distance i - (max_distance - 1), key minus query: the past first, then (not causal) the future
        rows = setting.rows(config)
        self.table = nn.Parameter(torch.randn(config.depth, config.heads, rows, config.head_width) * 0.02)

    def embed(self, x: Tensor, layout: Layout) -> Tensor:
        return self.absolute.embed(x, layout)

    def prepare(self, queries: Layout, keys: Layout) -> Any:
        """(rows of the table, the row of each pair or None where the rows are all distances in order)."""
        if queries.start is not None and keys.start is not None:
            first = keys.start - queries.start - (queries.length - 1)
            count = queries.length + keys.length
            return self._row(torch.arange(first, first + count, device=queries.pos.device)), None
        return None, self._row(_distances(queries, keys)).unsqueeze(1)

    def score(self, q: Tensor, prepared: Any, layer: int) -> Bias:
        rows, index = prepared
        table = self.table[layer]
        return Relative(table if rows is None else table[:, rows], index)

    def _row(self, distance: Tensor) -> Tensor:
        top = self.table.shape[2] - 1
        return (distance + self.max_distance - 1).clamp(0, top)


# -- shared ------------------------------------------------------------------------------------------------------------


def _axes(pos: Tensor) -> Tensor:
    return pos if pos.dim() == 2 else pos.unsqueeze(-1)


def _lookup_positions(pos: Tensor, layout: Layout) -> Tensor:
    """Positions that can be looked up: a token without a place takes the first's, and `_zero_unplaced` drops it."""
    return pos if layout.placed is None else pos.clamp(min=0)


def _zero_unplaced(added: Tensor, layout: Layout) -> Tensor:
    """What a scheme adds "t d", nothing where a token has no place."""
    return added if layout.placed is None else added * layout.placed.unsqueeze(-1)


def _one_axis(pos: Tensor, scheme: str) -> Tensor:
    if pos.dim() != 1:
        raise ValueError(f"{scheme} position takes one axis, these positions have {pos.shape[-1]}")
    return pos


def _distances(queries: Layout, keys: Layout) -> Tensor:
    """Key position minus query position, "b n m"; ValueError where a token has no place to be distant from."""
    if queries.placed is not None or keys.placed is not None:
        raise ValueError("a relative position needs a place for every token")
    q = queries.pad(_one_axis(queries.pos, "a relative"))
    k = keys.pad(_one_axis(keys.pos, "a relative"))
    return rearrange(k, "b m -> b 1 m") - rearrange(q, "b n -> b n 1")
