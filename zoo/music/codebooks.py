"""Codebooks: k parallel streams of codes, and the pattern in which a model reads and writes them.

Axes: b sequences, k codebooks, n positions of the codes, s positions of the pattern, r rows, v codes of a book.

A codec gives k codes at once, which are not independent. Which of them a model may see when it writes another is the
pattern: parallel (none of the same moment), delayed (those of the books before it) or flat (one code at a time). Copet
et al. 2023, section 2.1. A pattern is a pure value: `build` lays codes out, `revert` takes them back. Where it has no
code there stands v, the token that MusicLM reads and never writes.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from zoo.core.setting import Setting
from zoo.music.view import View


@dataclass(frozen=True)
class Pattern(Setting):
    """Where the code of a book and position stands: at `place(k, n)`, in a length of `length(n)`."""

    def place(self, codebooks: int, positions: int) -> Tensor:
        """Places "k n" in the pattern's sequence."""
        raise NotImplementedError

    def build(self, codes: Tensor, hole: int) -> Tensor:
        """Codes "b k n" laid out, "b k s", with `hole` where none stands."""
        place = self.place(*codes.shape[1:]).to(codes.device).expand_as(codes)
        length = int(place.max()) + 1 if codes.shape[-1] else 0
        return codes.new_full((*codes.shape[:2], length), hole).scatter(-1, place, codes)

    def revert(self, laid: Tensor, positions: int) -> Tensor:
        """The `positions` codes "b k n" that were laid out as "b k s"."""
        return laid.gather(-1, self.place(laid.shape[1], positions).to(laid.device).expand(len(laid), -1, -1))

    def steps(self, codebooks: int, positions: int) -> int:
        """s: how long the codes of `positions` positions are when laid out."""
        return int(self.place(codebooks, positions).max()) + 1


@dataclass(frozen=True)
class Parallel(Pattern):
    """All codes of a moment at once."""

    def place(self, codebooks: int, positions: int) -> Tensor:
        return torch.arange(positions).expand(codebooks, -1)


@dataclass(frozen=True)
class Delay(Pattern):
    """Each book `by` positions behind the one before it."""

    by: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by < 1:
            raise ValueError(f"by ({self.by}) must be at least 1; Parallel has no delay")

    def place(self, codebooks: int, positions: int) -> Tensor:
        return torch.arange(positions) + self.by * torch.arange(codebooks).unsqueeze(-1)


@dataclass(frozen=True)
class Flat(Pattern):
    """One code at a time, the books of a moment in order."""

    def place(self, codebooks: int, positions: int) -> Tensor:
        return codebooks * torch.arange(positions) + torch.arange(codebooks).unsqueeze(-1)


class Laid:
    """A pattern as the constraint of zoo.core.decode: holes stand where it has no code, for `positions` positions.

    The model never writes a hole of itself, so the scores get a column for it.
    """

    def __init__(self, pattern: Pattern, codebooks: int, positions: int, hole: int):
        self.place = torch.zeros(codebooks, pattern.steps(codebooks, positions), dtype=torch.bool)
        self.place.scatter_(-1, pattern.place(codebooks, positions), True)
        self.hole = hole

    def __call__(self, tokens: Tensor, scores: Tensor) -> Tensor:
        """Scores "r k v" of the step after `tokens` "r n k", as "r k v+1"."""
        code = self.place[:, tokens.shape[1]].to(scores.device).unsqueeze(-1)
        none = torch.full_like(scores[..., :1], float("-inf"))
        return torch.cat((scores.masked_fill(~code, float("-inf")), none.masked_fill(~code, 0.0)), -1)


@dataclass(frozen=True)
class Codebooks(View):
    """Codes of a codec: `books` of `size` codes each, laid out by a pattern. They end by length, not by a token."""

    books: int = 4
    size: int = 256
    pattern: Pattern = field(default_factory=Delay)

    @property
    def vocab_size(self) -> int:
        return self.size

    def prompt(self, count: int) -> Tensor:
        """What `count` pieces begin with, before any code: "b k 1"."""
        return torch.full((count, self.books, 1), self.size)

    def laid(self, positions: int) -> Laid:
        """The constraint under which a model writes `positions` positions."""
        return Laid(self.pattern, self.books, positions, self.size)
