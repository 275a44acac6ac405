"""Texts with classes: public sets of sentences, and a user's own table."""

import csv
import hashlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.data import public
from zoo.data.batches import TokenBudgetSampler, rows_of
from zoo.data.files import read_lines, read_text, separator_of
from zoo.data.rows import Rows, in_turns
from zoo.data.split import place
from zoo.errors import UserError, nearest
from zoo.text.tokenised import TextData, Tokens, cut, cut_pairs, keeps_case, tokenizer_for
from zoo.text.tokens import Tokenizer
from zoo.train.data import Split

Text = str | tuple[str, str]  # one text, or two that have a class together
Labelled = list[tuple[Text, int]]  # texts with the numbers of their classes


class LabelledBatch(NamedTuple):
    """Texts in rows, padded at the right; each begins with <s>, which serves as a class token, and ends with </s>."""

    ids: Tensor  # "b n"
    keep: Tensor  # "b n", True = real token
    labels: Tensor  # "b"
    index: Tensor  # "b": the text's row in its data set
    types: Tensor | None = None  # "b n": of pairs, which of the two (0, 1) a token belongs to


Item = tuple[int, list[int], int, list[int]]  # a text's row, its ids, its class, and of pairs what `types` says


class _Encoded(Dataset[Item]):
    """Texts as token ids with their class, by their row."""

    def __init__(self, ids: Rows, labels: Sequence[int], types: Rows):
        self.ids, self.labels, self.types = ids, labels, types

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> Item:
        return i, self.ids[i], self.labels[i], self.types[i] if self.types else []


def _collate(items: list[Item]) -> LabelledBatch:
    ids, keep = rows_of([item[1] for item in items], Tokenizer.pad)
    index, labels = (torch.tensor([item[at] for item in items]) for at in (0, 2))
    types = rows_of([item[3] for item in items], 0)[0] if items[0][3] else None
    return LabelledBatch(ids, keep, labels, index, types)


class LabelledText(TextData):
    """Base of the sets of texts with classes. Subclasses set `names` and give `texts(split)`.

    A tokenizer of `vocab_size` tokens is trained on the training texts, or `tokenizer` names a model's folder whose own
    is taken, which cuts upper and lower case as it does; one that is trained here knows lower case alone unless
    `lowercase` is false. A text of more than `max_length` tokens is cut, which stderr says.
    """

    reach = "max_length"

    def __init__(
        self,
        vocab_size: int = 4000,
        lowercase: bool | None = None,
        max_length: int = 256,
        tokens_per_batch: int = 2048,
        seed: int = 1,
        workers: int = 0,
        tokens: Tokens = "bpe",
        tokenizer: Path | None = None,
    ):
        super().__init__()
        if tokens_per_batch < 1 or max_length < 3:
            raise ValueError(
                f"tokens_per_batch ({tokens_per_batch}) must be at least 1, max_length ({max_length}) at least 3"
            )
        self.max_length, self.tokens_per_batch, self.seed, self.workers = max_length, tokens_per_batch, seed, workers
        self._texts: dict[str, Labelled] = {}
        self._encoded: dict[str, _Encoded] = {}
        self.tokenizer = tokenizer_for(
            tokenizer,
            lambda: [side for text, _ in self.labelled("train") for side in _sides(text)],
            _digest(self.labelled("train")),
            vocab_size,
            tokens=tokens,
            lowercase=lowercase is not False,
        )
        if lowercase and tokenizer is not None and keeps_case(self.tokenizer):
            print(f"{tokenizer}: its tokens keep upper and lower case apart: lowercase is not applied", file=sys.stderr)

    def texts(self, split: Split) -> Labelled:
        """Every text of a split with the number of its class."""
        raise NotImplementedError

    @property
    def classes(self) -> int:
        return len(self.names)

    def labelled(self, split: Split) -> Labelled:
        """`texts`, read once."""
        if split not in self._texts:
            self._texts[split] = self.texts(split)
        return self._texts[split]

    def manifest(self) -> dict[str, Any]:
        """What the data is: the hash of each split, and the settings that shape its batches."""
        splits: tuple[Split, ...] = ("train", "val", "test")
        return {
            "set": type(self).__name__,
            "sha256": {split: _digest(self.labelled(split)) for split in splits},
            "texts": {split: len(self.labelled(split)) for split in splits},
            "classes": list(self.names),
            "vocab_size": self.vocab_size,
            "max_length": self.max_length,
            "tokens_per_batch": self.tokens_per_batch,
        }

    def _loader(self, split: Split, *, shuffle: bool) -> DataLoader[Any]:
        data = self._encode(split)
        sampler = TokenBudgetSampler(
            data.ids.lengths, self.tokens_per_batch, seed=self.seed, shuffle=shuffle, **self.ranks()
        )
        return DataLoader(
            data,
            batch_sampler=sampler,
            collate_fn=_collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )

    def _encode(self, split: Split) -> _Encoded:
        if split not in self._encoded:
            labelled = self.labelled(split)
            pairs = [text for text, _ in labelled if not isinstance(text, str)]
            if pairs:
                ids, types = cut_pairs(pairs, self.max_length, split, self.tokenizer)
            else:
                found = in_turns([str(text) for text, _ in labelled], self.tokenizer.encode_batch)
                ids = cut(Rows(map(self.tokenizer.around, found)), self.max_length, split, self.tokenizer)
                types = Rows()
            self._encoded[split] = _Encoded(ids, [label for _, label in labelled], types)
        return self._encoded[split]


class _Sentences(LabelledText):
    """Sets of the register's "sst": a line is a class, a space, and a sentence in lower case, tokenised."""

    def read(self, file: str, encoding: str = "utf-8") -> Labelled:
        path = public.fetch("sst", [file]) / file
        rows = []
        for number, line in enumerate(read_lines(path, encoding=encoding), 1):
            label, _, text = line.partition(" ")
            if not (label.isdecimal() and int(label) < len(self.names) and text.strip()):
                raise UserError(f"{path}, line {number}: not a class below {len(self.names)}, a space and a sentence")
            rows.append((text.strip(), int(label)))
        return rows


class SST2(_Sentences):
    """Sentences of film reviews, without neutral ones (Socher et al. 2013): 6,920 to train on, 872, 1,821 to test."""

    names = ("negative", "positive")

    def texts(self, split: Split) -> Labelled:
        return self.read(f"stsa.binary.{_SST_NAMES[split]}")


class SST1(_Sentences):
    """Sentences of film reviews in five degrees (Socher et al. 2013): 8,544 to train on, 1,101, 2,210 to test."""

    names = ("very negative", "negative", "neutral", "positive", "very positive")

    def texts(self, split: Split) -> Labelled:
        return self.read(f"stsa.fine.{_SST_NAMES[split]}")


_SST_NAMES = {"train": "train", "val": "dev", "test": "test"}


class TREC(_Sentences):
    """Questions by what they ask for (Li & Roth 2002): 5,452 to train on, and 500 to test.

    A share of `held_out` of the first validates; ValueError where it is no share. Which questions, `split` decides and
    no seed: runs of several seeds are validated on the same.
    """

    names = ("description", "entity", "abbreviation", "human", "location", "number")

    def __init__(
        self,
        held_out: float = 0.1,
        vocab_size: int = 4000,
        lowercase: bool | None = None,
        max_length: int = 256,
        tokens_per_batch: int = 2048,
        seed: int = 1,
        workers: int = 0,
        tokens: Tokens = "bpe",
        tokenizer: Path | None = None,
        split: int = 0,
    ):
        if not 0 < held_out < 1:
            raise ValueError(f"held_out ({held_out}) must be in (0, 1): that share of the questions validates")
        self.held_out, self.split = held_out, split
        super().__init__(vocab_size, lowercase, max_length, tokens_per_batch, seed, workers, tokens, tokenizer)

    def texts(self, split: Split) -> Labelled:
        if split == "test":
            return self.read("TREC.test.all")
        parts = split_texts(self.read("TREC.train.all", "iso-8859-1"), {"val": self.held_out}, 1 + self.split)
        if not parts[split]:
            raise UserError(f"held_out ({self.held_out}) leaves no question to {split} on")
        return parts[split]


class MR(_Sentences):
    """Sentences of film reviews (Pang & Lee 2005): 10,662, of which a tenth each validates and tests.

    Which, `split` decides and no seed. The published numbers are means over ten such splits: `--data.split` 0 to 9.
    """

    names = ("negative", "positive")

    def __init__(
        self,
        vocab_size: int = 4000,
        lowercase: bool | None = None,
        max_length: int = 256,
        tokens_per_batch: int = 2048,
        seed: int = 1,
        workers: int = 0,
        tokens: Tokens = "bpe",
        tokenizer: Path | None = None,
        split: int = 0,
    ):
        self.split = split
        super().__init__(vocab_size, lowercase, max_length, tokens_per_batch, seed, workers, tokens, tokenizer)

    def texts(self, split: Split) -> Labelled:
        # said to be ISO-8859-1, but for quotes, dashes and dots that only Windows' superset of it has
        return split_texts(self.read("rt-polarity.all", "cp1252"), {"val": 0.1, "test": 0.1}, 1 + self.split)[split]


class LabelledTable(LabelledText):
    """The user's own texts: a CSV file, or a TSV one, whose first line names the columns.

    `text` and `label` are the names of two of them; a class is whatever stands in the latter. `text_pair` names a third
    where two texts have a class together. A share of `held_out` each is set aside to validate and to test on; equal
    texts stay on one side, as do pairs of which the first is the same.
    """

    def __init__(
        self,
        path: Path,
        text: str = "text",
        label: str = "label",
        held_out: float = 0.1,
        vocab_size: int = 4000,
        lowercase: bool | None = None,
        max_length: int = 256,
        tokens_per_batch: int = 2048,
        seed: int = 1,
        workers: int = 0,
        tokens: Tokens = "bpe",
        tokenizer: Path | None = None,
        text_pair: str | None = None,
    ):
        if not 0 < held_out < 0.5:
            raise ValueError(f"held_out ({held_out}) must be in (0, 0.5): that share validates, and as much tests")
        rows = read_table(Path(path), text, label, text_pair)
        self.names = tuple(sorted({name for _, name in rows}))
        if len(self.names) < 2:
            raise UserError(f"{path}: column {label!r} holds one class only ({self.names[0]!r})")
        numbers = {name: number for number, name in enumerate(self.names)}
        labelled: Labelled = [(content, numbers[name]) for content, name in rows]
        self.splits = split_texts(labelled, {"val": held_out, "test": held_out}, seed)
        for split, found in self.splits.items():
            if not found:
                raise UserError(
                    f"{path}: {len(rows)} texts are too few to hold out {held_out:g} of them ({split} is empty)"
                )
        if lacking := set(numbers.values()) - {number for _, number in self.splits["train"]}:
            name = self.names[min(lacking)]
            raise UserError(f"{path}: class {name!r} has too few texts, none is left to train on")
        super().__init__(vocab_size, lowercase, max_length, tokens_per_batch, seed, workers, tokens, tokenizer)

    def texts(self, split: Split) -> Labelled:
        return self.splits[split]


def read_table(path: Path, text: str, label: str, pair: str | None = None) -> list[tuple[Text, str]]:
    """Texts and their classes from two columns of a CSV or TSV file, or pairs of texts from three, by their names;
    UserError names file and line of what is wrong."""
    columns = [text, label] if pair is None else [text, pair, label]
    table = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=separator_of(path), strict=True)
    rows: list[tuple[Text, str]] = []
    try:
        head = next(table)
        for column in columns:
            if column not in head:
                raise UserError(f"{path}: no column {column!r}{nearest(column, head)}")
        places = [head.index(column) for column in columns]
        for row in table:
            if not row:
                continue
            if len(row) != len(head):
                raise UserError(f"{path}, line {table.line_num}: {len(row)} columns, the first line has {len(head)}")
            cells = [row[place].strip() for place in places]
            for column, value in zip(columns, cells, strict=True):
                if not value:
                    raise UserError(f"{path}, line {table.line_num}: nothing in column {column!r}")
            rows.append((cells[0] if pair is None else (cells[0], cells[1]), cells[-1]))
    except csv.Error as error:
        raise UserError(f"{path}, line {table.line_num}: {error}") from None
    if not rows:
        raise UserError(f"{path}: no texts below the names of the columns")
    return rows


def split_texts(rows: Labelled, shares: dict[Split, float], seed: int = 1) -> dict[Split, Labelled]:
    """Parts of these shares, and "train" for the rest. Where a text goes depends on it, of two on the first, and on
    `seed` alone."""
    parts: dict[Split, Labelled] = {split: [] for split in ("train", *shares)}
    for text, label in rows:
        left = place(f"{seed} {_sides(text)[0]}")
        for split, share in shares.items():
            left -= share
            if left < 0:
                parts[split].append((text, label))
                break
        else:
            parts["train"].append((text, label))
    return parts


def _digest(rows: Labelled) -> str:
    lines = ("\t".join((str(label), *_sides(text))) for text, label in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _sides(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text
