"""Pieces of music for training: public, built in, or the user's own.

Pieces are split before anything is done to them, and no piece stands in two splits; only what is trained on is
transposed and cut into windows, by (seed, epoch, window).
"""

import hashlib
import json
import random
import tarfile
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.atomic import write_atomically
from zoo.data import public
from zoo.data.batches import EpochSampler, rows_of
from zoo.data.files import data_folder
from zoo.data.split import place
from zoo.errors import UserError
from zoo.music import bach, rule
from zoo.music.chorale import Chorale, from_pitches
from zoo.music.codebooks import Codebooks
from zoo.music.events import Events
from zoo.music.frames import Frames, frame_of
from zoo.music.midi import Collection, collect, paths, refuse_if_mostly_bad
from zoo.music.view import View
from zoo.train.data import DataModule, Split

Item = tuple[list[int], list[int], int, int]
UNSCORED = -100  # as a label: only read


class Batch(NamedTuple):
    """Pieces, or windows of them, in rows padded at the right; `labels` are the tokens after `ids`."""

    ids: Tensor  # "b n"
    keep: Tensor  # "b n", True = real token
    labels: Tensor  # "b n"
    notes: Tensor  # "b": notes that begin in the window; of a piece in several windows, all in the first
    steps: Tensor  # "b": time steps, likewise


def collate(items: list[Item]) -> Batch:
    """Windows to a batch."""
    ids, keep = rows_of([item[0] for item in items], 0)
    labels, _ = rows_of([item[1] for item in items], 0)
    return Batch(
        ids, keep, labels, torch.tensor([item[2] for item in items]), torch.tensor([item[3] for item in items])
    )


class Pieces(Dataset[Item]):
    """Pieces as they are, by (epoch, index): windows of `length` tokens in which every token is a label once.

    Where a piece is longer, its windows overlap by about half, and the first half of those after the first is only
    read: each token is predicted from at least `length` / 2 before it, or from all there are.
    """

    collate = staticmethod(collate)  # how its items become a batch

    def __init__(self, view: View, pieces: Sequence[Any], length: int):
        self.view, self.pieces, self.length = view, pieces, length
        self.tokens = [view.encode(piece) for piece in pieces]
        self.begins = [_places(view.begins(tokens), len(tokens), max(length // 2, 1)) for tokens in self.tokens]
        self.cuts = [(i, *cut) for i in range(len(pieces)) for cut in self._cuts(i)]
        self.lengths = [min(length, len(self.tokens[i]) - begin) for i, begin, _ in self.cuts]

    def _cuts(self, piece: int) -> list[tuple[int, int]]:
        """Where each window begins, and its first label."""
        total, begins = len(self.tokens[piece]), self.begins[piece]
        cuts, done = [(0, 0)], self.length
        while done < total:
            begin = int(begins[np.searchsorted(begins, done - self.length // 2, side="right") - 1])
            cuts.append((begin, done))
            done = begin + self.length
        return cuts

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, which: tuple[int, int]) -> Item:
        piece, begin, first = self.cuts[which[1]]
        tokens = self.tokens[piece]
        labels = tokens[begin : begin + self.length]
        before = tokens[begin - 1] if begin else self.view.vocab_size
        count = self.view.count(tokens) if not begin else (0, 0)
        unscored = first - begin
        return [before, *labels[:-1]], [UNSCORED] * unscored + labels[unscored:], *count


def _places(begins: Sequence[int], total: int, apart: int) -> np.ndarray:
    """Where windows may begin: at `begins`, and within what is longer than `apart` tokens, at that distance."""
    return np.concatenate([np.arange(*bar, apart) for bar in pairwise([*begins, total])])


class Windows(Pieces):
    """Windows of `length` tokens of transposed pieces: each piece as many as it fills, anew in every epoch.

    A window begins where the view lets it, and half of it may reach over either end of the piece before it is moved
    inside: or beginnings and endings would seldom be seen.
    """

    def __init__(self, view: View, pieces: Sequence[Any], length: int, transpose: int, seed: int):
        super().__init__(view, pieces, length)
        self.seed = seed
        self.shifts = [view.shifts(piece, transpose) for piece in pieces]
        self.of = [i for i, tokens in enumerate(self.tokens) for _ in range(max(round(len(tokens) / length), 1))]
        self.lengths = [min(length, len(self.tokens[i])) for i in self.of]

    def draw(self, which: tuple[int, int]) -> tuple[int, int, int]:
        """For (epoch, window): the piece, by how many semitones it is moved, and where the window begins."""
        epoch, window = which
        random = np.random.default_rng((self.seed, epoch, window))
        piece = self.of[window]
        shift, total = int(random.choice(self.shifts[piece])), len(self.tokens[piece])
        wanted = random.uniform(-self.length / 2, total - self.length / 2)
        begins, last = self.begins[piece], total - self.length
        place = int(np.searchsorted(begins, last if wanted > last else max(wanted, 0)))
        return piece, shift, int(begins[min(place, len(begins) - 1)])  # the last may be short, so that it holds the end

    def __getitem__(self, which: tuple[int, int]) -> Item:
        return self.window(*self.draw(which))

    def window(self, piece: int, shift: int, begin: int) -> Item:
        """What `draw` says."""
        tokens = self.view.encode(self.view.transpose(self.pieces[piece], shift))
        chosen = tokens[begin : begin + self.length]
        before = tokens[begin - 1] if begin else self.view.vocab_size
        return [before, *chosen[:-1]], chosen, *self.view.count(chosen)


class MusicData(DataModule):
    """Base of the data modules of music. Subclasses set `view` before they call this, and give `pieces(split)`.

    Training windows have `length` tokens and are transposed by at most `transpose` semitones each way, as far as the
    view's range allows; the other splits are pieces in their own key, every token predicted once (see Pieces).
    """

    view: View

    def __init__(self, length: int, transpose: int, tokens_per_batch: int, seed: int, workers: int, test_set: str):
        super().__init__()
        if length < 1 or tokens_per_batch < 1 or transpose < 0:
            raise ValueError(
                f"length ({length}) and tokens_per_batch ({tokens_per_batch}) must be at least 1, "
                f"transpose ({transpose}) at least 0"
            )
        self.length, self.transpose, self.tokens_per_batch = length, transpose, tokens_per_batch
        self.seed, self.workers, self.test_set = seed, workers, test_set
        self.vocab_size = self.view.vocab_size
        self._data: dict[str, Pieces] = {}

    def pieces(self, split: Split) -> list[Any]:
        """The pieces of a split, as values of the view."""
        raise NotImplementedError

    def windows(self, pieces: list[Any]) -> Windows:
        """Pieces of the view as what is trained on."""
        return Windows(self.view, pieces, self.length, self.transpose, self.seed)

    def manifest(self) -> dict[str, Any]:
        """What the data is: the hash of each split's tokens, and the settings that shape its batches."""
        splits: tuple[Split, ...] = ("train", "val", "test")
        return {
            "set": type(self).__name__,
            "sha256": {split: digest(map(self.view.encode, self.pieces(split))) for split in splits},
            "view": self.view.to_plain(),
            "length": self.length,
            "transpose": self.transpose,
            "tokens_per_batch": self.tokens_per_batch,
        }

    def save(self, folder: Path) -> None:
        """The view, into a run folder."""
        self.view.save(folder)

    @classmethod
    def like(cls, folder: Path) -> dict[str, Any]:
        """The view, for what reads more than one."""
        path = View.find(folder)
        return {} if path is None else {"view": View.load(path).to_plain()}

    def check_origin(self, run: Path) -> None:
        check_view(run, self.view)

    def _loader(self, split: Split, *, shuffle: bool) -> DataLoader[Any]:
        if split == "test" and self.test_set == "val":
            split = "val"
        if split not in self._data:
            pieces = self.pieces(split)
            if not pieces:
                raise UserError(f"{type(self).__name__}: no piece to {split} on")
            self._data[split] = self.windows(pieces) if split == "train" else Pieces(self.view, pieces, self.length)
        data = self._data[split]
        sampler = EpochSampler(data.lengths, self.tokens_per_batch, seed=self.seed, shuffle=shuffle, **self.ranks())
        return DataLoader(
            data,
            batch_sampler=sampler,
            collate_fn=data.collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )


def check_view(run: Path, view: View) -> None:
    """UserError where the model in a folder reads other tokens than those of a view."""
    path = View.find(run)
    if path is None:
        raise UserError(f"{run} says of no tokens what they are: it has no {View.filename}")
    if (theirs := View.load(path)) != view:
        raise UserError(f"{run} was trained on other tokens, {theirs}: these are {view}")


def digest(rows: Any) -> str:
    """The hash of lists of tokens."""
    return hashlib.sha256("\n".join(" ".join(map(str, row)) for row in rows).encode()).hexdigest()


class JSBChorales(MusicData):
    """Bach's chorales with the split of Boulanger-Lewandowski et al. 2012: 229 to train, 76 to validate, 77 to test.

    `16th` and `8th`: four voices in series; the files have no onsets, so a repeated pitch is taken for a held one.
    `quarter`: frames of 88 keys, of another edition (order, key and octave of the pieces differ), to which the
    published frame-wise figures belong. `test_set`: what `zoo test` scores.
    """

    def __init__(
        self,
        grid: Literal["16th", "8th", "quarter"] = "16th",
        length: int = 512,
        transpose: int = 6,
        tokens_per_batch: int = 4096,
        seed: int = 1,
        workers: int = 0,
        test_set: Literal["test", "val"] = "test",
    ):
        self.grid = grid
        self.view = Frames() if grid == "quarter" else Chorale(steps=4 if grid == "16th" else 2)
        super().__init__(length, transpose, tokens_per_batch, seed, workers, test_set)

    def pieces(self, split: Split) -> list[Any]:
        name = "jsb-chorales-quarter.json" if self.grid == "quarter" else "Jsb16thSeparated.json"
        path = public.fetch("jsb_chorales", [name]) / name
        pieces = json.loads(path.read_text())["valid" if split == "val" else split]
        if self.grid == "quarter":
            return [[frame_of(step) for step in piece] for piece in pieces]
        # the file of 8ths is every second step of the 16ths (checked by a test), but without voices
        return [from_pitches(piece[:: 4 // self.view.steps]) for piece in pieces]


class RuleHarmony(MusicData):
    """Four-part harmony by a rule whose entropy is known (zoo/music/rule.py): built in, drawn from `seed`.

    `chords` quarters a piece on a grid of 8ths; no piece stands in two splits. Pieces are drawn in every key, so
    nothing is transposed. `best(split)`: the loss that no model can be expected to go below.
    """

    def __init__(
        self,
        chords: int = 16,
        train: int = 2000,
        val: int = 50,
        test: int = 100,
        length: int = 512,
        tokens_per_batch: int = 2048,
        seed: int = 1,
        workers: int = 0,
    ):
        if chords < 4 or min(train, val, test) < 1:
            raise ValueError(f"chords ({chords}) must be at least 4, and each split have a piece")
        self.view = Chorale(steps=2)
        draw, drawn = random.Random(seed), dict[bytes, np.ndarray]()
        while len(drawn) < train + val + test:
            piece = rule.compose(draw, chords, self.view)
            drawn[piece.tobytes()] = piece
        every = list(drawn.values())
        self.drawn = {"val": every[:val], "test": every[val : val + test], "train": every[val + test :]}
        super().__init__(length, 0, tokens_per_batch, seed, workers, "test")

    def pieces(self, split: Split) -> list[Any]:
        return self.drawn[split]

    def best(self, split: Split) -> float:
        """The rule's own negative log likelihood of a split, in nats per token."""
        pieces = self.drawn[split]
        tokens = sum(len(self.view.encode(piece)) for piece in pieces)
        return sum(rule.nats(piece, self.view) for piece in pieces) / tokens


class MidiPieces(MusicData):
    """Base of what is read from MIDI files: a piece goes to a split by the hash of its notes, whatever its name and
    whatever other pieces there are.

    `held_out`: the share of pieces to validate and to test on, each, on the average and at least one: of a few pieces
    one may still move when others come. Pieces that are equal note for note count once.
    """

    def __init__(
        self,
        found: Collection,
        view: View,
        held_out: float,
        length: int,
        transpose: int,
        tokens_per_batch: int,
        seed: int,
        workers: int,
    ):
        if not 0 < held_out < 0.5:
            raise ValueError(f"held_out ({held_out}) is the share to validate and to test on: between 0 and 0.5")
        self.view = view
        if len(found.pieces) < 3:
            raise UserError(f"{len(found.pieces)} pieces are too few: one each to train, to validate and to test on")
        drawn = [place(f"{seed} {digest([view.encode(piece)])}") for piece in found.pieces]
        order = sorted(range(len(drawn)), key=drawn.__getitem__)
        ranked = [drawn[i] for i in order]
        val = max(bisect_left(ranked, held_out), 1)
        test = max(bisect_left(ranked, 2 * held_out), val + 1)
        val, test = min(val, len(order) - 2), min(test, len(order) - 1)
        parts = {"val": order[:val], "test": order[val:test], "train": order[test:]}
        self.parts = {name: [found.pieces[i] for i in sorted(part)] for name, part in parts.items()}
        super().__init__(length, transpose, tokens_per_batch, seed, workers, "test")

    def pieces(self, split: Split) -> list[Any]:
        return self.parts[split]


class MidiFolder(MidiPieces):
    """The user's own MIDI files, in `path` and the folders below it.

    Files that cannot be used are named on stderr, each in a line with its fault, and training goes on with the others;
    where more than `bad_share` of them cannot, it does not begin. A second copy of a piece is left out, and no fault.
    `view`: what tokens are made of them.
    """

    def __init__(
        self,
        path: Path,
        view: View | None = None,
        held_out: float = 0.1,
        bad_share: float = 0.2,
        length: int = 1024,
        transpose: int = 5,
        tokens_per_batch: int = 4096,
        seed: int = 1,
        workers: int = 0,
    ):
        view = Events() if view is None else view
        if isinstance(view, Codebooks):
            raise ValueError("view: Codebooks are of sound (SoundCodes), MIDI holds notes: Events, Chorale or Frames")
        files = paths(Path(path))
        named = ((str(file.relative_to(path)), file.read_bytes()) for file in files)
        found = collect(named, view, len(files))
        found.report()
        refuse_if_mostly_bad(found, bad_share, f"{path}, read as {view}")
        super().__init__(found, view, held_out, length, transpose, tokens_per_batch, seed, workers)


class POP909(MidiPieces):
    """909 pop songs for piano in three tracks (Wang et al. 2020), as events. `held_out` of them twice: no public split.

    Parsed once, then kept in the data folder.
    """

    def __init__(
        self,
        held_out: float = 0.05,
        length: int = 1024,
        transpose: int = 5,
        tokens_per_batch: int = 4096,
        seed: int = 1,
        workers: int = 0,
    ):
        view = Events()
        found = kept(view, "pop909", lambda: pop909(view))
        super().__init__(found, view, held_out, length, transpose, tokens_per_batch, seed, workers)


class Music21Bach(MidiPieces):
    """Bach's chorales as music21 brings them, with onsets: the four-part ones, parsed once and kept in the data folder.

    Needs music21 (pip install 'transformer-zoo[music]'); the first parse takes minutes.
    """

    def __init__(
        self,
        held_out: float = 0.1,
        length: int = 512,
        transpose: int = 6,
        tokens_per_batch: int = 4096,
        seed: int = 1,
        workers: int = 0,
    ):
        view = Chorale()
        found = kept(view, "music21-bach", lambda: bach.collect(view))
        super().__init__(found, view, held_out, length, transpose, tokens_per_batch, seed, workers)


def kept(view: View, name: str, make: Callable[[], Collection]) -> Collection:
    """What `make` reads, from the data folder if it was made before for this view."""
    key = hashlib.sha256(view.content().encode()).hexdigest()[:16]
    path = data_folder() / "pieces" / f"{name}-{key}.json"
    if path.is_file():
        plain = json.loads(path.read_text())
        return Collection(plain["names"], [view.decode(tokens) for tokens in plain["tokens"]])
    found = make()
    found.report()
    path.parent.mkdir(parents=True, exist_ok=True)
    tokens = [view.encode(piece) for piece in found.pieces]
    write_atomically(path, json.dumps({"names": found.names, "tokens": tokens}))
    return found


def pop909(view: View) -> Collection:
    """All songs of POP909 as pieces of a view."""
    return collect(pop909_files(), view, 909)


def pop909_files() -> Iterator[tuple[str, bytes]]:
    """Number and bytes of POP909's MIDI files, read out of their archive."""
    folder = public.fetch("pop909", ["POP909.tar.xz"])
    with tarfile.open(folder / "POP909.tar.xz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".mid") else None
            if file is not None:
                yield Path(member.name).stem, file.read()
