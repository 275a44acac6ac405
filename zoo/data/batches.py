"""Batches of sequences by a budget of tokens, in an order that is a pure function of (seed, epoch)."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from zoo.errors import UserError

T = TypeVar("T")


class TokenBudgetSampler(Sampler[list[int]]):
    """Batches of indices whose real tokens together fit `budget`, sequences of similar length together.

    `lengths`: "items" or "items sides" (source, target): what an item costs is the sum of its sides. Padding is not
    counted, since batches are packed. An item longer than the budget is a batch of its own.

    With `shuffle`, items of equal length and the batches change places every epoch. Otherwise batches go from short to
    long. Each of `world` ranks gets every world-th batch; shuffled batches that do not fill a round are left out of
    that epoch (others in the next), so that ranks take equally many steps. UserError where there are fewer than ranks.
    Without `shuffle` a rank may then have the last batch, which counts twice.
    """

    def __init__(
        self,
        lengths: Sequence[int] | Sequence[tuple[int, ...]] | np.ndarray,
        budget: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
    ):
        if budget < 1:
            raise ValueError(f"the budget ({budget}) must be at least one token")
        if not 0 <= rank < world:
            raise ValueError(f"rank ({rank}) must be below world ({world})")
        sides = np.asarray(lengths, dtype=np.int64)
        self.sides = sides.reshape(len(sides), -1 if len(sides) else 1)
        self.budget, self.seed, self.shuffle, self.rank, self.world = budget, seed, shuffle, rank, world
        self.epoch = 0
        self.skip = 0  # batches that the next pass leaves out: an interrupted epoch goes on there
        # Equal lengths are interchangeable, so where one batch ends and the next begins never changes.
        ranked = np.sort(self._keys())
        self.cuts = self._cut(ranked)
        if shuffle and len(self.cuts) - 1 < world:
            raise UserError(f"{len(self.cuts) - 1} batches for {world} processes: make batches smaller, or take fewer")

    def __len__(self) -> int:
        """Batches of a whole epoch, on this rank."""
        count = len(self.cuts) - 1
        return max(count // self.world if self.shuffle else len(range(self.rank, count, self.world)), 1)

    def __iter__(self) -> Iterator[list[int]]:
        skip, self.skip = self.skip, 0
        yield from self.batches(self.epoch)[skip:]

    def batches(self, epoch: int) -> list[list[int]]:
        """This rank's batches of an epoch."""
        random = np.random.default_rng((self.seed, epoch))
        order = random.permutation(len(self.sides)) if self.shuffle else np.arange(len(self.sides))
        order = order[np.argsort(self._keys()[order], kind="stable")]
        cut = [order[a:b].tolist() for a, b in zip(self.cuts[:-1], self.cuts[1:], strict=True)]
        if not self.shuffle:
            # A rank with nothing to do would let the others wait for ever: it takes the last batch once more.
            return cut[self.rank :: self.world] or cut[-1:]
        whole = len(cut) // self.world * self.world
        return [cut[i] for i in random.permutation(len(cut))[:whole]][self.rank :: self.world]

    def _keys(self) -> np.ndarray:
        """One number an item: sorted by the last side first (a decoder's padding is the dearest), then the others."""
        top = self.sides.max(initial=0) + 1
        keys = np.zeros(len(self.sides), dtype=np.int64)
        for side in reversed(range(self.sides.shape[1])):
            keys = keys * top + self.sides[:, side]
        return keys

    def _cut(self, ranked: np.ndarray) -> list[int]:
        """Where batches begin, and the end, among items in the order of their keys."""
        top = self.sides.max(initial=0) + 1
        cost = np.zeros(len(ranked), dtype=np.int64)
        for _ in range(self.sides.shape[1]):
            ranked, side = np.divmod(ranked, top)
            cost += side
        total = np.concatenate(([0], cost.cumsum()))
        cuts = [0]
        while cuts[-1] < len(cost):
            last = int(np.searchsorted(total, total[cuts[-1]] + self.budget, side="right")) - 1
            cuts.append(max(last, cuts[-1] + 1))
        return cuts


class EpochSampler(TokenBudgetSampler):
    """Batches of (epoch, index): what an item is may then depend on the epoch, also in worker processes."""

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:  # type: ignore[override]
        epoch = self.epoch
        for batch in super().__iter__():
            yield [(epoch, index) for index in batch]


class Made(Dataset[T]):
    """A data set that makes a whole batch of a list of indices: `self[list]`.

    Its loader takes a batch sampler and `collate_fn=Made.whole`. (Without a batch size it could take the sampler as one
    of items; but Lightning puts another in place of those, where it repeats a batch to see whether a model can learn.)
    """

    def __getitems__(self, which: list[Any]) -> T:
        return self[which]

    @staticmethod
    def whole(batch: T) -> T:
        """As it was made."""
        return batch


def rows_of(ids: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Lists of ids as rows "b m", padded at the right, and which slots are real."""
    lengths = torch.tensor([len(row) for row in ids])
    keep = torch.arange(int(lengths.max())) < lengths.unsqueeze(-1)
    out = torch.full(keep.shape, pad)
    out[keep] = torch.tensor([i for row in ids for i in row])
    return out, keep
