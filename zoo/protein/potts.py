"""The built-in protein family: sequences of a pairwise (Potts) model with planted contacts. No file, no network.

Axes: k edges, a b kinds of residue, s sequences, n positions.

Positions stand on one ring in a random order, and each touches its two neighbours there: degree 2, as many contacts as
positions, none closer than `SEPARATION` along the chain. A contact has an energy of its own, sparse and one to one:
`strength` where the residue at one end is the partner of the other's, by a permutation of the 20 drawn for this
contact, else 0. p(x) is proportional to exp(sum of energies), so every residue alone is even: no position says
anything by itself, and what a model knows of a residue it can have from the contacts only.

A ring can be summed exactly: sequences are drawn from the model itself (no chain that must mix), and its entropy is
known, which is the least loss that any language model can have.
"""

from dataclasses import dataclass

import numpy as np

from zoo.protein.tokens import RESIDUES

KINDS = len(RESIDUES)
SEPARATION = 4  # positions between the ends of a contact, at least: contacts of one turn of a helix say little


@dataclass(frozen=True, eq=False)
class Family:
    """A ring of contacts over `length` positions. Make it with `plant`."""

    order: np.ndarray  # "n": the positions in the order of the ring
    energies: np.ndarray  # "k a b": of edge k, from order[k] to order[k + 1]

    @property
    def length(self) -> int:
        return len(self.order)

    @property
    def edges(self) -> list[tuple[int, int]]:
        """The contacts, as positions from 0, in the order of `energies`."""
        after = np.roll(self.order, -1)
        return [(int(i), int(j)) for i, j in zip(self.order, after, strict=True)]

    def contacts(self) -> np.ndarray:
        """True where two positions touch: "n n"."""
        touch = np.zeros((self.length, self.length), dtype=bool)
        for i, j in self.edges:
            touch[i, j] = touch[j, i] = True
        return touch

    def pair_energies(self) -> np.ndarray:
        """Energies "n n a b" in the zero-sum gauge, zero where positions do not touch."""
        found = np.zeros((self.length, self.length, KINDS, KINDS))
        for (i, j), energy in zip(self.edges, self.energies, strict=True):
            centred = energy - energy.mean(0) - energy.mean(1, keepdims=True) + energy.mean()
            found[i, j], found[j, i] = centred, centred.T
        return found

    def sample(self, size: int, seed: int) -> np.ndarray:
        """`size` sequences as indices into RESIDUES, "s n", drawn from the model exactly."""
        random = np.random.default_rng(seed)
        weights = np.exp(self.energies)
        # ends[k]: the weight "a c" of all ways from edge k's first position on round to the ring's first
        ends = [np.eye(KINDS)]
        for weight in weights[::-1]:
            ends.append(weight @ ends[-1] / weight.sum(1).max())
        ends = ends[::-1]
        first = _draw(random, np.repeat(np.diagonal(ends[0])[None], size, 0))
        ring = [first]
        for weight, after in zip(weights[:-1], ends[1:], strict=False):
            ring.append(_draw(random, weight[ring[-1]] * after[:, first].T))
        sequences = np.empty((size, self.length), dtype=np.int64)
        sequences[:, self.order] = np.stack(ring, 1)
        return sequences

    def conditional(self, sequences: np.ndarray) -> np.ndarray:
        """Log probability of each residue of "s n" given all the others: what a masked model can know at best."""
        ring = sequences[:, self.order]
        before, after = np.roll(ring, 1, 1), np.roll(ring, -1, 1)
        out = np.empty(sequences.shape)
        for k in range(self.length):
            scores = self.energies[k - 1][before[:, k]] + self.energies[k][:, after[:, k]].T
            scores = scores - scores.max(1, keepdims=True)
            log = scores - np.log(np.exp(scores).sum(1, keepdims=True))
            out[:, self.order[k]] = log[np.arange(len(ring)), ring[:, k]]
        return out


def plant(length: int, *, strength: float, seed: int) -> Family:
    """A family with its own ring and energies. ValueError where the ring cannot keep its contacts apart."""
    if length < 3 * SEPARATION:
        raise ValueError(f"length ({length}) must be at least {3 * SEPARATION} for contacts {SEPARATION} apart")
    if strength <= 0:
        raise ValueError(f"strength ({strength:g}) must be above 0: without it there is nothing to find")
    random = np.random.default_rng(seed)
    order = random.permutation(length)
    while close := _close(order):
        i, j = random.choice(close), random.integers(length)
        swapped = order.copy()
        swapped[[i, j]] = order[[j, i]]
        order = swapped if len(_close(swapped)) <= len(close) else order
    energies = np.zeros((length, KINDS, KINDS))
    for energy in energies:
        energy[np.arange(KINDS), random.permutation(KINDS)] = strength
    return Family(order, energies)


def _close(order: np.ndarray) -> list[int]:
    """Where in the ring a position stands too near its next one."""
    return np.flatnonzero(np.abs(np.roll(order, -1) - order) < SEPARATION).tolist()


def _draw(random: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    """One index a row of "s a"."""
    total = weights.cumsum(1)
    return (random.random(len(weights))[:, None] * total[:, -1:] >= total).sum(1).clip(max=weights.shape[1] - 1)
