"""Which class was taken for which, in a test of a classifier. Axes: c classes."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def confusion(pairs: Iterable[Sequence[int]], classes: int) -> Tensor:
    """How often each class (row) was taken for each (column), "c c", of pairs (right, found).

    Give what each item was taken for by its key: where there are more processes than batches, two of them see the same.
    """
    right, found = torch.tensor(list(pairs), dtype=torch.long).view(-1, 2).unbind(1)
    return torch.bincount(right * classes + found, minlength=classes**2).view(classes, classes)


def accuracy(table: Tensor) -> float:
    return int(table.trace()) / int(table.sum())


def f1(table: Tensor) -> list[float]:
    """Of each class: 2 hits / (what is of it + what is put into it), 0 where it has neither."""
    return (2 * table.diagonal() / (table.sum(0) + table.sum(1)).clamp(min=1)).tolist()
