"""Sets of images with classes: public, built in, or the user's own.

A set is small or large. A small one is decoded once (a bar tells how far it is), kept in the data folder under the hash
of its content, and lives as one tensor, on the device where there are no worker processes. A large one is decoded as it
is asked for, in the workers. Either way the loader gives batches that are ready: augmented, mixed, normalised.

What is validated and tested on is decoded as the model sees it. So is what is trained on, unless it is cropped
(`augment.crop`): then pictures are held whole and up to twice as large, four times the memory, so that their rims are
trained on too and small crops have pixels of their own.
"""

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from zoo.atomic import write_atomically
from zoo.data import public
from zoo.data.batches import EpochSampler, Made
from zoo.data.files import data_folder
from zoo.errors import UserError
from zoo.train.data import DataModule, Split
from zoo.vision.augment import Augment
from zoo.vision.files import (
    check_classes,
    class_folders,
    hold_out,
    image_files,
    on_disk,
    read_idx,
    say_copies,
    splits_lie_in,
)
from zoo.vision.images import REDUCED, Preprocess
from zoo.vision.parquet import read_parquet
from zoo.vision.pictures import Decoding, Pictures, Pixels, Views, apart, decode_all, digest_of, some_of
from zoo.vision.published import preprocess_of

PHOTOGRAPHS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of ImageNet's channels


class ImageData(DataModule):
    """Base of the data modules of images. Subclasses give `source` for each split, and class names.

    `classes`, `image_size` and `channels` are known as soon as this is built. `memory`: a set of more megabytes than
    these is decoded as it is asked for. `labelled`: the share of the training images that is trained on, the same
    number of each class (1: all of them). Subclasses hand on the settings that all sets have in common.
    """

    sized = False  # whether all files of the set have the size of the model's input: there is nothing more in them

    def __init__(
        self,
        names: Sequence[str],
        image_size: int,
        channels: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        augment: Augment | None = None,
        batch: int = 128,
        seed: int = 1,
        workers: int = 0,
        memory: int = 4000,
        labelled: float = 1.0,
    ):
        super().__init__()
        if batch < 1:
            raise ValueError(f"batch ({batch}) must be at least 1")
        if not 0 < labelled <= 1:
            raise ValueError(f"labelled ({labelled}) must be in (0, 1]: it is a share of the training images")
        self.names, self.classes, self.image_size, self.channels = tuple(names), len(names), image_size, channels
        self.preprocess = Preprocess(image_size, channels, tuple(mean), tuple(std))
        self.augment = Augment() if augment is None else augment
        self.batch, self.seed, self.workers, self.memory, self.labelled = batch, seed, workers, memory, labelled
        self._held: dict[str, Pixels | Decoding] = {}

    def source(self, split: Split) -> Pictures | Pixels:
        """The images of a split."""
        raise NotImplementedError

    @classmethod
    def like(cls, folder: Path) -> dict[str, Any]:
        found = preprocess_of(folder)
        if found is None:
            return {}
        return {"image_size": found.size, "channels": found.channels, "preprocess": str(folder)}

    def save(self, folder: Path) -> None:
        """How pictures become numbers, into a run folder."""
        self.preprocess.save(folder)

    def manifest(self) -> dict[str, Any]:
        """What the data is: images and the hash of each split."""
        splits: tuple[Split, ...] = ("train", "val", "test")
        held = {split: self.held(split) for split in splits}
        return {
            "set": type(self).__name__,
            "images": {split: len(found) for split, found in held.items()},
            "sha256": {split: digest_of(found) for split, found in held.items()},
            "image_size": self.image_size,
            "channels": self.channels,
            "classes": self.classes,
            "labelled": self.labelled,
        }

    def held(self, split: Split) -> Pixels | Decoding:
        """A split's images, decoded where the set is small."""
        if split not in self._held:
            source = self.source(split)
            if isinstance(source, Pictures):
                fit = self.preprocess
                if split == "train" and self.augment.crop < 1 and not self.sized:
                    fit = fit.whole(self.augment.held_size(fit.size))
                size = len(source) * fit.channels * fit.size**2 / 1e6
                held = Decoding(source, fit) if size > self.memory else self._decoded(source, fit, split)
            else:
                held = source
            if split == "train" and self.labelled < 1:
                held = some_of(held, self.labelled, self.seed)
            if not len(held):
                raise UserError(f"the {split} part of {type(self).__name__} has no image")
            self._held[split] = held
        return self._held[split]

    def _loader(self, split: Split, *, shuffle: bool) -> DataLoader[Any]:
        augment = self.augment if split == "train" else Augment()
        views = Views(self.held(split), self.preprocess, self.classes, augment, self.seed)
        if isinstance(views.held, Pixels) and not self.workers and self.trainer is not None:
            views.held = self._held[split] = views.held.to(self.trainer.strategy.root_device)
        sampler = EpochSampler([1] * len(views.held), self.batch, seed=self.seed, shuffle=shuffle, **self.ranks())
        return DataLoader(
            views,
            batch_sampler=sampler,
            collate_fn=Made.whole,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )

    def _decoded(self, source: Pictures, fit: Preprocess, split: Split) -> Pixels:
        """All pictures as one tensor: from the data folder where they have been decoded before."""
        shape = f"{fit.size} {fit.channels} {fit.fit} {fit.interpolation} {fit.shorter} {REDUCED}"
        key = hashlib.sha256(os.fsencode(f"{source.digest} {source.place} {shape} with aspects"))
        path = data_folder() / "decoded" / f"{key.hexdigest()[:32]}.npy"
        beside = path.with_suffix(".json")
        if not (path.is_file() and beside.is_file()):
            bad, aspects = decode_all(source, fit, path, f"decoding {split}")
            write_atomically(beside, json.dumps({"left out": bad, "aspects": aspects}) + "\n")
        about = json.loads(beside.read_text())
        bad = {int(row): said for row, said in about["left out"].items()}
        if bad:
            shown = "; ".join(list(bad.values())[:5])
            more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
            print(f"{len(bad)} of {len(source)} images cannot be read and are left out: {shown}{more}", file=sys.stderr)
        kept = [row for row in range(len(source)) if row not in bad]
        if split == "train" and (lost := set(source.labels) - {source.labels[row] for row in kept}):
            name = self.names[min(lost)]
            raise UserError(f"class {name!r}: none of its images can be read, so nothing could be learned of it")
        labels = torch.tensor([source.labels[row] for row in kept], dtype=torch.long)
        names = tuple(source.where(row) for row in kept)
        return Pixels(torch.from_numpy(np.load(path)), labels, names, torch.tensor(about["aspects"]))


# -- built in ----------------------------------------------------------------------------------------------------------


class Digits(ImageData):
    """1,797 scanned digits of 8 x 8 pixels, part of scikit-learn (Alpaydin & Kaynak 1998): no file, no network.

    A third is tested on and a tenth of the rest validated on, drawn by the seed.
    """

    def __init__(self, batch: int = 64, seed: int = 1, **common: Any):
        from sklearn.datasets import load_digits

        found = load_digits()
        images = torch.from_numpy(found.images).float().mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
        everything = Pixels(images, torch.from_numpy(found.target).long())
        rest, test = (everything.some(rows) for rows in apart(len(everything), len(everything) // 3, seed))
        train, val = (rest.some(rows) for rows in apart(len(rest), len(rest) // 10, seed))
        self.parts = {"train": train, "val": val, "test": test}
        names = [str(name) for name in found.target_names]
        super().__init__(names, 8, 1, (0.306,), (0.376,), batch=batch, seed=seed, **common)

    def source(self, split: Split) -> Pixels:
        return self.parts[split]


# -- public ------------------------------------------------------------------------------------------------------------


class MNIST(ImageData):
    """70,000 handwritten digits of 28 x 28 pixels (LeCun et al. 1998). `held_out` training images are validated on."""

    def __init__(self, held_out: int = 2000, seed: int = 1, **common: Any):
        folder = public.fetch("mnist")
        train, self.test = (
            Pixels(
                read_idx(folder / f"{name}-images-idx3-ubyte.gz").unsqueeze(1),
                read_idx(folder / f"{name}-labels-idx1-ubyte.gz").long(),
            )
            for name in ("train", "t10k")
        )
        self.train, self.val = (train.some(rows) for rows in apart(len(train), held_out, seed))
        super().__init__([str(digit) for digit in range(10)], 28, 1, (0.1307,), (0.3081,), seed=seed, **common)

    def source(self, split: Split) -> Pixels:
        return {"train": self.train, "val": self.val, "test": self.test}[split]


class TorchvisionSet(ImageData):
    """One of torchvision's own data sets, downloaded by it into `root` (default: the data folder), or found there.

    ImageNet cannot be downloaded: `root` names the folder that its archives were put into.
    """

    def __init__(
        self,
        name: Literal["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "ImageNet"],
        root: Path | None = None,
        image_size: int | None = None,
        held_out: int = 2000,
        seed: int = 1,
        **common: Any,
    ):
        root = data_folder() / "torchvision" if root is None else Path(root)
        self.splits: dict[Split, Pictures | Pixels]
        if name == "ImageNet":
            sets = [_torchvision(name, root, split=split) for split in ("train", "val")]
            size = 224 if image_size is None else image_size
            train, val = (on_disk(found.samples) for found in sets)
            self.splits = {"train": train, "val": val, "test": val}  # ImageNet's own test images have no public labels
        else:
            sets = [_torchvision(name, root, train=train, download=True) for train in (True, False)]
            train, test = (
                Pixels(_channels_first(found.data), torch.tensor(np.asarray(found.targets))) for found in sets
            )
            size = test.images.shape[-1]
            if image_size not in (None, size):
                raise ValueError(f"image_size ({image_size}): {name}'s images have {size} pixels along a side")
            kept, held = (train.some(rows) for rows in apart(len(train), held_out, seed))
            self.splits = {"train": kept, "val": held, "test": test}
        grey = name in ("MNIST", "FashionMNIST")
        mean, std = ((0.5,), (0.25,)) if grey else PHOTOGRAPHS
        names = [c if isinstance(c, str) else c[0] for c in sets[0].classes]
        super().__init__(names, size, 1 if grey else 3, mean, std, seed=seed, **common)

    def source(self, split: Split) -> Pictures | Pixels:
        return self.splits[split]


def _torchvision(name: str, root: Path, **options: Any) -> Any:
    from urllib.error import URLError

    import torchvision

    try:
        root.mkdir(parents=True, exist_ok=True)
        return getattr(torchvision.datasets, name)(root, **options)
    except (RuntimeError, URLError, OSError, ValueError, EOFError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{name} is not to be had from torchvision in {root}: {reason}") from None


def _channels_first(data: Any) -> Tensor:
    images = torch.as_tensor(data)
    return images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()


# -- the user's own ----------------------------------------------------------------------------------------------------


class ParquetImages(ImageData):
    """Images in Parquet files as Hugging Face lays them out: a column of {bytes, path} and a column of class numbers.

    `train` and `test` name one file each, or a folder of them; `held_out` training images are validated on. `names`:
    what the classes are called (default: their numbers).
    """

    def __init__(
        self,
        train: Path,
        test: Path,
        names: list[str] | None = None,
        image_size: int = 32,
        channels: int = 3,
        held_out: int = 1000,
        seed: int = 1,
        **common: Any,
    ):
        self.test = read_parquet(Path(test))
        rows = read_parquet(Path(train))
        self.train, self.val = (rows.some(part) for part in apart(len(rows), held_out, seed))
        highest = max(rows.labels)
        if names is not None and len(names) <= highest:
            raise UserError(f"{train}: a class {highest}, but {len(names)} names were given")
        check_classes(set(self.test.labels), set(rows.labels), str(test), str(train))
        mean, std = ((0.5,), (0.25,)) if channels == 1 else PHOTOGRAPHS
        names = names or [str(number) for number in range(highest + 1)]
        super().__init__(names, image_size, channels, mean, std, seed=seed, **common)

    def source(self, split: Split) -> Pictures:
        return {"train": self.train, "val": self.val, "test": self.test}[split].pictures()


class Cifar10Jpeg(ParquetImages):
    """CIFAR-10 (Krizhevsky 2009) as JPEG of quality 75: 50,000 and 10,000 images of 32 x 32.

    Its images have lost detail: no figure of it is one of CIFAR-10 without that being said.
    """

    sized = True

    def __init__(self, held_out: int = 1000, **common: Any):
        train, test = (public.fetch("cifar10_jpeg") / f"{name}-00000-of-00001.parquet" for name in ("train", "test"))
        names = "airplane automobile bird cat deer dog frog horse ship truck".split()
        super().__init__(train, test, names, 32, 3, held_out, **common)


class ImageFolder(ImageData):
    """The user's own: a folder with a folder of images for each class.

    Where `path` holds folders train, and val (or valid, validation) or test, they are taken as they are, and stderr
    says how many of their files are copies of ones in train. What is missing of the last two is `held_out` images of
    train each, drawn by the seed: a count, in which a new file may take the place of one that was held out; or, below
    1, a share, where no new file changes another's side. Files of the same bytes stand on one side. Files that cannot
    be read are left out, counted and named; a class without an image, or one in test that train lacks, is a UserError.
    `preprocess`: the folder of a model, which says how pictures become numbers and, unless `image_size` does, how large
    they are (else 64 pixels).
    """

    def __init__(
        self,
        path: Path,
        image_size: int | None = None,
        channels: int = 3,
        held_out: int | float = 100,
        preprocess: Path | None = None,
        batch: int = 64,
        seed: int = 1,
        **common: Any,
    ):
        path = Path(path)
        if not path.is_dir():
            raise UserError(f"{path}: no such folder")
        train = path / "train" if splits_lie_in(path) else path
        names = class_folders(train)
        files = image_files(train, names)
        places = {"val": ("val", "valid", "validation"), "test": ("test",)} if train != path else {}
        own = {s: next((path / n for n in known if (path / n).is_dir()), None) for s, known in places.items()}
        self.files: dict[str, list[tuple[Path, int]]] = {}
        missing = [split for split in ("val", "test") if own.get(split) is None]
        for before, split in enumerate(missing):
            files, self.files[split] = hold_out(files, held_out, seed, train, before)
        self.files["train"] = files
        for split, folder in own.items():
            if folder is not None:
                here = class_folders(folder)
                check_classes(set(here), set(names), str(folder), str(train))
                self.files[split] = image_files(folder, here, names)
                say_copies(folder, self.files[split], train, files)
        mean, std = ((0.5,), (0.25,)) if channels == 1 else PHOTOGRAPHS
        like = None if preprocess is None else preprocess_of(Path(preprocess))
        if preprocess is not None and (like is None or like.channels != channels):
            raise UserError(f"{preprocess}: does not say how pictures of {channels} channels become numbers")
        size = image_size or (64 if like is None else like.size)
        super().__init__(names, size, channels, mean, std, batch=batch, seed=seed, **common)
        if like is not None:
            self.preprocess = like.at(size)

    def source(self, split: Split) -> Pictures:
        return on_disk(self.files[split])
