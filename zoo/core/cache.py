"""What a decoding loop remembers: one slot per layer, made by that layer's mixer.

Axes: t new tokens, b sequences, n new tokens of a sequence, m slots in use, g key/value heads, e head width.

The cache belongs to the loop and goes through the stack as an argument; modules have no generation mode. A sequence's
keys stand in its row from slot 0 on, whatever padding its prompt came with.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.core.layout import Layout

if TYPE_CHECKING:
    from zoo.core.stack import Stack


@dataclass(frozen=True, eq=False)
class Writing:
    """Where the new tokens of a forward go: slots `begin` to `end` of every row, or their own (`row`, `slot`) each."""

    begin: int
    end: int  # m: slots in use afterwards
    row: Tensor | None = None  # "t"
    slot: Tensor | None = None  # "t"


class State:
    """What a layer remembers between forwards. This one remembers nothing: a forward without a cache."""

    def extend(self, k: Tensor, v: Tensor, writing: Writing | None) -> tuple[Tensor, Tensor]:
        """Add keys and values "t g e"; give all there are: with a cache rows "b g m e", without one "t g e" as they
        came."""
        return k, v

    def once(self, project: Callable[[], tuple[Tensor, Tensor]], source: Layout) -> tuple[Tensor, Tensor]:
        """Keys and values of a source, the same at every step, of which `project` makes "s g e": with a cache rows
        "b g m e", made once, without one "s g e"."""
        return project()

    def read(self) -> tuple[Tensor, ...] | None:
        """A recurrent state as it was left, each "b ..."; None at the beginning."""
        return None

    def write(self, state: tuple[Tensor, ...]) -> None:
        """Leave a recurrent state for the next forward."""

    def reorder(self, rows: Tensor, moves: "Moves | None") -> None:
        """Go on with these rows; `moves`: the slots of which rows that changes, None where all may have to change."""


@dataclass(frozen=True, eq=False)
class Moves:
    """Slots that a reorder changes, of the rows of a cache: each "p"."""

    source: Tensor  # the row to copy from
    row: Tensor  # the row to copy to
    slot: Tensor


SLOT = 2  # the axis m of "b g m e": cut by `narrow`, which takes half the time of an index expression at every token


class KeyValueState(State):
    """Keys and values "b g m e" in memory allocated once."""

    def __init__(self, batch: int, capacity: int, heads: int, width: int, like: Tensor):
        self.k = like.new_zeros(batch, heads, capacity, width)
        self.v = torch.zeros_like(self.k)
        self.batch, self.used = batch, 0

    def extend(self, k: Tensor, v: Tensor, writing: Writing | None) -> tuple[Tensor, Tensor]:
        assert writing is not None
        if k.dtype != self.k.dtype:  # autocast makes halves of a float32 model's keys
            self.k, self.v = self.k.to(k.dtype), self.v.to(v.dtype)
        for held, new in ((self.k, k), (self.v, v)):
            if writing.row is None:
                slots = held.narrow(SLOT, writing.begin, writing.end - writing.begin)
                slots.copy_(new.view(self.batch, -1, *new.shape[1:]).transpose(1, 2))
            else:
                held[writing.row, :, writing.slot] = new
        self.used = writing.end
        return self.k.narrow(SLOT, 0, self.used), self.v.narrow(SLOT, 0, self.used)

    def reorder(self, rows: Tensor, moves: Moves | None) -> None:
        if moves is not None:
            for held in (self.k, self.v):
                held[moves.row, :, moves.slot] = held[moves.source, :, moves.slot]
        elif len(rows) == len(self.k):
            self.k[:, :, : self.used] = self.k[rows, :, : self.used]
            self.v[:, :, : self.used] = self.v[rows, :, : self.used]
        else:
            self.k, self.v, self.batch = self.k[rows], self.v[rows], len(rows)


class SourceState(State):
    """Keys and values of a source "b g m e", projected once. Beams of a source share its row: reorder leaves it."""

    def __init__(self) -> None:
        self.projected: tuple[Tensor, Tensor] | None = None

    def once(self, project: Callable[[], tuple[Tensor, Tensor]], source: Layout) -> tuple[Tensor, Tensor]:
        if self.projected is None:
            k, v = (source.by_head(x).contiguous() for x in project())
            self.projected = k, v
        return self.projected


class RecurrentState(State):
    """The state of a recurrent mixer, each tensor "b ..."."""

    def __init__(self) -> None:
        self.held: tuple[Tensor, ...] | None = None

    def read(self) -> tuple[Tensor, ...] | None:
        return self.held

    def write(self, state: tuple[Tensor, ...]) -> None:
        self.held = state

    def reorder(self, rows: Tensor, moves: Moves | None) -> None:
        if self.held is not None:
            self.held = tuple(x[rows] for x in self.held)


class Cache:
    """The memory of `batch` sequences of at most `capacity` tokens going through `stack`.

    Give it to the stack with the next tokens and the layout that `next` makes for them:

        cache = Cache(stack, batch=2, capacity=20)
        states = stack(prompt, cache.next(10), cache=cache)  # prompt "(b 10) d": ten tokens of each sequence
        states = stack(token, cache.next(), cache=cache)  # token "b d": the eleventh

    ValueError where they do not fit.
    """

    def __init__(self, stack: "Stack", batch: int, capacity: int):
        self.batch, self.capacity = batch, capacity
        self.states = stack.new_states(batch, capacity)
        self.filled = 0  # slots in use by the longest sequence
        self.lengths: Tensor | None = None  # "b" where sequences differ in length
        self.pos: Tensor | None = None  # "b m", "b m a" where tokens came with positions of their own
        self._writer: Tensor | None = None  # "b m" which row wrote what a slot holds, once rows were reordered
        self._next: Layout | None = None  # what `next` made, while it fits
        self._given = False  # whether it was given its positions

    def next(
        self,
        length: int = 1,
        keep: Tensor | None = None,
        device: torch.device | None = None,
        *,
        pos: Tensor | None = None,
    ) -> Layout:
        """The layout of the next `length` tokens of each sequence, or of those in `keep` ("b n", True = real token).

        Their positions go on from those held, unless `pos` ("b n", "b n a") gives them: for all tokens from the first
        on, else a ValueError.
        """
        if self.filled and (pos is None) != (self.pos is None):
            said = "came without" if self.pos is None else "were given"
            raise ValueError(f"the tokens held {said} positions of their own (pos): so must the next")
        if pos is not None:
            if pos.dim() not in (2, 3) or len(pos) != self.batch:
                shape = f"({self.batch}, n) or ({self.batch}, n, a)"
                raise ValueError(f"pos is of shape {tuple(pos.shape)}, expected {shape}")
            if self.pos is not None and (pos.shape[2:], pos.dtype) != (self.pos.shape[2:], self.pos.dtype):
                held = f"{tuple(self.pos.shape[2:])} and {self.pos.dtype}"
                raise ValueError(f"pos has axes {tuple(pos.shape[2:])} and {pos.dtype}, that of the tokens held {held}")
            made = Layout.dense(self.batch, pos.shape[1], pos=pos) if keep is None else Layout.from_keep(keep, pos=pos)
            self._next = made
        elif keep is not None:
            start = self.lengths
            if start is None and self.filled:
                start = torch.full((self.batch,), self.filled, device=keep.device)
            self._next = Layout.from_keep(keep, start=start)
        elif self.lengths is None:
            self._next = Layout.dense(self.batch, length, start=self.filled, device=device)
        else:
            place = self.lengths.unsqueeze(-1) + torch.arange(length, device=self.lengths.device)
            self._next = Layout.dense(self.batch, length, pos=place)
        self._given = pos is not None
        return self._next

    def open(self, queries: Layout) -> tuple[Layout, Writing]:
        """The layout of all tokens once `queries` have come, and where those go."""
        if queries.batch != self.batch:
            raise ValueError(f"the cache holds {self.batch} sequences, {queries.batch} came")
        if queries is not self._next:
            self._check(queries)
            self._given = False
        end = self.filled + queries.length
        if self.lengths is not None and queries.lengths is not None:  # the longest of before may not grow the most
            end = int((self.lengths + queries.lengths).max())
        if end > self.capacity:
            raise ValueError(f"the cache has room for {self.capacity} tokens per sequence, {end} are needed")
        device = queries.pos.device
        if self.lengths is None and queries.lengths is None:
            return self._placed(Layout.dense(self.batch, end, device=device), queries), Writing(self.filled, end)
        held = torch.full((self.batch,), self.filled, device=device) if self.lengths is None else self.lengths
        new = queries.length if queries.lengths is None else queries.lengths
        keys = self._placed(Layout.rows(held + new, end), queries)
        return keys, Writing(self.filled, end, *self._slots(queries))

    def _placed(self, keys: Layout, queries: Layout) -> Layout:
        """Keys at the positions that their tokens came with, where these were given."""
        if not self._given:
            self.pos = None  # of a forward that failed, if any
            return keys
        if self.pos is None:
            self.pos = queries.pos.new_zeros(self.batch, self.capacity, *queries.pos.shape[1:])
        self.pos[self._slots(queries)] = queries.pos
        return replace(
            Layout.dense(self.batch, keys.length, pos=self.pos[:, : keys.length]), lengths=keys.lengths, keep=keys.keep
        )

    def _slots(self, queries: Layout) -> tuple[Tensor, Tensor]:
        """The row and the slot of each of the tokens that follow those held."""
        device = queries.pos.device
        slots = torch.arange(queries.tokens, device=device) if queries.index is None else queries.index
        row, column = slots // queries.length, slots % queries.length
        return row, column + (self.filled if self.lengths is None else self.lengths[row])

    def _check(self, queries: Layout) -> None:
        """ValueError where tokens do not go on from those held: keys stand in their slots' positions, unless `next` was
        given others."""
        if self.filled and self.pos is not None:
            raise ValueError("tokens came at positions that the cache was not told: see `next`")
        if self.lengths is None and queries.start is not None:
            if queries.start != self.filled:
                raise ValueError(f"tokens from position {queries.start} on came, the next is {self.filled}: see `next`")
        elif not torch.equal(queries.pos, self._slots(queries)[1]):
            raise ValueError("tokens came at other positions than follow on what the cache holds: see `next`")

    def close(self, keys: Layout) -> None:
        """Note that all tokens of `keys` are held now."""
        self.filled, self.lengths, self._next = keys.length, keys.lengths, None

    def reorder(self, rows: Tensor) -> None:
        """Go on with these rows ("r", possibly repeated or fewer): a beam search's survivors.

        Sources are not reordered: their rows belong to sentences, which beams share.
        """
        moves = self._moves(rows)
        for state in self.states:
            state.mixer.reorder(rows, moves)
        self.lengths = None if self.lengths is None else self.lengths[rows]
        self.pos = None if self.pos is None else self.pos[rows]
        self.batch, self._next = len(rows), None

    def _moves(self, rows: Tensor) -> Moves | None:
        """What changes under `rows`: beams that go on from one ancestor hold the same up to it, and that stays.

        None where sequences differ in length or number: there all of it is moved.
        """
        if self.lengths is not None or (len(rows) != self.batch and self._writer is not None):
            self._writer = None
            return None
        if self._writer is None:  # rows that are copies of one another now hold what one row wrote
            self._writer = rows.unsqueeze(-1).expand(-1, self.filled)
            return None
        own = torch.arange(self.batch, device=rows.device).unsqueeze(-1)
        fresh = own.expand(-1, self.filled - self._writer.shape[1])
        before = torch.cat((self._writer, fresh), 1)
        self._writer = before[rows]
        row, slot = (before != self._writer).nonzero(as_tuple=True)
        return Moves(rows[row], row, slot)


@dataclass(frozen=True, eq=False)
class LayerState:
    """The slot of one layer."""

    mixer: State
    cross: State


STATELESS = LayerState(State(), State())
