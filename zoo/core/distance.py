"""Positions that weigh the scores of attention by the distance between query and key.

Axes: t tokens, b sequences, n queries, m keys, h heads, e head width, r relative distances. The hooks are those of
zoo/core/position.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn

from zoo.core.layout import Layout
from zoo.core.position import NoPosition, Position, PositionModule, one_axis
from zoo.core.relative import Bias, Relative

if TYPE_CHECKING:
    from zoo.core.config import StackConfig


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
        return self.bias(distances(queries, keys)).transpose(0, 1)

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
        return None, self._row(distances(queries, keys)).unsqueeze(1)

    def score(self, q: Tensor, prepared: Any, layer: int) -> Bias:
        rows, index = prepared
        table = self.table[layer]
        return Relative(table if rows is None else table[:, rows], index)

    def _row(self, distance: Tensor) -> Tensor:
        top = self.table.shape[2] - 1
        return (distance + self.max_distance - 1).clamp(0, top)


def distances(queries: Layout, keys: Layout) -> Tensor:
    """Key position minus query position, "b n m"; ValueError where a token has no place to be distant from."""
    if queries.placed is not None or keys.placed is not None:
        raise ValueError("a relative position needs a place for every token")
    q = queries.pad(one_axis(queries.pos, "a relative"))
    k = keys.pad(one_axis(keys.pos, "a relative"))
    return rearrange(k, "b m -> b 1 m") - rearrange(q, "b n -> b n 1")
