"""Many rows of token ids, held in little memory, and made without ever needing much more."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

A, B = TypeVar("A"), TypeVar("B")


class Rows(Sequence[list[int]]):
    """Rows of token ids in little memory: one array, and where each row ends. A row is given as a list."""

    def __init__(self, rows: Iterable[Sequence[int]] = ()):
        """`rows` are read one by one, so that they need not all be in memory as lists."""
        self.flat, self.ends = array("I"), array("q", [0])
        for row in rows:
            self.append(row)

    def append(self, row: Sequence[int]) -> None:
        self.flat.extend(row)
        self.ends.append(len(self.flat))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, i: int) -> list[int]:  # type: ignore[override]
        if not 0 <= i < len(self):
            raise IndexError(i)
        return self.flat[self.ends[i] : self.ends[i + 1]].tolist()

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.ends)


def typed(rows: Iterable[tuple[Sequence[int], Sequence[int]]]) -> tuple[Rows, Rows]:
    """Ids, and the types of them, from rows of both."""
    ids, types = Rows(), Rows()
    for row in rows:
        ids.append(row[0])
        types.append(row[1])
    return ids, types


def in_turns(texts: Sequence[A], encode: Callable[[Sequence[A]], Iterable[B]]) -> Iterator[B]:
    """What `encode` makes of texts, some thousands at a time: of each a tokenizer keeps much more than its ids."""
    for begin in range(0, len(texts), 10_000):
        yield from encode(texts[begin : begin + 10_000])
