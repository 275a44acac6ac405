"""What all data of text shares: its tokenizer, trained or given, and texts cut to what a model can read."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from zoo.atomic import write_atomically
from zoo.data.files import data_folder
from zoo.data.rows import Rows, in_turns, typed
from zoo.errors import UserError
from zoo.text.opening import AnyTokenizer
from zoo.text.tokens import Tokenizer
from zoo.train.data import DataModule, Split


class TextData(DataModule):
    """Base of the data modules of text: they have a tokenizer, and with it `vocab_size`, as soon as they are built."""

    tokenizer: Tokenizer

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.vocab_size

    @property
    def mask(self) -> int | None:
        """None where a published tokenizer has no such token."""
        return self.tokenizer.mask if self.tokenizer.has("mask") else None

    @property
    def ordinary(self) -> tuple[int, int]:
        return self.tokenizer.ordinary

    def save(self, folder: Path) -> None:
        """The tokenizer, into a run folder."""
        self.tokenizer.save(folder)

    @classmethod
    def like(cls, folder: Path) -> dict[str, Any]:
        return {} if AnyTokenizer.find(folder) is None else {"tokenizer": str(folder)}

    def check_origin(self, run: Path) -> None:
        path = AnyTokenizer.find(run)
        if path is None:
            raise UserError(f"{run} says of no tokens what they are: it has no {AnyTokenizer.named()}")
        if AnyTokenizer.load(path).to_json() != self.tokenizer.to_json():
            raise UserError(f"{run} was trained on other tokens: take its own with --data.tokenizer {run}")


# How texts are cut: into pieces of words, which can spell every text, or into whole words, of which some are not known.
Tokens = Literal["bpe", "words"]


def tokenizer_for(
    given: Path | None,
    texts: Callable[[], Iterable[str]],
    content: str,
    vocab_size: int,
    *,
    tokens: Tokens = "bpe",
    lowercase: bool = False,
) -> Tokenizer:
    """The tokenizer `given` (a file, or the folder of a model), or one of `vocab_size` tokens trained on `texts()`.

    What was trained is kept in the data folder under `content` (a hash of the texts) and its settings. UserError where
    no tokenizer is where it should be.
    """
    if given is not None:
        return AnyTokenizer.load(AnyTokenizer.find(given) or given / Tokenizer.filename if given.is_dir() else given)
    key = hashlib.sha256(json.dumps([content, vocab_size, lowercase]).encode()).hexdigest()
    path = data_folder() / "tokenizers" / f"{tokens}-{key[:24]}.json"
    if not path.is_file():
        train = Tokenizer.words if tokens == "words" else Tokenizer.train
        trained = train(texts(), vocab_size, lowercase=lowercase)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, trained.to_json())
    return Tokenizer.load(path)


def cut(rows: Rows, most: int, split: Split, tokenizer: Tokenizer) -> Rows:
    """Rows of at most `most` tokens, with their end where they have one; stderr counts those that were longer."""
    long = int((rows.lengths > most).sum())
    if not long:
        return rows
    print(f"{long} of {len(rows)} texts ({split}) are longer than max_length ({most}) tokens: cut", file=sys.stderr)
    end = int(tokenizer.ends)
    return Rows(row if len(row) <= most else [*row[: most - end], *row[len(row) - end :]] for row in rows)


def keeps_case(tokenizer: Tokenizer) -> bool:
    """Whether upper and lower case have tokens of their own."""
    return tokenizer.encode("ABC") != tokenizer.encode("abc")


def check_case(tokenizer: Tokenizer, given: Path | None, lowercase: bool | None) -> None:
    """UserError where lower case is asked for and a `given` tokenizer knows upper case too."""
    if lowercase and given is not None and keeps_case(tokenizer):
        raise UserError(f"{given}: its tokens keep upper and lower case apart: leave data.lowercase unset")


def cut_pairs(pairs: Sequence[tuple[str, str]], most: int, split: Split, tokenizer: Tokenizer) -> tuple[Rows, Rows]:
    """Ids of two texts each, and which of the two a token belongs to, in rows of at most `most` tokens, the longer text
    cut first; stderr counts those that were longer."""
    count = 0

    def encode(some: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        nonlocal count
        rows = tokenizer.encode_pairs(some)
        long = [number for number, (ids, _) in enumerate(rows) if len(ids) > most]
        for number, row in zip(long, tokenizer.encode_pairs([some[i] for i in long], most), strict=True):
            rows[number] = row
        count += len(long)
        return rows

    found = typed(in_turns(pairs, encode))
    if count:
        said = f"{count} of {len(pairs)} pairs ({split}) are longer than max_length ({most}) tokens: cut"
        print(said, file=sys.stderr)
    return found


def check_ends(tokenizer: Tokenizer) -> None:
    """UserError where a tokenizer does not end a text: what learns to write by it would never stop."""
    if not tokenizer.ends:  # only a published one
        raise UserError(f"{tokenizer.where}: ends no text with a token for that, so that a model would never stop")
