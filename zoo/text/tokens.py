"""Text to token ids and back: byte-level BPE (Sennrich et al. 2016, over bytes as in Radford et al. 2019).

The library `tokenizers` trains and runs it. Every UTF-8 string comes back as it was, but for lower-casing where that is
asked for. A special token's name inside a user's text is text.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Literal

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from zoo.atomic import write_atomically
from zoo.errors import UserError

SPECIAL = ("<pad>", "<s>", "</s>", "<mask>")
ROLES_FILE = "special_tokens_map.json"  # what a published tokenizer's special tokens are for
# All files by which a folder says what its tokens are.
FILES = """tokenizer.json special_tokens_map.json tokenizer_config.json spiece.model source.spm target.spm vocab.json
target_vocab.json""".split()
SENTINEL = "<extra_id_{}>"  # T5's name for what stands for a dropped span
WORD = r"[\w'’-]+|[^\w\s]"  # noqa: RUF001 - a word with the apostrophes and hyphens in it, or one sign
SMALLEST = len(SPECIAL) + 256  # every byte is a token


def read(path: str | Path) -> tokenizers.Tokenizer:
    """What a tokenizer.json holds; UserError where it holds none."""
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise UserError(f"{path}: not a tokenizer ({error})") from None


def keep(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """A tokenizer's files into a model's folder, and out with those of another that stood there."""
    for name, content in files.items():
        write_atomically(folder / name, content)
    for name in FILES:
        if name not in files:
            (folder / name).unlink(missing_ok=True)


def check_readable(rows: Iterable[Sequence[int]], longest: int | None, size: int, first: int = 1) -> None:
    """UserError names the first text, by its number, that has more tokens than a model can place, or one that its table
    of `size` has no row for."""
    for number, row in enumerate(rows, first):
        if longest is not None and len(row) > longest:
            raise UserError(f"text {number}: {len(row)} tokens, this model reads at most {longest}")
        if row and max(row) >= size:
            raise UserError(f"text {number}: comes to token {max(row)}, this model knows {size} tokens")


def is_own(inner: tokenizers.Tokenizer) -> bool:
    """Whether it is one that was trained here: by its first tokens."""
    return [inner.id_to_token(i) for i in range(len(SPECIAL))] == list(SPECIAL)


class Tokenizer:
    """Byte-level BPE with four special tokens, ids 0 to 3. Build it with `train` or `load`."""

    pad, start, end, mask = range(4)
    filename = "tokenizer.json"  # in a model's folder

    def __init__(self, bpe: tokenizers.Tokenizer):
        self.bpe = bpe
        # Text is never searched for special tokens: "</s>" in a sentence is four characters.
        self.bpe.encode_special_tokens = True

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, *, lowercase: bool = False) -> "Tokenizer":
        """The same texts give the same tokenizer. ValueError for a vocabulary that cannot hold all bytes."""
        if vocab_size < SMALLEST:
            raise ValueError(
                f"vocab_size ({vocab_size}) must be at least {SMALLEST}: {len(SPECIAL)} special, 256 bytes"
            )
        bpe = tokenizers.Tokenizer(models.BPE())
        if lowercase:
            bpe.normalizer = normalizers.Lowercase()
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        bpe.train_from_iterator(texts, trainer)
        return cls(bpe)

    @classmethod
    def characters(cls, text: str) -> "Tokenizer":
        """One token for each character that stands in `text`; others cannot be encoded."""
        vocab = {name: i for i, name in enumerate([*SPECIAL, *sorted(set(text))])}
        bpe = tokenizers.Tokenizer(models.WordLevel(vocab))
        bpe.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
        bpe.decoder = decoders.Fuse()
        bpe.add_special_tokens(list(SPECIAL))
        return cls(bpe)

    @classmethod
    def words(cls, texts: Iterable[str], vocab_size: int, *, lowercase: bool = False) -> "Tokenizer":
        """One token for each of the most frequent words and signs that occur twice or more; others are <mask>.

        A word that is not known is a word that is hidden: what is trained with some words hidden can read it. Texts
        come back without their spacing.
        """
        words = tokenizers.Tokenizer(models.WordLevel(unk_token=SPECIAL[cls.mask]))
        if lowercase:
            words.normalizer = normalizers.Lowercase()
        words.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(WORD), "removed", invert=True)
        trainer = trainers.WordLevelTrainer(
            vocab_size=vocab_size, min_frequency=2, special_tokens=list(SPECIAL), show_progress=False
        )
        words.train_from_iterator(texts, trainer)
        return cls(words)

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """UserError where the file is not a tokenizer of ours."""
        bpe = read(path)
        if not is_own(bpe):
            raise UserError(f"{path}: its first tokens are not {', '.join(SPECIAL)}")
        return cls(bpe)

    def has(self, role: Literal["pad", "start", "end", "mask"]) -> bool:
        """Whether it has a special token for that; all of ours have them all."""
        return True

    @property
    def ends(self) -> bool:
        """Whether `around` and `closed` end a text with a token for that."""
        return True

    def save(self, folder: Path) -> None:
        """Into a model's folder."""
        keep(folder, {self.filename: self.to_json()})

    def to_json(self) -> str:
        return json.dumps(json.loads(self.bpe.to_str()), ensure_ascii=False, indent=1) + "\n"

    def id_of(self, name: str) -> int | None:
        """The id of a token, or of a special one by its name."""
        found: int | None = self.bpe.token_to_id(name)
        return found

    def name_of(self, token: int) -> str:
        name: str = self.bpe.id_to_token(token)
        return name

    @property
    def vocab_size(self) -> int:
        return self.bpe.get_vocab_size()

    @property
    def ordinary(self) -> tuple[int, int]:
        """Ids of text, as a range [first, end): all but special tokens."""
        return len(SPECIAL), self.vocab_size - len(self.sentinels)

    @property
    def sizes(self) -> list[int] | None:
        """How many bytes of a text each token stands for (in UTF-8; special ones none). None where they do not add up
        to the text's: of words, which come back without their spacing, and where a text is changed before it is cut."""
        by_bytes = isinstance(self.bpe.decoder, decoders.ByteLevel)  # a name has a letter for each byte
        if self.bpe.normalizer is not None or not (by_bytes or isinstance(self.bpe.decoder, decoders.Fuse)):
            return None
        names = [self.bpe.id_to_token(i) or "" for i in range(self.vocab_size)]
        sizes = [len(name if by_bytes else name.encode()) for name in names]
        for i, token in self.bpe.get_added_tokens_decoder().items():  # these are names as they stand
            sizes[i] = 0 if token.special else len(token.content.encode())
        if by_bytes and sum(sizes[i] for i in self.pieces(["a"])[0]) != 1:  # a space is put before it
            return None
        return sizes

    @property
    def sentinels(self) -> list[int]:
        """Ids of what stands for dropped spans, in their order; as in T5 the first is the vocabulary's last."""
        names = (SENTINEL.format(number) for number in range(self.vocab_size))
        return list(takewhile(lambda i: i is not None, map(self.id_of, names)))

    def with_sentinels(self, count: int) -> "Tokenizer":
        """This tokenizer with `count` tokens more, its sentinels."""
        more = Tokenizer(tokenizers.Tokenizer.from_str(self.bpe.to_str()))
        more.bpe.add_special_tokens([SENTINEL.format(number) for number in reversed(range(count))])
        return more

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without start or end. UserError where a character has no token."""
        return self.encode_batch([text])[0]

    def around(self, ids: Sequence[int]) -> list[int]:
        """Ids between start and end: how texts are given to what reads them whole."""
        return [self.start, *ids, self.end]

    def encode_pairs(
        self, pairs: Sequence[tuple[str, str]], most: int | None = None
    ) -> list[tuple[list[int], list[int]]]:
        """Ids of two texts as one row, with what stands around and between them, and which of the two (0, 1) each token
        belongs to. Of at most `most` tokens: the longer text is cut first."""
        sides = (self.encode_batch([pair[side] for pair in pairs]) for side in (0, 1))
        rows = []
        for one, two in zip(*sides, strict=True):
            if most is not None:
                room = most - len(self.around([])) - len(self.closed([]))
                # what the other leaves, or half
                one, two = one[: max(room - len(two), room - room // 2)], two[: max(room - len(one), room // 2)]
            one, two = self.around(one), self.closed(two)
            rows.append(([*one, *two], [0] * len(one) + [1] * len(two)))
        return rows

    def closed(self, ids: Sequence[int]) -> list[int]:
        """Ids and the end: how the sources of a Seq2Seq are given, and its targets are written."""
        return [*ids, self.end]

    def join(self, pieces: Sequence[str], gaps: Sequence[int]) -> tuple[list[int], list[int]]:
        """Ids of the pieces of a text with a token in each gap between two, and where those of the gaps stand.

        A word's token holds the space before it, so the space before a gap belongs to what stands there; not where
        every character is a token.
        """
        apart = isinstance(self.bpe.model, models.WordLevel)
        cut = [*(piece if apart else piece.removesuffix(" ") for piece in pieces[:-1]), pieces[-1]]
        whole, *rest = self.encode_batch(cut)
        places = []
        for gap, ids in zip(gaps, rest, strict=True):
            places.append(len(whole))
            whole = [*whole, gap, *ids]
        return whole, places

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text."""
        return self.pieces(texts)

    def encode_targets(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of texts that are to be written, where another language may be cut otherwise."""
        return self.encode_batch(texts)

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts that may go on before and after: nothing stands around them."""
        try:
            return [row.ids for row in self.bpe.encode_batch(list(texts), add_special_tokens=False)]
        except Exception:  # the library raises plain Exception; byte-level BPE knows every text
            known = self.bpe.get_vocab()
            foreign = sorted({c for text in texts for c in text if c not in known})
            if not foreign:
                raise
            raise UserError(
                f"this model knows no {', '.join(map(repr, foreign[:5]))}: it has one token per character"
            ) from None

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens leave nothing, bytes that are not UTF-8 a replacement character."""
        return self.bpe.decode(list(ids), skip_special_tokens=True)

    def decode_source(self, ids: Sequence[int]) -> str:
        """`decode` of ids that are read, where another language may have other tokens."""
        return self.decode(ids)

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return self.bpe.decode_batch([list(row) for row in rows], skip_special_tokens=True)
