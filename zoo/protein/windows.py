"""Windows over chains that are longer than what a model is given at once."""

from itertools import pairwise
from typing import NamedTuple


class Cut(NamedTuple):
    """A window [begin, end), and the part of it [first, last) that counts."""

    begin: int
    end: int
    first: int
    last: int


def cuts(size: int, longest: int, overlap: int) -> list[Cut]:
    """Windows over `size` places, each at most `longest` of them, in which every place counts once.

    Neighbours share at least `overlap` places: the earlier window counts the first half of them, the later the rest, so
    that what counts has at least overlap / 2 places on each side where the chain goes on. All windows are equally
    long. What fits is one window: the whole. ValueError where the overlap leaves no way forward.
    """
    if not 0 <= overlap < longest:
        raise ValueError(f"overlap ({overlap}) must be at least 0 and below the window ({longest})")
    if size <= longest:
        return [Cut(0, size, 0, size)]
    count = -(-(size - overlap) // (longest - overlap))
    begins = [round(i * (size - longest) / (count - 1)) for i in range(count)]
    borders = [0, *((before + longest + begin) // 2 for before, begin in pairwise(begins)), size]
    return [Cut(b, b + longest, first, last) for b, (first, last) in zip(begins, pairwise(borders), strict=True)]
