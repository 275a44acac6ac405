"""Images with classes, before they are a model's input: as files not yet decoded, as one tensor, as batches.

Axes: b images of a batch, N of a set, c channels, s pixels of a side, v classes.
"""

import hashlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

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

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Pixels:
    """Images decoded and sized, "N c s s" uint8, with classes "N"."""

    images: Tensor
    labels: Tensor
    names: tuple[str, ...] = ()  # of the files that they were, where they were some

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images of these rows, and those rows: nothing is left out."""
        return self.images[index], index

    def where(self, row: int) -> str:
        """What to call an image."""
        return self.names[row] if self.names else f"image {row + 1}"

    def to(self, device: torch.device) -> "Pixels":
        return Pixels(self.images.to(device), self.labels.to(device), self.names)


class Decoding:
    """Pictures decoded as they are asked for. A file that cannot be read is left out, counted, and named on stderr."""

    def __init__(self, pictures: Pictures, fit: Preprocess):
        self.pictures, self.fit = pictures, fit
        self.labels = torch.tensor(pictures.labels)
        self.unreadable: set[int] = set()

    def __len__(self) -> int:
        return len(self.pictures)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images of these rows and which rows those are.

        Where none can be read the next of the set that can stands for them: a batch is never empty. (A test counts that
        image twice.) UserError where none of the set can be read.
        """
        wanted = index.tolist()
        found = [(row, image) for row in wanted if (image := self._image(row)) is not None]
        for beyond in range(0 if found else len(self)):
            row = (wanted[-1] + 1 + beyond) % len(self)
            if (image := self._image(row)) is not None:
                found = [(row, image)]
                break
        if not found:
            raise UserError(f"none of {len(self)} images can be read, the first is {self.pictures.where(0)}")
        return torch.stack([image for _, image in found]), torch.tensor([row for row, _ in found])

    def where(self, row: int) -> str:
        """What to call an image."""
        return self.pictures.where(row)

    def _image(self, row: int) -> Tensor | None:
        if row in self.unreadable:
            return None
        try:
            return self.fit.pixels(decode(self.pictures.read(row), self.pictures.where(row)))
        except UserError as error:
            self.unreadable.add(row)
            print(f"left out ({len(self.unreadable)} so far in this process): {error}", file=sys.stderr)
            return None


class Views(Dataset[Batch]):
    """Batches of a set by (epoch, row): each image is what (seed, epoch, its row) make of it, whatever is beside."""

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
        pixels, index = self.held.take(index.to(self.held.labels.device))
        return self.augment.views(pixels, self.seed, epoch, index), index

    def _completed(
        self, views: Tensor, others: Tensor, index: Tensor, partner: Tensor, found: Tensor
    ) -> tuple[Tensor, Tensor]:
        place = {row: i for i, row in enumerate(found.tolist())}
        chosen = [
            (others[place[p]], p) if p in place else (views[i], int(index[i])) for i, p in enumerate(partner.tolist())
        ]
        return torch.stack([image for image, _ in chosen]), torch.tensor([row for _, row in chosen])


def decode_all(source: Pictures, fit: Preprocess, path: Path, name: str) -> dict[int, str]:
    """Decode everything into one file, with a bar; what cannot be read is left out and returned, by its row."""
    bad: dict[int, str] = {}

    def one(row: int) -> np.ndarray | str:
        try:
            return fit.pixels(decode(source.read(row), source.where(row))).numpy()
        except UserError as error:
            return str(error)

    found = []
    with ThreadPoolExecutor() as pool:  # decoders leave the interpreter's lock
        each = pool.map(one, range(len(source)))
        for row, made in enumerate(bar(each, name, "image", total=len(source))):
            if isinstance(made, str):
                bad[row] = made
            else:
                found.append(made)
    if not found:
        raise UserError(f"none of {len(source)} images can be read: {next(iter(bad.values()), 'there is none')}")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    with beside.open("wb") as file:
        np.save(file, np.stack(found))
    beside.replace(path)
    return bad


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
    kept = np.sort(np.concatenate([order[labels == label][:each] for label in sorted(set(labels.tolist()))]))
    return Pixels(held.images[kept], held.labels[kept])


def apart(pixels: Pixels, held_out: int, seed: int) -> tuple[Pixels, Pixels]:
    """All but `held_out` images, and those, drawn by the seed."""
    if not 0 < held_out < len(pixels):
        raise ValueError(f"held_out ({held_out}) must be from 1 to {len(pixels) - 1} of the training images")
    order = torch.from_numpy(np.random.default_rng((seed, 3)).permutation(len(pixels)))
    parts = (order[held_out:].sort().values, order[:held_out].sort().values)
    first, second = (Pixels(pixels.images[part], pixels.labels[part]) for part in parts)
    return first, second
