"""Images with classes, before they are a model's input: as files not yet decoded, as one tensor, as batches.

Axes: b images of a batch, N of a set, c channels, s pixels of a side, v classes.

Images are held as the model takes them, or larger: then each is a whole picture, stretched to a square, and what is
trained on is cut out of it anew in every epoch. Whatever shapes pictures have, a set so held is one tensor; how wide
each was in truth its aspect says (width over height).
"""

import hashlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoo.atomic import whole_file
from zoo.data.batches import Made
from zoo.errors import UserError
from zoo.progress import bar
from zoo.vision.augment import Augment
from zoo.vision.images import Preprocess, decode


class Batch(NamedTuple):
    """Images as the model takes them, with what is said of them."""

    images: Tensor  # "b c s s"
    targets: Tensor  # "b v": the share of each class, sums to 1
    labels: Tensor  # "b": the class with the largest share
    index: Tensor  # "b": the image's row in its set


@dataclass(frozen=True, eq=False)
class Pictures:
    """Image files with classes, not yet decoded. `read(i)`: the bytes; `where(i)`: what to call it in a fault."""

    labels: list[int]
    read: Callable[[int], bytes]
    where: Callable[[int], str]
    digest: str  # of all that `read` gives, or of what stands for it (names, sizes, times of change)
    place: str = ""  # the folder that its names are of, where the digest is of names

    def __len__(self) -> int:
        return len(self.labels)


class Taken(NamedTuple):
    """Rows of a set."""

    images: Tensor  # "b c s s" uint8
    aspects: Tensor  # "b"
    index: Tensor  # "b": which rows they are


@dataclass(frozen=True, eq=False)
class Pixels:
    """Images decoded and sized, "N c s s" uint8, with classes "N"."""

    images: Tensor
    labels: Tensor
    names: tuple[str, ...] = ()  # of the files that they were, where they were some
    aspects: Tensor | None = None  # "N"; None: all are square

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> Taken:
        """Images of these rows: nothing is left out."""
        aspects = self.labels.new_ones(len(index), dtype=torch.float32) if self.aspects is None else self.aspects[index]
        return Taken(self.images[index], aspects, index)

    def some(self, rows: np.ndarray) -> "Pixels":
        """A set of these rows."""
        names = tuple(self.names[row] for row in rows) if self.names else ()
        return Pixels(self.images[rows], self.labels[rows], names, None if self.aspects is None else self.aspects[rows])

    def where(self, row: int) -> str:
        """What to call an image."""
        return self.names[row] if self.names else f"image {row + 1}"

    def to(self, device: torch.device) -> "Pixels":
        aspects = None if self.aspects is None else self.aspects.to(device)
        return Pixels(self.images.to(device), self.labels.to(device), self.names, aspects)


class Decoding:
    """Pictures decoded as they are asked for. A file that cannot be read is left out, counted, and named on stderr."""

    def __init__(self, pictures: Pictures, fit: Preprocess):
        self.pictures, self.fit = pictures, fit
        self.labels = torch.tensor(pictures.labels)
        self.unreadable: set[int] = set()

    def __len__(self) -> int:
        return len(self.pictures)

    def take(self, index: Tensor) -> Taken:
        """Images of these rows, of those that can be read.

        Where none can be read the next of the set that can stands for them: a batch is never empty. (A test counts that
        image twice.) UserError where none of the set can be read.
        """
        wanted = index.tolist()
        found = {row: made for row in wanted if (made := self._read(row)) is not None}
        for beyond in range(0 if found else len(self)):
            row = (wanted[-1] + 1 + beyond) % len(self)
            if (made := self._read(row)) is not None:
                found, wanted = {row: made}, [row]
                break
        if not found:
            raise UserError(f"none of {len(self)} images can be read, the first is {self.pictures.where(0)}")
        rows = [row for row in wanted if row in found]
        images, aspects = zip(*(found[row] for row in rows), strict=True)
        return Taken(torch.stack(images), torch.tensor(aspects), torch.tensor(rows))

    def where(self, row: int) -> str:
        """What to call an image."""
        return self.pictures.where(row)

    def _read(self, row: int) -> tuple[Tensor, float] | None:
        if row in self.unreadable:
            return None
        try:
            return _decoded(self.pictures, self.fit, row)
        except UserError as error:
            self.unreadable.add(row)
            print(f"left out ({len(self.unreadable)} so far in this process): {error}", file=sys.stderr)
            return None


def _decoded(source: Pictures, fit: Preprocess, row: int) -> tuple[Tensor, float]:
    """A picture's pixels, "c s s", and its aspect."""
    image = decode(source.read(row), source.where(row), fit.side)
    return fit.pixels(image), image.width / image.height


class Views(Made[Batch]):
    """Batches of a set by (epoch, row): each image is what (seed, epoch, its row) make of it, whatever is beside.

    `fit` is the model's; where the set is held larger, `augment` cuts out of it what the model takes.
    """

    def __init__(self, held: Pixels | Decoding, fit: Preprocess, classes: int, augment: Augment, seed: int):
        self.held, self.fit, self.classes, self.augment, self.seed = held, fit, classes, augment, seed

    def __getitem__(self, keys: list[tuple[int, int]]) -> Batch:
        (epoch,) = {epoch for epoch, _ in keys}
        views, index = self._views(torch.tensor([row for _, row in keys]), epoch)
        labels = self.held.labels[index]
        targets = torch.nn.functional.one_hot(labels, self.classes).float()
        if self.augment.mixes:
            partner = self.augment.partner(len(self.held), self.seed, epoch, index)
            others, found = self._views(partner, epoch)
            if not torch.equal(found, partner):  # a partner that cannot be read: these images stay as they are
                others, partner = self._completed(views, others, index, partner, found)
            views, own = self.augment.mixed(views, others, self.seed, epoch, index)
            right = torch.nn.functional.one_hot(self.held.labels[partner], self.classes).float()
            targets = targets * own.unsqueeze(-1) + right * (1 - own).unsqueeze(-1)
            labels = targets.argmax(-1)
        return Batch(self.fit.normalise(views), targets, labels, index)

    def _views(self, index: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        pixels, aspects, index = self.held.take(index.to(self.held.labels.device))
        change = self.augment
        if pixels.shape[-1] != self.fit.size:
            pixels = change.cut(pixels, aspects, self.fit.size, self.seed, epoch, index)
            change = replace(change, crop=1.0)
        return change.views(pixels, self.seed, epoch, index), index

    def _completed(
        self, views: Tensor, others: Tensor, index: Tensor, partner: Tensor, found: Tensor
    ) -> tuple[Tensor, Tensor]:
        place = {row: i for i, row in enumerate(found.tolist())}
        chosen = [
            (others[place[p]], p) if p in place else (views[i], int(index[i])) for i, p in enumerate(partner.tolist())
        ]
        return torch.stack([image for image, _ in chosen]), torch.tensor([row for _, row in chosen])


AHEAD = 64  # images that may be decoded before they are written: a slow disk must not fill the memory


def decode_all(source: Pictures, fit: Preprocess, path: Path, name: str) -> tuple[dict[int, str], list[float]]:
    """Decode everything into one .npy file, image by image, with a bar.

    What cannot be read is left out and returned, by its row; and the aspects of what is in the file. UserError where
    nothing can be read.
    """
    bad: dict[int, str] = {}
    aspects: list[float] = []

    def one(row: int) -> tuple[Tensor, float] | str:
        try:
            return _decoded(source, fit, row)
        except UserError as error:
            return str(error)

    path.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool, whole_file(path) as file:  # decoders leave the interpreter's lock
        begin = _write_header(file, len(source), fit)
        parts = (range(first, min(first + AHEAD, len(source))) for first in range(0, len(source), AHEAD))
        each = (made for rows in parts for made in pool.map(one, rows))
        for row, made in enumerate(bar(each, name, "image", total=len(source))):
            if isinstance(made, str):
                bad[row] = made
            else:
                file.write(made[0].numpy().tobytes())
                aspects.append(made[1])
        if not aspects:
            raise UserError(f"none of {len(source)} images can be read: {next(iter(bad.values()), 'there is none')}")
        file.seek(0)
        if _write_header(file, len(aspects), fit) != begin:  # NumPy leaves room for any count of rows
            raise RuntimeError(f"NumPy {np.__version__} begins an array of {len(aspects)} images elsewhere")
    return bad, aspects


def _write_header(file: BinaryIO, count: int, fit: Preprocess) -> int:
    """Begin an .npy file of images; where they begin."""
    shape = (count, fit.channels, fit.size, fit.size)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.tell()


def digest_of(held: Pixels | Decoding) -> str:
    if isinstance(held, Decoding):
        return held.pictures.digest
    return hashlib.sha256(held.images.cpu().numpy().tobytes() + held.labels.cpu().numpy().tobytes()).hexdigest()


def some_of(held: Pixels | Decoding, share: float, seed: int) -> Pixels:
    """The same number of images of each class, `share` of them all, drawn by the seed."""
    if isinstance(held, Decoding):
        raise UserError("labelled below 1 takes a part of a set in memory: raise memory, or make a smaller folder")
    order = np.random.default_rng((seed, 7)).permutation(len(held))
    labels = held.labels.numpy()[order]
    each = max(round(len(held) * share / len(set(labels.tolist()))), 1)
    return held.some(np.sort(np.concatenate([order[labels == label][:each] for label in sorted(set(labels.tolist()))])))


def apart(count: int, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a set of `count` images: all but `held_out`, and those, drawn by the seed."""
    if not 0 < held_out < count:
        raise ValueError(f"held_out ({held_out}) must be from 1 to {count - 1} of the training images")
    order = np.random.default_rng((seed, 3)).permutation(count)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
