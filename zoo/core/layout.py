"""Which tokens form which sequence. The only place that knows padding.

Axes: t tokens of a batch, b sequences, n positions of the longest sequence, a axes of a position.

The core works on a flat run of tokens "t ..." and a Layout beside it. Three layouts exist: *dense* (all sequences are
equally long: t = b n, a free reshape), *packed* (real tokens only, sequence after sequence) and *rows* (b rows of n
slots of which each sequence fills the first `lengths`: how a cache holds its keys). A Layout is built once per batch,
outside any compiled region, because finding the real tokens breaks a graph.
"""

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor

from zoo.core.tracing import traced


@dataclass(frozen=True, eq=False, kw_only=True)
class Layout:
    """A batch of sequences on a flat run of tokens. Build it with `of`, from a batch "b n ..." and its mask.

    Below `of` are `dense` and `from_keep`, which take positions too; `packed_from` takes lengths, `rows` makes a
    cache's keys. Two pairs of methods go between tokens and rows: `take` and `give` the user's rows, whose padding may
    stand anywhere; `pad` and `pack` the core's own, whose padding comes last.
    """

    batch: int  # b
    length: int  # n: tokens of the longest sequence
    pos: Tensor  # "t" or "t a": the position of each token, below 0 where it has no place among the others
    start: int | None  # the first token's position where all sequences count on from there, else None
    reach: int  # every position is below it
    lengths: Tensor | None = None  # "b" real tokens of each sequence; None: all have `length`
    keep: Tensor | None = None  # "b n" True where a slot holds a real token; None: all do
    index: Tensor | None = None  # "t" the slot (of b n) of each packed token; None: not packed
    inverse: Tensor | None = None  # "b n" flat: the packed token of each slot, t where there is none
    offsets: Tensor | None = None  # "b + 1" int32: where each packed sequence begins
    placed: Tensor | None = None  # "t" False where a token has no place (a class token); None: all have one

    @property
    def packed(self) -> bool:
        return self.index is not None

    @property
    def tokens(self) -> int:
        """t: tokens of the flat run."""
        return self.batch * self.length if self.index is None else self.index.shape[0]

    @staticmethod
    def dense(
        batch: int, length: int, *, start: int = 0, pos: Tensor | None = None, device: torch.device | None = None
    ) -> "Layout":
        """`batch` sequences of `length` tokens, positions counting from `start` or given as `pos` ("b n", "b n a").

        A position below 0 is no place: the token stands beside the sequence, and position schemes leave it alone.
        ValueError where `pos` is of another shape.
        """
        if pos is None:
            count = torch.arange(start, start + length, device=device)
            if batch != 1:  # `repeat` would copy, for each token that is written
                count = count.repeat(batch)
            return Layout(batch=batch, length=length, pos=count, start=start, reach=start + length)
        pos = _flat(pos, batch, length)
        reach, placed = _bounds(pos)
        return Layout(batch=batch, length=length, pos=pos, start=None, reach=reach, placed=placed)

    @staticmethod
    def of(rows: Tensor, keep: Tensor | None) -> "Layout":
        """The layout of a user's rows "b n ...": dense, or of the real tokens where `keep` ("b n") marks padding.
        ValueError where these are not of such a shape, or hold nothing."""
        check_rows(rows, keep)
        if 0 in rows.shape[:2]:
            raise ValueError(f"a batch of {rows.shape[0]} sequences of {rows.shape[1]} tokens came: it holds nothing")
        return Layout.dense(*rows.shape[:2], device=rows.device) if keep is None else Layout.from_keep(keep)

    @staticmethod
    def packed_from(lengths: Tensor, *, length: int | None = None) -> "Layout":
        """Sequences of the given `lengths` ("b"), each from position 0, one after the other without padding."""
        length = int(lengths.max()) if length is None else length
        return Layout.from_keep(torch.arange(length, device=lengths.device) < lengths.unsqueeze(-1))

    @staticmethod
    def from_keep(keep: Tensor, *, start: Tensor | None = None, pos: Tensor | None = None) -> "Layout":
        """The real tokens (`keep`: "b n", True = real) of a padded batch, wherever the padding stands.

        Positions count the real tokens of a sequence from 0, or from `start` ("b"), unless `pos` ("b n" or "b n a")
        gives one for every slot. Where nothing is padded the layout is dense. ValueError where `keep` is no such mask
        or `pos` of another shape.
        """
        if keep.dtype != torch.bool or keep.dim() != 2:  # numbers would be taken for indices later on
            raise ValueError(
                f"keep is of shape {tuple(keep.shape)} and {keep.dtype}, expected (sequences, tokens) of bool, True = "
                "real token: a mask of ones and zeros is keep.bool()"
            )
        batch, width = keep.shape
        if bool(keep.all()):
            if start is None or pos is not None:
                return Layout.dense(batch, width, pos=pos, device=keep.device)
            return Layout.dense(batch, width, pos=start.unsqueeze(-1) + torch.arange(width, device=keep.device))
        slots = keep.flatten().nonzero().squeeze(-1)
        lengths = keep.sum(-1)
        length = max(int(lengths.max()), 1)
        column = (keep.cumsum(-1) - 1).flatten()[slots]
        row = slots // width
        offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
        counted = column if start is None else column + start[row]
        chosen = counted if pos is None else _flat(pos, batch, width)[slots]
        index = row * length + column
        from_zero = start is None and pos is None
        reach, placed = (length, None) if from_zero else _bounds(chosen)
        return Layout(
            batch=batch,
            length=length,
            pos=chosen,
            start=0 if from_zero else None,
            reach=reach,
            lengths=lengths,
            keep=torch.arange(length, device=keep.device) < lengths.unsqueeze(-1),
            index=index,
            inverse=inverse_of(index, batch * length),
            offsets=offsets,
            placed=placed,
        )

    @staticmethod
    def rows(lengths: Tensor, length: int) -> "Layout":
        """b rows of `length` slots of which the first `lengths` ("b") are filled, from position 0 on."""
        count = torch.arange(length, device=lengths.device)
        return Layout(
            batch=len(lengths),
            length=length,
            pos=repeat(count, "n -> (b n)", b=len(lengths)),
            start=0,
            reach=length,
            lengths=lengths,
            keep=count < lengths.unsqueeze(-1),
        )

    def share(self, groups: int) -> "Layout":
        """The same tokens as `groups` longer sequences: sequences that look at one source become queries of one row."""
        if groups == self.batch:
            return self
        if self.batch % groups or self.packed:
            raise ValueError(f"{self.batch} sequences cannot share {groups} sources: they must be dense and a multiple")
        return Layout(
            batch=groups,
            length=self.tokens // groups,
            pos=self.pos,
            start=None,
            reach=self.reach,
            placed=self.placed,
        )

    def pad(self, x: Tensor) -> Tensor:
        """Tokens "t ..." as rows "b n ...", zero where there is no token."""
        if self.index is None:
            return rearrange(x, "(b n) ... -> b n ...", b=self.batch)
        padded = scatter(x, self.index, self.inverse)
        return rearrange(padded, "(b n) ... -> b n ...", b=self.batch)

    def pack(self, x: Tensor) -> Tensor:
        """Rows "b n ..." as tokens "t ...": the inverse of `pad`."""
        x = x.flatten(0, 1)
        if self.index is None:
            return x
        return gather(x, self.index, self.inverse)

    def by_head(self, x: Tensor, *, heads_first: bool = False) -> Tensor:
        """Heads of tokens "t h e" as rows "b h n e", which kernels of attention take; zero where there is no token.

        Packed tokens are moved anyhow: with `heads_first` so that they lie in memory as "h b n e", which spares a
        kernel that wants them so another move. Views of torch's own here and in `by_token`: at a step of one token
        einops takes longer than what it names.
        """
        if self.index is None:
            return x.view(self.batch, self.length, *x.shape[1:]).transpose(1, 2)
        if not heads_first:
            return self.pad(x).transpose(1, 2)
        rows = scatter(x.transpose(0, 1), self.index, self.inverse, 1)  # "h (b n) e"
        return rows.view(len(rows), self.batch, self.length, -1).transpose(0, 1)

    def by_token(self, x: Tensor) -> Tensor:
        """Rows "b h n e" as heads of tokens "t h e": the inverse of `by_head`."""
        if self.index is not None and x.stride(0) < x.stride(1):  # in memory "h b n e"
            return gather(x.transpose(0, 1).flatten(1, 2), self.index, self.inverse, 1).transpose(0, 1)
        x = x.transpose(1, 2).flatten(0, 1)
        return x if self.index is None else gather(x, self.index, self.inverse)

    def take(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """The real tokens "t ..." of a user's rows "b w ...", whose padding (`keep`) may stand anywhere."""
        return x.flatten(0, 1) if keep is None or self.index is None else x[keep]

    def give(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """Tokens "t ..." in the shape of the user's rows "b w ...", zero at padding: the inverse of `take`."""
        if keep is None or self.index is None:
            return rearrange(x, "(b n) ... -> b n ...", b=self.batch)
        slots = keep.flatten().nonzero().squeeze(-1)
        padded = scatter(x, slots, inverse_of(slots, keep.numel()))
        return rearrange(padded, "(b n) ... -> b n ...", b=self.batch)

    def spread(self, x: Tensor) -> Tensor:
        """One value per sequence "b ..." given to each of its tokens: "t ..."."""
        if self.index is None:
            return repeat(x, "b ... -> (b n) ...", n=self.length)
        return x[self.index // self.length]

    def first(self, x: Tensor) -> Tensor:
        """The first token of each sequence: "t ..." to "b ...", zero for a sequence without any."""
        return self.pad(x)[:, 0] if self.offsets is None else self._at(x, self.offsets[:-1])

    def last(self, x: Tensor) -> Tensor:
        """The last token of each sequence, of a dense or packed layout: "t ..." to "b ...", zero for a sequence without
        any."""
        if self.offsets is not None:
            return self._at(x, self.offsets[1:] - 1)
        assert self.lengths is None, "rows hold the keys of a cache, which no one asks for their last"
        return self.pad(x)[:, -1]

    def _at(self, x: Tensor, index: Tensor) -> Tensor:
        """One packed token for each sequence, zero for a sequence without any."""
        assert self.lengths is not None
        if not len(x):
            return x.new_zeros(self.batch, *x.shape[1:])
        found = x[index.clamp(0, len(x) - 1).long()]
        return found.masked_fill((self.lengths == 0).view(-1, *[1] * (x.dim() - 1)), 0)


def check_rows(rows: Tensor, keep: Tensor | None = None) -> None:
    """ValueError where `rows` are not "b n ...", or their mask has another shape."""
    if rows.dim() < 2:
        raise ValueError(
            f"a batch of shape {tuple(rows.shape)} came, expected (sequences, tokens): one sequence is x.unsqueeze(0)"
        )
    if keep is not None and keep.shape != rows.shape[:2]:
        raise ValueError(f"keep is of shape {tuple(keep.shape)}, the batch has {tuple(rows.shape[:2])}: one for each")


def inverse_of(index: Tensor, slots: int) -> Tensor:
    """For distinct slots of tokens (`index`: "t") the token of each of all slots, t where there is none."""
    tokens = torch.arange(len(index), device=index.device)
    return tokens.new_full((slots,), len(index)).index_copy_(0, index, tokens)


def scatter(x: Tensor, index: Tensor, inverse: Tensor | None, dim: int = 0) -> Tensor:
    """Tokens along an axis ("t ...", or `dim`) into zeroed slots, each into its own (`index`: "t"); `inverse` is that
    of these."""
    assert inverse is not None
    if traced():  # the compiler and torch.func take torch's own moves: such a function has no rules for vmap
        shape = list(x.shape)
        shape[dim] = len(inverse)
        return x.new_zeros(shape).index_copy(dim, index, x)
    out: Tensor = _Scatter.apply(x, index, inverse, dim)  # type: ignore[no-untyped-call]
    return out


def gather(x: Tensor, index: Tensor, inverse: Tensor | None, dim: int = 0) -> Tensor:
    """Tokens out of distinct slots along an axis (`index`: "t"): the inverse of `scatter`."""
    assert inverse is not None
    if traced():
        return x.index_select(dim, index)
    out: Tensor = _Gather.apply(x, index, inverse, dim)  # type: ignore[no-untyped-call]
    return out


class _Scatter(torch.autograd.Function):
    """Tokens into zeroed slots. Slots are distinct, so both ways copy: torch's own backward would add, and serially."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(index, inverse)
        ctx.dim = dim
        return _put(x, inverse, dim)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        index, inverse = ctx.saved_tensors
        return gather(grads[0], index, inverse, ctx.dim), None, None, None


class _Gather(torch.autograd.Function):
    """Tokens out of slots; the inverse of `_Scatter`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(index, inverse)
        ctx.dim = dim
        return x.index_select(dim, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        index, inverse = ctx.saved_tensors
        return scatter(grads[0], index, inverse, ctx.dim), None, None, None


def _put(x: Tensor, inverse: Tensor, dim: int) -> Tensor:
    """Each slot takes its token, or the zeros behind the last. On a CPU index_copy_ takes several times as long."""
    shape = list(x.shape)
    shape[dim] = 1
    return torch.cat((x, x.new_zeros(shape)), dim).index_select(dim, inverse)


def _flat(pos: Tensor, batch: int, length: int) -> Tensor:
    """Positions "b n" or "b n a" of flat tokens: "t" or "t a"; ValueError where they are not as many."""
    if pos.shape[:2] != (batch, length) or pos.dim() > 3:
        raise ValueError(
            f"pos is of shape {tuple(pos.shape)}, expected ({batch}, {length}): a position for each token, or its axes"
        )
    return pos.flatten(0, 1)


def _bounds(pos: Tensor) -> tuple[int, Tensor | None]:
    """What every position ("t" or "t a") is below, and which are a place ("t"; None: all). One wait for the device."""
    if not pos.numel():
        return 1, None
    low, high = torch.stack(torch.aminmax(pos)).tolist()
    return high + 1, None if low >= 0 else (pos if pos.dim() == 1 else pos.amin(-1)) >= 0
