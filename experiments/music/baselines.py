"""What counting and compressing make of the same tokens: python experiments/music/baselines.py

An n-gram with Witten-Bell interpolation (Witten & Bell 1991) over the training pieces in every key that the models see
them in, told which voice comes next; its order is the best on validation. zstd and lzma: how many bits per token the
held-out pieces add to an archive of the training pieces. Writes experiments/music/results/baselines.json.
"""

import lzma
import math
import shlex
import sys
import time

import numpy as np

from zoo.music.data import JSBChorales
from zoo.provenance import keep

HIGHEST = {"16th": 16, "8th": 12, "quarter": 8}  # order of the n-gram
SPLITS = ("train", "val", "test")


def keys(tokens: np.ndarray, place: np.ndarray, order: int, start: int) -> np.ndarray:
    """A hash of the `order` tokens before each, and of its place in the pattern."""
    padded = np.concatenate((np.full(order, start), tokens)).astype(np.uint64)
    found = place.astype(np.uint64) + np.uint64(1)
    with np.errstate(over="ignore"):
        for back in range(order):
            found = found * np.uint64(0x9E3779B97F4A7C15) + padded[order - 1 - back : len(padded) - 1 - back]
            found ^= found >> np.uint64(29)
    return found


class Counts:
    """How often each token followed each context of one order."""

    def __init__(self, contexts: np.ndarray, tokens: np.ndarray):
        self.contexts, self.total = np.unique(contexts, return_counts=True)
        pairs, count = np.unique(self.pair(contexts, tokens), return_counts=True)
        self.pairs, self.count = pairs, count
        first = np.unique(np.stack((contexts, tokens.astype(np.uint64))), axis=1)[0]
        self.kinds = np.unique(first, return_counts=True)[1]  # different tokens after each context

    @staticmethod
    def pair(contexts: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return contexts * np.uint64(0xBF58476D1CE4E5B9) + tokens.astype(np.uint64) + np.uint64(1)

    def look(self, table: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        place = np.minimum(np.searchsorted(table, wanted), len(table) - 1)
        return np.where(table[place] == wanted, values[place], 0)

    def mix(self, lower: np.ndarray, contexts: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        total = self.look(self.contexts, self.total, contexts)
        kinds = self.look(self.contexts, self.kinds, contexts)
        hits = self.look(self.pairs, self.count, self.pair(contexts, tokens))
        return np.where(total > 0, (hits + kinds * lower) / np.maximum(total + kinds, 1), lower)


def ngram(grid: str, data: JSBChorales, pieces: dict[str, list[list[int]]]) -> dict[str, dict[int, float]]:
    """Nats per token of each split, by order."""
    view = data.view
    voices = 1 if grid == "quarter" else 4
    rows = {split: [(np.array(t), np.arange(len(t)) % voices) for t in pieces[split]] for split in ("val", "test")}
    moved = [
        np.array(view.encode(view.transpose(piece, shift)))
        for piece in data.pieces("train")
        for shift in view.shifts(piece, data.transpose)
    ]
    flat = np.concatenate(moved)
    found: dict[str, dict[int, float]] = {"val": {}, "test": {}}
    now = {split: [np.full(len(t), 1 / view.vocab_size) for t, _ in rows[split]] for split in rows}
    for order in range(HIGHEST[grid] + 1):
        contexts = np.concatenate([keys(t, np.arange(len(t)) % voices, order, view.vocab_size) for t in moved])
        counts = Counts(contexts, flat)
        for split, every in rows.items():
            now[split] = [
                counts.mix(lower, keys(t, place, order, view.vocab_size), t)
                for lower, (t, place) in zip(now[split], every, strict=True)
            ]
            found[split][order] = float(-np.log(np.concatenate(now[split])).mean())
        print(f"{grid}: order {order}", *(f"{s} {-np.log(np.concatenate(now[s])).mean():.4f}" for s in now))
    return found


def compressed(pieces: dict[str, list[list[int]]]) -> dict[str, dict[str, float]]:
    """Nats per token that val and test add to an archive of train."""
    import pyarrow

    codec = pyarrow.Codec("zstd", compression_level=22)
    raw = {split: bytes(t for piece in pieces[split] for t in piece) for split in SPLITS}
    ways = {
        "zstd": lambda x: len(codec.compress(x)),
        "lzma": lambda x: len(lzma.compress(x, preset=9 | lzma.PRESET_EXTREME)),
    }
    return {
        name: {
            split: 8 * math.log(2) * (size(raw["train"] + raw[split]) - size(raw["train"])) / len(raw[split])
            for split in ("val", "test")
        }
        for name, size in ways.items()
    }


def main() -> None:
    begin, grids = time.time(), {}
    for grid in ("16th", "8th", "quarter"):
        data = JSBChorales(grid)
        pieces = {split: [data.view.encode(piece) for piece in data.pieces(split)] for split in SPLITS}
        orders = ngram(grid, data, pieces)
        best = min(orders["val"], key=lambda order: orders["val"][order])
        counts = {split: [sum(x) for x in zip(*map(data.view.count, pieces[split]), strict=True)] for split in SPLITS}
        grids[grid] = {
            "tokens": {split: sum(map(len, pieces[split])) for split in SPLITS},
            "notes": {split: counts[split][0] for split in SPLITS},
            "steps": {split: counts[split][1] for split in SPLITS},
            "order": best,
            "nats_a_token": {
                "n-gram": {split: orders[split][best] for split in ("val", "test")},
                **compressed(pieces),
            },
            "by_order": orders,
        }

    kept = {
        "grids": grids,
    }
    keep(__file__, "baselines", begin, kept, given=shlex.join(sys.argv[1:]))


if __name__ == "__main__":
    main()
