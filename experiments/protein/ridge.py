"""One-hot ridge regression on the fitness sets, the linear model to hold a network against.

    python experiments/protein/ridge.py

Each residue at each place is a feature; the penalty is chosen by the rank correlation on the validation part. Writes
results/ridge.json.
"""

import time

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import Ridge

from zoo.protein.data import Chain
from zoo.protein.labelled import GB1, DeepScan
from zoo.protein.scoring import spearman
from zoo.protein.tokens import INDEX
from zoo.provenance import keep

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)


def features(chains: list[Chain], longest: int) -> csr_matrix:
    """One row per protein: which letter stands where; the places after a shorter one's end hold nothing."""
    rows = np.repeat(np.arange(len(chains)), [len(c.sequence) for c in chains])
    columns = [place * len(INDEX) + INDEX[letter] for c in chains for place, letter in enumerate(c.sequence)]
    return csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(chains), longest * len(INDEX)))


def main() -> None:
    found = {}
    begin = time.time()
    sets = {"avgfp": DeepScan()}
    sets |= {split: GB1(split=split) for split in ("two_vs_rest", "three_vs_rest", "low_vs_high")}
    for name, data in sets.items():
        parts = {split: data.held(split) for split in ("train", "val", "test")}
        longest = max(len(c.sequence) for chains in parts.values() for c in chains)
        x = {split: features(chains, longest) for split, chains in parts.items()}
        y = {split: np.array([c.labels for c in chains]) for split, chains in parts.items()}
        fits = {penalty: Ridge(alpha=penalty).fit(x["train"], y["train"]) for penalty in PENALTIES}
        best = max(fits, key=lambda penalty: spearman(fits[penalty].predict(x["val"]), y["val"]))
        found[name] = {"spearman": spearman(fits[best].predict(x["test"]), y["test"]), "penalty": best}
    kept = {
        "sets": found,
    }
    keep(__file__, "ridge", begin, kept, seed=1)


if __name__ == "__main__":
    main()
