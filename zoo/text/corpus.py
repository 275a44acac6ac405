"""Running text for language models: windows of one long line of tokens, in an order that (seed, epoch) decides."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from zoo.atomic import write_atomically
from zoo.data import public
from zoo.data.files import data_folder, read_text
from zoo.errors import UserError
from zoo.text.data import TextData
from zoo.text.tokens import Tokenizer
from zoo.train.data import Split


class Windows(NamedTuple):
    """Rows of running text: `labels` are the tokens after `ids`."""

    ids: Tensor  # "b n"
    labels: Tensor  # "b n"


class WindowSampler(Sampler[list[int]]):
    """Where windows of `length` tokens begin, `batch` at a time: each epoch all of the text, cut at another place.

    Each of `world` ranks gets every world-th batch. With `shuffle` off the text is cut from its beginning, in order,
    and the last window may be short.
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

    def __iter__(self) -> Iterator[list[int]]:
        skip, self.skip = self.skip, 0
        yield from self.batches(self.epoch)[skip:]

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


class _Text(Dataset[Windows]):
    """Batches of windows: an index is a list of first tokens."""

    def __init__(self, tokens: Tensor, length: int):
        self.tokens, self.length = tokens, length

    def __getitem__(self, begins: list[int]) -> Windows:
        last = len(self.tokens) - 1
        rows = [self.tokens[b : min(b + self.length, last) + 1].long() for b in begins]
        short = self.length + 1 - len(rows[-1])  # the window at the end of a text; nothing is learned from its padding
        rows[-1] = torch.nn.functional.pad(rows[-1], (0, short if len(rows) > 1 else 0), value=-100)
        whole = torch.stack(rows)
        return Windows(whole[:, :-1].clamp(min=0), whole[:, 1:])


class Corpus(TextData):
    """One long text: `path` names a file, or a folder whose .txt files are read in the order of their names.

    The last `held_out` share is validated and tested on. `tokens`: characters, or byte-level BPE of `vocab_size`
    tokens trained on the training part. The tokenizer, and with it `vocab_size`, is known as soon as this is built.
    """

    def __init__(
        self,
        path: Path,
        tokens: Literal["characters", "bpe"] = "bpe",
        vocab_size: int = 8000,
        held_out: float = 0.1,
        length: int = 256,
        batch: int = 16,
        seed: int = 1,
        workers: int = 0,
    ):
        super().__init__()
        if not 0 < held_out < 1:
            raise ValueError(f"held_out ({held_out}) must be in (0, 1): it is a share of the text")
        if min(length, batch) < 1:
            raise ValueError(f"length ({length}) and batch ({batch}) must be at least 1")
        self.length, self.batch, self.seed, self.workers = length, batch, seed, workers
        text = self.read(path)
        cut = int(len(text) * (1 - held_out))
        self.texts: dict[str, str] = {"train": text[:cut], "val": text[cut:], "test": text[cut:]}
        self.tokenizer = self._tokenizer(text, tokens, vocab_size)
        self._ids: dict[str, Tensor] = {}

    def read(self, path: Path) -> str:
        """The whole text; UserError names the file that cannot be read."""
        path = Path(path)
        files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
        if not files:
            raise UserError(f"{path}: no .txt file here")
        return "\n".join(read_text(file) for file in files)

    def manifest(self) -> dict[str, Any]:
        """What the data is: the hash of each part."""
        digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in self.texts.items()}
        return {"set": type(self).__name__, "sha256": digests, "vocab_size": self.vocab_size, "length": self.length}

    def _loader(self, split: Split, *, shuffle: bool) -> DataLoader[Any]:
        if split not in self._ids:
            self._ids[split] = torch.tensor(self.tokenizer.encode(self.texts[split]), dtype=torch.int32)
        ids = self._ids[split]
        if len(ids) <= self.length:
            raise UserError(f"the {split} part has {len(ids)} tokens: too few for one window of length {self.length}")
        sampler = WindowSampler(len(ids), self.length, self.batch, seed=self.seed, shuffle=shuffle, **self.ranks())
        return DataLoader(_Text(ids, self.length), batch_size=None, sampler=sampler, num_workers=self.workers)

    def _tokenizer(self, text: str, kind: str, vocab_size: int) -> Tokenizer:
        if kind == "characters":
            return Tokenizer.characters(text)
        train = self.texts["train"]
        key = hashlib.sha256(json.dumps([hashlib.sha256(train.encode()).hexdigest(), vocab_size]).encode())
        path = data_folder() / "tokenizers" / f"corpus-{key.hexdigest()[:24]}.json"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, Tokenizer.train(_pieces(train), vocab_size).to_json())
        return Tokenizer.load(path)


def _pieces(text: str, size: int = 100_000) -> Sequence[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


class TinyShakespeare(Corpus):
    """1,115,394 characters of Shakespeare (Karpathy 2015); the last tenth is held out."""

    def __init__(
        self,
        tokens: Literal["characters", "bpe"] = "characters",
        vocab_size: int = 2000,
        length: int = 64,
        batch: int = 12,
        seed: int = 1,
        workers: int = 0,
    ):
        super().__init__(
            public.fetch("tinyshakespeare") / "input.txt", tokens, vocab_size, 0.1, length, batch, seed, workers
        )
