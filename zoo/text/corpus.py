"""Running text for language models: windows of one long line of tokens, in an order that (seed, epoch) decides."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from zoo.data import public
from zoo.data.batches import Made, rows_of
from zoo.data.corruption import IGNORED, draw_spans, drop_spans
from zoo.errors import UserError
from zoo.text.data import Batch, collate
from zoo.text.shards import Documents, Shard, Source, at_words, shard
from zoo.text.tokenised import TextData, check_ends, tokenizer_for
from zoo.text.tokens import Tokenizer
from zoo.train.data import Split


class Windows(NamedTuple):
    """Rows of text: `labels` are the tokens after `ids`, IGNORED where a document ends."""

    ids: Tensor  # "b n"
    keep: Tensor | None  # "b n", True = real token; None: all are
    labels: Tensor  # "b n"


class WindowSampler(Sampler[list[tuple[int, int]]]):
    """Where windows of `length` tokens begin, as (epoch, first token), `batch` at a time.

    Each epoch the text is cut at another place, and its windows come in another order. What an epoch leaves out, other
    text each time: windows that do not make a whole batch for each rank, and less than a window at either end. Each of
    `world` ranks gets every world-th batch. With `shuffle` off the text is cut from its beginning, in order, none of it
    is left out, and the last window may be short.
    """

    def __init__(
        self,
        tokens: int,
        length: int,
        batch: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
    ):
        self.tokens, self.length, self.batch = tokens, length, batch
        self.seed, self.shuffle, self.rank, self.world = seed, shuffle, rank, world
        self.epoch = self.skip = 0

    def __len__(self) -> int:
        """Batches of an epoch on this rank: the same in every epoch."""
        if not self.shuffle:
            return max(len(range(self.rank, -(-self._windows() // self.batch), self.world)), 1)
        return max((self.tokens - self.length) // self.length // self.batch // self.world, 1)

    def _windows(self) -> int:
        return -(-(self.tokens - 1) // self.length)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        (skip, self.skip), epoch = (self.skip, 0), self.epoch
        for batch in self.batches(epoch)[skip:]:
            yield [(epoch, begin) for begin in batch]

    def batches(self, epoch: int) -> list[list[int]]:
        """This rank's batches of an epoch, as the first token of each window."""
        if not self.shuffle:
            cut = self._cut(np.arange(self._windows()) * self.length)
            return cut[self.rank :: self.world] or cut[-1:]  # a rank with nothing to do would let the others wait
        random = np.random.default_rng((self.seed, epoch))
        shift = int(random.integers(min(self.length, self.tokens - self.length)))
        begins = np.arange(shift, self.tokens - self.length, self.length)
        random.shuffle(begins)
        cut = self._cut(begins)
        return [cut[(i * self.world + self.rank) % len(cut)] for i in range(len(self))]

    def _cut(self, begins: np.ndarray) -> list[list[int]]:
        return [begins[i : i + self.batch].tolist() for i in range(0, len(begins), self.batch)]


class _Text(Made[Windows]):
    """Batches of windows: an index is a list of (epoch, first token).

    A window that several documents share becomes a row for each of them: none sees another, and what that pads costs
    nothing, since the core packs rows.
    """

    def __init__(self, tokens: Shard, length: int):
        self.tokens, self.length = tokens, length

    def parts(self, begin: int) -> list[tuple[int, int]]:
        """The parts [begin, end) of documents in a window."""
        end = min(begin + self.length, len(self.tokens))
        return list(pairwise([begin, *self.tokens.cuts(begin, end), end]))

    def __getitem__(self, begins: list[tuple[int, int]]) -> Windows:
        parts = [part for _, begin in begins for part in self.parts(begin)]
        ids, keep = rows_of([self.tokens[a:b].tolist() for a, b in parts], Tokenizer.pad)
        labels, _ = rows_of([self._after(a, b) for a, b in parts], IGNORED)
        return Windows(ids, None if bool(keep.all()) else keep, labels)

    def _after(self, begin: int, end: int) -> list[int]:
        after = self.tokens[begin + 1 : end + 1].tolist()
        return after if self.tokens.goes_on(end) else [*after[: end - begin - 1], IGNORED]


class _Spans(_Text):
    """Batches of pairs: windows without some spans, and those spans. Which, (seed, first token, epoch) decides: in
    training others in each epoch, in validation, which knows no epoch but the first, always the same."""

    def __init__(self, tokens: Shard, length: int, *, tokenizer: Tokenizer, density: float, mean: float, seed: int):
        super().__init__(tokens, length)
        self.end = tokenizer.end
        self.bounds = {tokenizer.start, tokenizer.end} if tokenizer.has("start") else {tokenizer.end}  # of documents
        self.sentinels, self.density, self.mean, self.seed = tokenizer.sentinels, density, mean, seed

    def __getitem__(self, begins: list[tuple[int, int]]) -> Batch:  # type: ignore[override]
        pairs = ((a, *self.pair(a, b, epoch)) for epoch, begin in begins for a, b in self.parts(begin))
        return collate([(a, [*source, self.end], [*target, self.end]) for a, source, target in pairs])

    def pair(self, begin: int, end: int, epoch: int) -> tuple[list[int], list[int]]:
        """Source and target of a part; of one too short to drop anything nothing is dropped."""
        ids = [i for i in self.tokens[begin:end].tolist() if i not in self.bounds]
        random = np.random.default_rng((self.seed, begin, epoch))
        spans = draw_spans(len(ids), random, density=self.density, mean=self.mean) if len(ids) > 1 else []
        return drop_spans(ids, spans, self.sentinels)


class Corpus(TextData):
    """Text of any size: `path` names a file, or a folder whose .txt files are read in the order of their names.

    The last `held_out` share is validated and tested on. `tokens`: characters, or byte-level BPE or words, `vocab_size`
    of them, by the training part; `tokenizer`: a model's folder whose own are taken instead. `documents`: what
    a text begins and ends with, so that none sees another; `running` text has no such bounds.
    """

    reach = "length"

    def __init__(
        self,
        path: Path,
        tokens: Literal["characters", "bpe", "words"] = "bpe",
        vocab_size: int = 8000,
        held_out: float = 0.1,
        length: int = 256,
        batch: int = 16,
        seed: int = 1,
        workers: int = 0,
        documents: Documents = "running",
        tokenizer: Path | None = None,
    ):
        super().__init__()
        if not 0 < held_out < 1:
            raise ValueError(f"held_out ({held_out}) must be in (0, 1): it is a share of the text")
        if min(length, batch) < 1:
            raise ValueError(f"length ({length}) and batch ({batch}) must be at least 1")
        self.length, self.batch, self.seed, self.workers = length, batch, seed, workers
        self.held_out = held_out
        self.source = Source.read(Path(path), documents)
        if tokens == "characters" and tokenizer is None:
            self.tokenizer = Tokenizer.characters(self.source.alphabet)
        else:
            content = f"{self.source.sha256} {held_out}"
            self.tokenizer = tokenizer_for(tokenizer, self._training, content, vocab_size, tokens=tokens)
        self._tokens: dict[str, Shard] = {}

    def _training(self) -> Iterator[str]:
        return (text for text, _ in at_words(self.source.pieces("train", self.held_out, "tokenizer"), 100_000))

    @property
    def start(self) -> int | None:
        begins = self.source.documents != "running" and self.tokenizer.has("start")
        return self.tokenizer.start if begins else None

    @property
    def end(self) -> int | None:
        return None if self.source.documents == "running" else self.tokenizer.end

    def manifest(self) -> dict[str, Any]:
        """What the data is: the hash of the text, and the settings that shape its batches."""
        return {
            "set": type(self).__name__,
            "sha256": self.source.sha256,
            "characters": self.source.characters,
            "documents": self.source.documents,
            "held_out": self.held_out,
            "vocab_size": self.vocab_size,
            "length": self.length,
        }

    def part(self, split: Split) -> Shard:
        """The tokens of a split; those of "val" and "test" are the same."""
        name: Literal["train", "held out"] = "train" if split == "train" else "held out"
        if name not in self._tokens:
            self._tokens[name] = shard(self.source, name, self.held_out, self.tokenizer)
        return self._tokens[name]

    def _loader(self, split: Split, *, shuffle: bool) -> DataLoader[Any]:
        tokens = self.part(split)
        if len(tokens) <= self.length:
            whole = "" if self.source.documents == "running" else " (held_out is met by whole documents)"
            raise UserError(
                f"the {split} part has {len(tokens)} tokens: too few for one window of length {self.length}{whole}"
            )
        sampler = WindowSampler(len(tokens), self.length, self.batch, seed=self.seed, shuffle=shuffle, **self.ranks())
        windows = self.windows(tokens)
        return DataLoader(windows, batch_sampler=sampler, collate_fn=Made.whole, num_workers=self.workers)

    def windows(self, tokens: Shard) -> Made[Any]:
        """What makes batches of lists of (epoch, first token)."""
        return _Text(tokens, self.length)


class TinyShakespeare(Corpus):
    """1,115,394 characters of Shakespeare (Karpathy 2015); the last tenth is held out."""

    def __init__(
        self,
        tokens: Literal["characters", "bpe", "words"] = "characters",
        vocab_size: int = 2000,
        length: int = 64,
        batch: int = 12,
        seed: int = 1,
        workers: int = 0,
        tokenizer: Path | None = None,
    ):
        path = public.fetch("tinyshakespeare") / "input.txt"
        super().__init__(path, tokens, vocab_size, 0.1, length, batch, seed, workers, tokenizer=tokenizer)


class SpanCorpus(Corpus):
    """A Corpus whose windows lack some spans, which are to be written: `density` of the tokens, `mean` long on average.

    Raffel et al. 2020, sections 3.3.4 (spans of a mean length) and 3.1.4 (what is written). The tokenizer has a
    sentinel for each span of a window, and one more.
    """

    def __init__(
        self,
        path: Path,
        tokens: Literal["characters", "bpe", "words"] = "bpe",
        vocab_size: int = 8000,
        held_out: float = 0.1,
        length: int = 256,
        batch: int = 16,
        seed: int = 1,
        workers: int = 0,
        documents: Documents = "running",
        tokenizer: Path | None = None,
        density: float = 0.15,
        mean: float = 3.0,
        sentinels: int = 100,
    ):
        super().__init__(path, tokens, vocab_size, held_out, length, batch, seed, workers, documents, tokenizer)
        check_ends(self.tokenizer)
        self.density, self.mean = density, mean
        if not self.tokenizer.sentinels:
            self.tokenizer = self.tokenizer.with_sentinels(sentinels)
        most = len(draw_spans(max(length, 2), np.random.default_rng(0), density=density, mean=mean)) + 1
        if len(self.tokenizer.sentinels) < most:
            raise ValueError(f"{len(self.tokenizer.sentinels)} sentinels are too few: windows of {length} need {most}")

    def manifest(self) -> dict[str, Any]:
        return super().manifest() | {"density": self.density, "mean": self.mean}

    def windows(self, tokens: Shard) -> Made[Any]:
        return _Spans(
            tokens, self.length, tokenizer=self.tokenizer, density=self.density, mean=self.mean, seed=self.seed
        )


class Captions(Corpus):
    """The English captions of Multi30k's training part (Elliott et al. 2016), each a document: 29,000 of them."""

    def __init__(
        self,
        vocab_size: int = 4000,
        length: int = 128,
        batch: int = 8,
        seed: int = 1,
        workers: int = 0,
        tokenizer: Path | None = None,
    ):
        super().__init__(
            captions(), "bpe", vocab_size, 0.1, length, batch, seed, workers, documents="lines", tokenizer=tokenizer
        )


class SpanCaptions(SpanCorpus):
    """`Captions` that lack spans."""

    def __init__(
        self,
        vocab_size: int = 4000,
        length: int = 128,
        batch: int = 8,
        seed: int = 1,
        workers: int = 0,
        tokenizer: Path | None = None,
        density: float = 0.15,
        mean: float = 3.0,
        sentinels: int = 100,
    ):
        super().__init__(
            captions(),
            "bpe",
            vocab_size,
            0.1,
            length,
            batch,
            seed,
            workers,
            documents="lines",
            tokenizer=tokenizer,
            density=density,
            mean=mean,
            sentinels=sentinels,
        )


def captions() -> Path:
    """The file of captions, fetched where it is not at hand."""
    return public.fetch("multi30k", ["train.en.gz"]) / "train.en.gz"
