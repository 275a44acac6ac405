"""How often each residue and each pair of neighbours stands in a protein, to a linear classifier: the model to hold a
network of classes against.

    python experiments/protein/composition.py

The penalty of the logistic regression is chosen on the validation part. Writes results/composition.json.
"""

import time

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from zoo.protein.labelled import Organisms
from zoo.provenance import keep

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3)


def main() -> None:
    begin, data = time.time(), Organisms()
    parts = {split: data.held(split) for split in ("train", "val", "test")}
    found = {}
    for name, longest in {"residues": 1, "residues and pairs": 2}.items():
        counter = TfidfVectorizer(analyzer="char", ngram_range=(1, longest), lowercase=False, norm="l1", use_idf=False)
        counter.fit([chain.sequence for chain in parts["train"]])
        x = {split: counter.transform([c.sequence for c in chains]).toarray() for split, chains in parts.items()}
        y = {split: [chain.labels for chain in chains] for split, chains in parts.items()}
        fits = {
            c: make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000)).fit(x["train"], y["train"])
            for c in STRENGTHS
        }
        right = {c: float(fit.score(x["val"], y["val"])) for c, fit in fits.items()}
        best = max(right, key=lambda c: right[c])
        found[name] = {"strength": best, "val": right[best], "test": float(fits[best].score(x["test"], y["test"]))}
    kept = {
        "proteins": {split: len(chains) for split, chains in parts.items()},
        "models": found,
    }
    keep(__file__, "composition", begin, kept, seed=1)


if __name__ == "__main__":
    main()
