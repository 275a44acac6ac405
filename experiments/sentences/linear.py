"""Words and pairs of words to a linear classifier, the model to hold a network of sentences against.

    python experiments/sentences/linear.py

Which words and pairs a sentence has are its features; the penalty of the support vector machine is chosen on the
validation part. TREC stands there again with the quarter that search.py holds out. Writes results/linear.json.
"""

import time

from sklearn.feature_extraction.text import CountVectorizer
from sklearn.svm import LinearSVC

from zoo.provenance import keep
from zoo.text.labelled import SST2, TREC

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


def main() -> None:
    begin, found = time.time(), {}
    sets = {
        "TREC": TREC(tokens="words"),
        "SST-2": SST2(tokens="words"),
        "TREC, a quarter held out": TREC(tokens="words", held_out=0.25),
    }
    for name, data in sets.items():
        counter = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", binary=True)
        parts = {split: tuple(zip(*data.labelled(split), strict=True)) for split in ("train", "val", "test")}
        x = {"train": counter.fit_transform(parts["train"][0])}
        x |= {split: counter.transform(parts[split][0]) for split in ("val", "test")}
        fits = {c: LinearSVC(C=c, random_state=1).fit(x["train"], parts["train"][1]) for c in PENALTIES}
        right = {c: float(fit.score(x["val"], parts["val"][1])) for c, fit in fits.items()}
        best = max(right, key=lambda c: right[c])
        test = float(fits[best].score(x["test"], parts["test"][1]))
        found[name] = {"penalty": best, "val": right[best], "test": test, "texts": len(parts["test"][1])}
    kept = {
        "sets": found,
    }
    keep(__file__, "linear", begin, kept, seed=1)


if __name__ == "__main__":
    main()
