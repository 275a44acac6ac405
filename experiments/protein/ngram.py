"""The unigram and the 3-gram of the natural proteins, and runs beside them chain by chain.

    python experiments/protein/ngram.py RUN [RUN ...]

Each RUN has been tested (`zoo test`): chains-test.csv in it holds what every chain has had. The n-grams see the same
training and validation proteins and count the same residues. The unigram is that of the validation proteins themselves
(their own frequencies: nothing that looks at one residue at a time can be better); the 3-gram is of the training
proteins, its orders mixed by weights fitted on a hundredth of them. Writes results/natural-ngrams.json.
"""

import itertools
import sys
import time
from pathlib import Path

import numpy as np

from zoo.protein.data import Proteomes
from zoo.protein.task import ratio
from zoo.protein.tokens import RESIDUES
from zoo.provenance import keep

KINDS = len(RESIDUES)


def numbers(sequence: str) -> np.ndarray:
    """Residues as numbers, 20 for what is none of the 20."""
    table = np.full(128, KINDS)
    table[[ord(c) for c in RESIDUES]] = np.arange(KINDS)
    return table[np.frombuffer(sequence.encode(), np.uint8)]


def shares(chains: list[np.ndarray]) -> list[np.ndarray]:
    """The distribution of the next residue after 0, 1 and 2 others; 21 stands before the first."""
    counts = np.zeros((KINDS + 2, KINDS + 2, KINDS)) + 1e-3
    for chain in chains:
        padded = np.concatenate(([KINDS + 1] * 2, chain))
        real = padded[2:] < KINDS
        np.add.at(counts, (padded[:-2][real], padded[1:-1][real], padded[2:][real]), 1)
    return [c / c.sum(-1, keepdims=True) for c in (counts.sum((0, 1)), counts.sum(0), counts)]


def nats(chain: np.ndarray, models: list[np.ndarray], weights: tuple[float, ...]) -> np.ndarray:
    """Negative log likelihood of each of a chain's 20 residues."""
    padded = np.concatenate(([KINDS + 1] * 2, chain))
    real = padded[2:] < KINDS
    one, two, last = (x[real] for x in (padded[:-2], padded[1:-1], padded[2:]))
    found = (models[0][last], models[1][two, last], models[2][one, two, last])
    return -np.log(sum(w * p for w, p in zip(weights, found, strict=True)))


def main(runs: list[Path]) -> None:
    begin = time.time()
    data = Proteomes(limit=200)
    train, held = ([numbers(c.sequence) for c in data.held(name)] for name in ("train", "val"))
    aside = train[::100]
    models = shares([c for i, c in enumerate(train) if i % 100])
    grid = [w for w in itertools.product(np.arange(0, 1.01, 0.1), repeat=3) if abs(sum(w) - 1) < 1e-9]
    weights = min(grid, key=lambda w: sum(nats(c, models, w).sum() for c in aside))
    own = np.bincount(np.concatenate(held), minlength=KINDS)[:KINDS]
    unigram = -np.log(own / own.sum())
    by = {
        "unigram of the validation proteins": [unigram[c[c < KINDS]] for c in held],
        "3-gram": [nats(c, models, weights) for c in held],
    }
    totals = {name: np.array([x.sum() for x in chains]) for name, chains in by.items()}
    counts = np.array([(c < KINDS).sum() for c in held])
    for run in runs:
        rows = np.loadtxt(run / "chains-test.csv", delimiter=",", skiprows=1)
        if not np.array_equal(rows[:, 2], counts):
            raise SystemExit(f"{run}: was tested on other proteins than these")
        totals[run.name] = rows[:, 1]
    reference = totals["unigram of the validation proteins"]
    found = {}
    for name, total in totals.items():
        mean, error = ratio(total, counts)
        gain, gain_error = ratio(reference - total, counts)
        found[name] = {"nll": mean, "error": error, "gain": gain, "gain_error": gain_error}
    pairs = {
        f"{a} - {b}": dict(zip(("difference", "error"), ratio(totals[a] - totals[b], counts), strict=True))
        for a, b in itertools.combinations([run.name for run in runs], 2)
    }
    kept = {
        "data": data.manifest(),
        "weights": [float(w) for w in weights],
        "models": found,
        "pairs": pairs,
    }
    keep(__file__, "natural-ngrams", begin, kept, seed=data.seed, given=" ".join(r.name for r in runs))


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
