"""Pairs of texts for training a translator: public, built in, or the user's own."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.data import public
from zoo.data.batches import TokenBudgetSampler, rows_of
from zoo.data.files import read_lines
from zoo.data.rows import Rows, in_turns
from zoo.errors import UserError
from zoo.text.numbers import SPELL, sample
from zoo.text.tokenised import TextData, check_case, check_ends, cut, tokenizer_for
from zoo.text.tokens import Tokenizer
from zoo.train.data import Split
from zoo.train.start import described

Pairs = list[tuple[str, str]]


class Batch(NamedTuple):
    """Pairs in rows, padded at the right; True in a `keep` = real token."""

    source: Tensor  # "b m", each with its end
    source_keep: Tensor  # "b m"
    labels: Tensor  # "b n", the target with its end
    keep: Tensor  # "b n"
    index: Tensor  # "b": the pair's row in its data set


class EncodedPairs(Dataset[tuple[int, list[int], list[int]]]):
    """Pairs as token ids, ends included: those of `rows`."""

    def __init__(self, rows: np.ndarray, sources: Rows, targets: Rows):
        self.rows, self.sources, self.targets = rows, sources, targets

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[int, list[int], list[int]]:
        row = int(self.rows[i])
        return row, self.sources[row], self.targets[row]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each pair's source and target, "pairs 2"."""
        return np.stack((self.sources.lengths, self.targets.lengths), 1)[self.rows]


def collate(items: list[tuple[int, list[int], list[int]]]) -> Batch:
    """Rows of ids, ends included, to a batch."""
    source, source_keep = rows_of([s for _, s, _ in items], Tokenizer.pad)
    labels, keep = rows_of([t for _, _, t in items], Tokenizer.pad)
    return Batch(source, source_keep, labels, keep, torch.tensor([row for row, _, _ in items]))


class PairedText(TextData):
    """Base of the paired sets: one byte-level BPE for both sides, trained on the training texts alone.

    Subclasses give `pairs(split)`. `tokenizer`: a model's folder or a tokenizer.json to take in place of a new one.
    `max_length` bounds a side in tokens: longer training pairs are left out, those that are held out are cut as they
    are read (their references stay whole), and stderr counts both. `prefix` stands before each source, as models that
    know several tasks want to be told which (Raffel et al. 2020, section 2.4); `zoo translate` puts it there too.
    """

    reach = "max_length"

    def __init__(
        self,
        vocab_size: int = 8000,
        lowercase: bool = False,
        max_length: int = 128,
        tokens_per_batch: int = 4096,
        seed: int = 1,
        workers: int = 0,
        test_set: str = "test",
        tokenizer: Path | None = None,
        prefix: str = "",
    ):
        super().__init__()
        if tokens_per_batch < 1 or max_length < 2:
            raise ValueError(
                f"tokens_per_batch ({tokens_per_batch}) must be at least 1, max_length ({max_length}) at least 2"
            )
        self.lowercase, self.max_length = lowercase, max_length
        self.tokens_per_batch, self.seed, self.workers = tokens_per_batch, seed, workers
        self.test_set, self.prefix = test_set, prefix
        self._texts: dict[str, Pairs] = {}
        self._encoded: dict[str, EncodedPairs] = {}
        texts = [text for pair in self._pairs("train") for text in pair]
        self.tokenizer = tokenizer_for(
            tokenizer, lambda: texts, _digest(self._pairs("train")), vocab_size, lowercase=lowercase
        )
        check_ends(self.tokenizer)
        check_case(self.tokenizer, tokenizer, lowercase)  # unlike the references

    def pairs(self, split: Split) -> Pairs:
        """Source and target of every pair of a split."""
        raise NotImplementedError

    def manifest(self) -> dict[str, Any]:
        """What the data is: the hash of each split's texts, and the settings that shape its batches."""
        splits: tuple[Split, ...] = ("train", "val", "test")
        return {
            "set": type(self).__name__,
            "sha256": {split: _digest(self._pairs(split)) for split in splits},
            "vocab_size": self.vocab_size,
            "lowercase": self.lowercase,
            "max_length": self.max_length,
            "tokens_per_batch": self.tokens_per_batch,
        } | self.describe()

    def describe(self) -> dict[str, Any]:
        return {"prefix": self.prefix} if self.prefix else {}

    @classmethod
    def like(cls, folder: Path) -> dict[str, Any]:
        """With the prefix that a run here was told its task by."""
        said = described(folder).get("prefix")
        return super().like(folder) | ({"prefix": said} if said else {})

    def references(self, split: Split) -> list[str]:
        """The right translations of a split, as they are scored."""
        return [self._cased(target) for _, target in self._pairs(split)]

    def sources(self, split: Split) -> list[str]:
        return [source for source, _ in self._pairs(split)]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return self.tokenizer.decode_batch(rows)

    def _loader(self, split: Split, *, shuffle: bool) -> DataLoader[Any]:
        data = self._encode(split)
        sampler = TokenBudgetSampler(
            data.lengths, self.tokens_per_batch, seed=self.seed, shuffle=shuffle, **self.ranks()
        )
        return DataLoader(
            data,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )

    def _encode(self, split: Split) -> EncodedPairs:
        if split not in self._encoded:
            pairs = self._pairs(split)
            texts = [self.prefix + s for s, _ in pairs], [t for _, t in pairs]
            encode = self.tokenizer.encode_batch, self.tokenizer.encode_targets
            sources, targets = (
                Rows(map(self.tokenizer.closed, in_turns(side, f))) for f, side in zip(encode, texts, strict=True)
            )
            rows = np.arange(len(pairs))
            if split == "train":
                kept = rows[np.maximum(sources.lengths, targets.lengths) <= self.max_length]
                if len(kept) < len(rows):
                    print(
                        f"{len(rows) - len(kept)} of {len(rows)} training pairs are longer than "
                        f"max_length ({self.max_length}) tokens: left out",
                        file=sys.stderr,
                    )
                if not len(kept):
                    said = ", prefix included" if self.prefix else ""
                    raise UserError(f"no training pair has at most max_length ({self.max_length}) tokens a side{said}")
                rows = kept
            else:
                sources, targets = (cut(side, self.max_length, split, self.tokenizer) for side in (sources, targets))
            self._encoded[split] = EncodedPairs(rows, sources, targets)
        return self._encoded[split]

    def _pairs(self, split: Split) -> Pairs:
        if split not in self._texts:
            self._texts[split] = self.pairs(split)
        return self._texts[split]

    def _cased(self, text: str) -> str:
        return text.lower() if self.lowercase else text


class Numbers(PairedText):
    """Whole numbers spelled out (zoo/text/numbers.py): built in, with one right answer each.

    `train`, `val` and `test` distinct numbers below `limit`.
    """

    def __init__(
        self,
        source: Literal["en", "es"] = "en",
        target: Literal["en", "es"] = "es",
        limit: int = 1_000_000,
        train: int = 20_000,
        val: int = 200,
        test: int = 500,
        vocab_size: int = 384,
        lowercase: bool = False,
        max_length: int = 128,
        tokens_per_batch: int = 4096,
        seed: int = 1,
        workers: int = 0,
        tokenizer: Path | None = None,
    ):
        self.source, self.target = source, target
        numbers = sample(train + val + test, limit, seed)
        self.numbers = {"train": numbers[:train], "val": numbers[train : train + val], "test": numbers[train + val :]}
        super().__init__(vocab_size, lowercase, max_length, tokens_per_batch, seed, workers, tokenizer=tokenizer)

    def pairs(self, split: Split) -> Pairs:
        return [(SPELL[self.source](n), SPELL[self.target](n)) for n in self.numbers[split]]


class Multi30k(PairedText):
    """Captions of photographs in English, German, French (Elliott et al. 2016, 2017): 29,000 pairs to train on."""

    def __init__(
        self,
        source: Literal["en", "de", "fr"] = "en",
        target: Literal["en", "de", "fr"] = "de",
        test_set: Literal["test_2016_flickr", "test_2017_flickr", "test_2017_mscoco"] = "test_2016_flickr",
        vocab_size: int = 8000,
        lowercase: bool = False,
        max_length: int = 128,
        tokens_per_batch: int = 4096,
        seed: int = 1,
        workers: int = 0,
        tokenizer: Path | None = None,
        prefix: str = "",
    ):
        if source == target:
            raise ValueError(f"source and target are both {source!r}: give two languages")
        self.source, self.target = source, target
        super().__init__(
            vocab_size, lowercase, max_length, tokens_per_batch, seed, workers, test_set, tokenizer, prefix
        )

    def pairs(self, split: Split) -> Pairs:
        name = self.test_set if split == "test" else split
        files = [f"{name}.{language}.gz" for language in (self.source, self.target)]
        folder = public.fetch("multi30k", files)
        return aligned(*(folder / file for file in files))


class TextPairs(PairedText):
    """The user's own pairs: `source` and `target` name two aligned files, or `tsv` one file of two columns.

    `held_out` pairs each are set aside to validate and to test on; pairs with the same source stay on one side.
    """

    def __init__(
        self,
        source: Path | None = None,
        target: Path | None = None,
        tsv: Path | None = None,
        held_out: int = 500,
        vocab_size: int = 8000,
        lowercase: bool = False,
        max_length: int = 128,
        tokens_per_batch: int = 4096,
        seed: int = 1,
        workers: int = 0,
        tokenizer: Path | None = None,
        prefix: str = "",
    ):
        if (tsv is None) == (source is None) or (source is None) != (target is None):
            raise ValueError("give either source and target (two aligned files) or tsv (one file of two columns)")
        every = columns(tsv) if tsv is not None else aligned(source, target)  # type: ignore[arg-type]
        self.split_pairs = split_by_source(every, held_out, seed)
        super().__init__(
            vocab_size, lowercase, max_length, tokens_per_batch, seed, workers, tokenizer=tokenizer, prefix=prefix
        )

    def pairs(self, split: Split) -> Pairs:
        return self.split_pairs[split]


def aligned(source: Path, target: Path) -> Pairs:
    """Line i of one file with line i of the other; UserError names file and line where they do not fit."""
    left, right = read_lines(Path(source)), read_lines(Path(target))
    if len(left) != len(right):
        raise UserError(f"{source} has {len(left)} lines, {target} has {len(right)}: they must be aligned line by line")
    for number, pair in enumerate(zip(left, right, strict=True), 1):
        for path, text in zip((source, target), pair, strict=True):
            if not text.strip():
                raise UserError(f"{path}, line {number}: empty")
    return list(zip(left, right, strict=True))


def columns(path: Path) -> Pairs:
    """A file of two columns with a tab between; UserError names the line that has not."""
    pairs = []
    for number, line in enumerate(read_lines(Path(path)), 1):
        cells = line.split("\t")
        if len(cells) != 2:
            raise UserError(f"{path}, line {number}: {len(cells)} columns, a pair has 2 (source, tab, target)")
        if not (cells[0].strip() and cells[1].strip()):
            raise UserError(f"{path}, line {number}: empty")
        pairs.append((cells[0], cells[1]))
    return pairs


def split_by_source(pairs: Pairs, held_out: int, seed: int) -> dict[str, Pairs]:
    """Train, val and test, `held_out` sources each for the last two: a source never stands in two splits."""
    sources = sorted({source for source, _ in pairs}, key=lambda s: hashlib.sha256(f"{seed} {s}".encode()).digest())
    if held_out < 1 or len(sources) < 3 * held_out:
        raise UserError(f"{len(sources)} different sources are too few to hold out {held_out} to validate and to test")
    place = dict.fromkeys(sources[:held_out], "val") | dict.fromkeys(sources[held_out : 2 * held_out], "test")
    split: dict[str, Pairs] = {"train": [], "val": [], "test": []}
    for pair in pairs:
        split[place.get(pair[0], "train")].append(pair)
    return split


def _digest(pairs: Pairs) -> str:
    return hashlib.sha256("\n".join(f"{s}\t{t}" for s, t in pairs).encode()).hexdigest()
