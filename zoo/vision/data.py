"""Images with classes: public, built in, or the user's own.

Axes: b images of a batch, N of a set, c channels, s pixels of a side, v classes.

A set is small or large. A small one is decoded once (a bar tells how far it is), kept in the data folder under the hash
of its content, and lives as one tensor, on the device where there are no worker processes. A large one is decoded as it
is asked for, in the workers. Either way the loader gives batches that are ready: augmented, mixed, normalised.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from zoo.atomic import write_atomically
from zoo.data import public
from zoo.data.batches import EpochSampler
from zoo.data.files import data_folder
from zoo.errors import UserError
from zoo.train.data import DataModule, Split
from zoo.vision.augment import Augment
from zoo.vision.images import ENDINGS, Preprocess, decode

PHOTOGRAPHS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of ImageNet's channels


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

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images and labels of these rows; and nothing is left out."""
        return self.images[index], index

    def to(self, device: torch.device) -> "Pixels":
        return Pixels(self.images.to(device), self.labels.to(device))


class Decoding:
    """Pictures decoded as they are asked for. A file that cannot be read is left out, counted, and named on stderr."""

    def __init__(self, pictures: Pictures, fit: Preprocess):
        self.pictures, self.fit = pictures, fit
        self.labels = torch.tensor(pictures.labels)
        self.unreadable: set[int] = set()

    def __len__(self) -> int:
        return len(self.pictures)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images of these rows and which rows those are. UserError where none can be read."""
        found, rows = [], []
        for row in index.tolist():
            try:
                found.append(self.fit.pixels(decode(self.pictures.read(row), self.pictures.where(row))))
                rows.append(row)
            except UserError as error:
                if row not in self.unreadable:
                    self.unreadable.add(row)
                    print(f"left out ({len(self.unreadable)} so far in this process): {error}", file=sys.stderr)
        if not found:
            raise UserError(
                f"none of {len(index)} images can be read, the first is {self.pictures.where(int(index[0]))}"
            )
        return torch.stack(found), torch.tensor(rows)


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
            if len(found) < len(partner):  # a partner that cannot be read: these images stay as they are
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


class ImageData(DataModule):
    """Base of the data modules of images. Subclasses give `source` for each split, and class names.

    `classes`, `image_size` and `channels` are known as soon as this is built. `memory`: a set of more megabytes than
    these is decoded as it is asked for. `labelled`: the share of the training images that is trained on, the same
    number of each class (1: all of them).
    """

    def __init__(
        self,
        names: Sequence[str],
        image_size: int,
        channels: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        augment: Augment | None,
        batch: int,
        seed: int,
        workers: int,
        memory: int,
        labelled: float,
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

    def save(self, folder: Path) -> None:
        """How pictures become numbers, into a run folder."""
        write_atomically(folder / Preprocess.filename, self.preprocess.to_json())

    def manifest(self) -> dict[str, Any]:
        """What the data is: images and the hash of each split."""
        splits: tuple[Split, ...] = ("train", "val", "test")
        held = {split: self.held(split) for split in splits}
        return {
            "set": type(self).__name__,
            "images": {split: len(found) for split, found in held.items()},
            "sha256": {split: _digest(found) for split, found in held.items()},
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
                size = len(source) * self.channels * self.image_size**2 / 1e6
                held = Decoding(source, self.preprocess) if size > self.memory else self._decoded(source, split)
            else:
                held = source
            if split == "train" and self.labelled < 1:
                held = _some(held, self.labelled, self.seed)
            if not len(held):
                raise UserError(f"the {split} part of {type(self).__name__} has no image")
            self._held[split] = held
        return self._held[split]

    def views(self, split: Split, *, augmented: bool) -> Views:
        """A split as batches by (epoch, row)."""
        return Views(
            self.held(split), self.preprocess, self.classes, self.augment if augmented else Augment(), self.seed
        )

    def _loader(self, split: Split, *, shuffle: bool) -> DataLoader[Any]:
        views = self.views(split, augmented=shuffle)
        if isinstance(views.held, Pixels) and not self.workers and self.trainer is not None:
            views.held = self._held[split] = views.held.to(self.trainer.strategy.root_device)
        sampler = EpochSampler([1] * len(views.held), self.batch, seed=self.seed, shuffle=shuffle, **self.ranks())
        return DataLoader(
            views, batch_size=None, sampler=sampler, num_workers=self.workers, persistent_workers=self.workers > 0
        )

    def _decoded(self, source: Pictures, split: Split) -> Pixels:
        """All pictures as one tensor: from the data folder where they have been decoded before."""
        fit = self.preprocess
        key = hashlib.sha256(f"{source.digest} {fit.size} {fit.channels} {fit.fit} {fit.interpolation}".encode())
        path = data_folder() / "decoded" / f"{key.hexdigest()[:32]}.npy"
        names = path.with_suffix(".json")
        if not (path.is_file() and names.is_file()):
            bad = _decode_all(source, fit, path, f"decoding {split}")
            write_atomically(names, json.dumps(bad) + "\n")
        bad = {int(row): said for row, said in json.loads(names.read_text()).items()}
        if bad:
            shown = "; ".join(list(bad.values())[:5])
            more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
            print(f"{len(bad)} of {len(source)} images cannot be read and are left out: {shown}{more}", file=sys.stderr)
        kept = [row for row in range(len(source)) if row not in bad]
        labels = torch.tensor([source.labels[row] for row in kept], dtype=torch.long)
        return Pixels(torch.from_numpy(np.load(path)), labels)


def _decode_all(source: Pictures, fit: Preprocess, path: Path, name: str) -> dict[int, str]:
    """Decode everything into one file, with a bar; what cannot be read is left out and returned, by its row."""
    bad: dict[int, str] = {}

    def one(row: int) -> np.ndarray | str:
        try:
            return fit.pixels(decode(source.read(row), source.where(row))).numpy()
        except UserError as error:
            return str(error)

    found = []
    with ThreadPoolExecutor() as pool:  # decoders leave the interpreter's lock
        for row, made in enumerate(
            tqdm(pool.map(one, range(len(source))), name, len(source), file=sys.stderr, unit="image", mininterval=1.0)
        ):
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


def _digest(held: Pixels | Decoding) -> str:
    if isinstance(held, Decoding):
        return held.pictures.digest
    return hashlib.sha256(held.images.cpu().numpy().tobytes() + held.labels.cpu().numpy().tobytes()).hexdigest()


def _some(held: Pixels | Decoding, share: float, seed: int) -> Pixels:
    """The same number of images of each class, `share` of them all, drawn by the seed."""
    if isinstance(held, Decoding):
        raise UserError("labelled below 1 takes a part of a set in memory: raise memory, or make a smaller folder")
    order = np.random.default_rng((seed, 7)).permutation(len(held))
    labels = held.labels.numpy()[order]
    each = max(round(len(held) * share / len(set(labels.tolist()))), 1)
    kept = np.sort(np.concatenate([order[labels == label][:each] for label in sorted(set(labels.tolist()))]))
    return Pixels(held.images[kept], held.labels[kept])


def _apart(pixels: Pixels, held_out: int, seed: int) -> tuple[Pixels, Pixels]:
    """All but `held_out` images, and those, drawn by the seed."""
    if not 0 < held_out < len(pixels):
        raise ValueError(f"held_out ({held_out}) must be from 1 to {len(pixels) - 1} of the training images")
    order = torch.from_numpy(np.random.default_rng((seed, 3)).permutation(len(pixels)))
    parts = (order[held_out:].sort().values, order[:held_out].sort().values)
    first, second = (Pixels(pixels.images[part], pixels.labels[part]) for part in parts)
    return first, second


# -- built in ----------------------------------------------------------------------------------------------------------


class Digits(ImageData):
    """1,797 scanned digits of 8 x 8 pixels, part of scikit-learn (Alpaydin & Kaynak 1998): no file, no network.

    A third is tested on and a tenth of the rest validated on, drawn by the seed.
    """

    def __init__(self, augment: Augment | None = None, batch: int = 64, seed: int = 1, workers: int = 0):
        from sklearn.datasets import load_digits

        found = load_digits()
        images = torch.from_numpy(found.images).float().mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
        everything = Pixels(images, torch.from_numpy(found.target).long())
        rest, test = _apart(everything, len(everything) // 3, seed)
        train, val = _apart(rest, len(rest) // 10, seed)
        self.parts = {"train": train, "val": val, "test": test}
        super().__init__(
            [str(name) for name in found.target_names],
            8,
            1,
            (0.306,),
            (0.376,),
            augment=augment,
            batch=batch,
            seed=seed,
            workers=workers,
            memory=100,
            labelled=1.0,
        )

    def source(self, split: Split) -> Pixels:
        return self.parts[split]


# -- public ------------------------------------------------------------------------------------------------------------


class MNIST(ImageData):
    """70,000 handwritten digits of 28 x 28 pixels (LeCun et al. 1998). `held_out` training images are validated on."""

    def __init__(
        self,
        held_out: int = 2000,
        augment: Augment | None = None,
        batch: int = 128,
        seed: int = 1,
        workers: int = 0,
        labelled: float = 1.0,
    ):
        folder = public.fetch("mnist")
        train, self.test = (
            Pixels(
                read_idx(folder / f"{name}-images-idx3-ubyte.gz").unsqueeze(1),
                read_idx(folder / f"{name}-labels-idx1-ubyte.gz").long(),
            )
            for name in ("train", "t10k")
        )
        self.train, self.val = _apart(train, held_out, seed)
        super().__init__(
            [str(digit) for digit in range(10)],
            28,
            1,
            (0.1307,),
            (0.3081,),
            augment=augment,
            batch=batch,
            seed=seed,
            workers=workers,
            memory=1000,
            labelled=labelled,
        )

    def source(self, split: Split) -> Pixels:
        return {"train": self.train, "val": self.val, "test": self.test}[split]


def read_idx(path: Path) -> Tensor:
    """A gzipped IDX file of bytes: zero, zero, 8 (bytes), the number of axes, their sizes, the numbers."""
    import gzip
    import zlib

    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not gzip, or cut short ({error})") from None
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise UserError(f"{path}: not an IDX file of bytes")
    shape = np.frombuffer(raw, ">u4", raw[3], 4).tolist() if len(raw) >= 4 + 4 * raw[3] else []
    values = np.frombuffer(raw, np.uint8, offset=min(4 + 4 * raw[3], len(raw)))
    if not shape or values.size != int(np.prod(shape)):
        raise UserError(f"{path}: an IDX file cut short")
    return torch.from_numpy(values.reshape(shape).copy())


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
        augment: Augment | None = None,
        batch: int = 128,
        seed: int = 1,
        workers: int = 0,
        memory: int = 4000,
        labelled: float = 1.0,
    ):
        root = data_folder() / "torchvision" if root is None else Path(root)
        self.splits: dict[Split, Pictures | Pixels] = {}
        if name == "ImageNet":
            sets = [_torchvision(name, root, split=split) for split in ("train", "val")]
            size = 224 if image_size is None else image_size
            self.splits = {s: _files(found.samples) for s, found in zip(("train", "val"), sets, strict=True)}  # type: ignore[misc]
            self.splits["test"] = self.splits["val"]  # ImageNet's own test images have no public labels
        else:
            sets = [_torchvision(name, root, train=train, download=True) for train in (True, False)]
            train, test = (
                Pixels(_channels_first(found.data), torch.tensor(np.asarray(found.targets))) for found in sets
            )
            size = test.images.shape[-1]
            if image_size not in (None, size):
                raise ValueError(f"image_size ({image_size}): {name}'s images have {size} pixels along a side")
            kept, held = _apart(train, held_out, seed)
            self.splits = {"train": kept, "val": held, "test": test}
        grey = name in ("MNIST", "FashionMNIST")
        mean, std = ((0.5,), (0.25,)) if grey else PHOTOGRAPHS
        names = [c if isinstance(c, str) else c[0] for c in sets[0].classes]
        common = {"augment": augment, "batch": batch, "seed": seed, "workers": workers, "memory": memory}
        super().__init__(names, size, 1 if grey else 3, mean, std, labelled=labelled, **common)

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
        augment: Augment | None = None,
        batch: int = 128,
        seed: int = 1,
        workers: int = 0,
        memory: int = 4000,
        labelled: float = 1.0,
    ):
        self.test = read_parquet(Path(test))
        rows = read_parquet(Path(train))
        self.train, self.val = rows.apart(held_out, seed)
        highest = max(rows.labels)
        if names is not None and len(names) <= highest:
            raise UserError(f"{train}: a class {highest}, but {len(names)} names were given")
        _check_classes(set(self.test.labels), set(rows.labels), str(test), str(train))
        mean, std = ((0.5,), (0.25,)) if channels == 1 else PHOTOGRAPHS
        super().__init__(
            names or [str(number) for number in range(highest + 1)],
            image_size,
            channels,
            mean,
            std,
            augment=augment,
            batch=batch,
            seed=seed,
            workers=workers,
            memory=memory,
            labelled=labelled,
        )

    def source(self, split: Split) -> Pictures:
        return {"train": self.train, "val": self.val, "test": self.test}[split].pictures()


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a Parquet file: the bytes of each image and its class."""

    path: Path
    contents: Any  # a column of bytes
    labels: list[int]
    numbers: list[int]  # which rows of the file

    def apart(self, held_out: int, seed: int) -> tuple["Rows", "Rows"]:
        if not 0 < held_out < len(self.labels):
            raise ValueError(f"held_out ({held_out}) must be from 1 to {len(self.labels) - 1} of the training images")
        order = np.random.default_rng((seed, 3)).permutation(len(self.labels))
        return self.some(sorted(order[held_out:].tolist())), self.some(sorted(order[:held_out].tolist()))

    def some(self, rows: list[int]) -> "Rows":
        return Rows(self.path, self.contents, [self.labels[r] for r in rows], [self.numbers[r] for r in rows])

    def read(self, row: int) -> bytes:
        return self.contents[self.numbers[row]].as_py() or b""

    def where(self, row: int) -> str:
        return f"{self.path}, row {self.numbers[row] + 1}"

    def pictures(self) -> Pictures:
        digest = hashlib.sha256(json.dumps(self.numbers).encode())
        for file in _parquet_files(self.path):
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return Pictures(self.labels, self.read, self.where, digest.hexdigest())


def _parquet_files(path: Path) -> list[Path]:
    return sorted(path.glob("*.parquet")) if path.is_dir() else [path]


def read_parquet(path: Path) -> Rows:
    """UserError in one line where there is no such file, or not these columns."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError("Parquet files need pyarrow: pip install 'transformer-zoo[parquet]'") from None
    files = _parquet_files(path)
    if not files or not files[0].is_file():
        raise UserError(f"{path}: no such Parquet file")
    tables = []
    for file in files:
        try:
            tables.append(pq.read_table(file))
        except (pa.ArrowException, OSError) as error:
            raise UserError(
                f"{file}: not a Parquet file that can be read ({str(error).splitlines()[0][:100]})"
            ) from None
    table = pa.concat_tables(tables)
    images = [f.name for f in table.schema if pa.types.is_struct(f.type) and "bytes" in [c.name for c in f.type]]
    numbers = [f.name for f in table.schema if pa.types.is_integer(f.type)]
    if len(images) != 1 or not ("label" in numbers or len(numbers) == 1):
        raise UserError(
            f"{path}: expected a column of {{bytes, path}} and one of class numbers, it has {table.schema.names}"
        )
    labels = table["label" if "label" in numbers else numbers[0]].to_pylist()
    if not labels:
        raise UserError(f"{path}: holds no row")
    for row, label in enumerate(labels, 1):
        if label is None or label < 0:
            raise UserError(f"{path}, row {row}: the class is {label}, expected a number from 0")
    return Rows(
        path, pa.chunked_array(pa.compute.struct_field(table[images[0]], "bytes").chunks), labels, [*range(len(labels))]
    )


class Cifar10Jpeg(ParquetImages):
    """CIFAR-10 (Krizhevsky 2009) as JPEG of quality 75: 50,000 and 10,000 images of 32 x 32.

    Its images have lost detail: no figure of it is one of CIFAR-10 without that being said.
    """

    def __init__(
        self,
        held_out: int = 1000,
        augment: Augment | None = None,
        batch: int = 128,
        seed: int = 1,
        workers: int = 0,
        labelled: float = 1.0,
    ):
        folder = public.fetch("cifar10_jpeg")
        super().__init__(
            folder / "train-00000-of-00001.parquet",
            folder / "test-00000-of-00001.parquet",
            "airplane automobile bird cat deer dog frog horse ship truck".split(),
            held_out=held_out,
            augment=augment,
            batch=batch,
            seed=seed,
            workers=workers,
            labelled=labelled,
        )


class ImageFolder(ImageData):
    """The user's own: a folder with a folder of images for each class.

    Where `path` holds folders train, and val (or valid, validation) or test, they are taken as they are; what is
    missing of the last two is `held_out` images of train, drawn by the seed. Files that cannot be read are left out,
    counted and named; a class without an image, or one in test that train lacks, is a UserError.
    """

    def __init__(
        self,
        path: Path,
        image_size: int = 64,
        channels: int = 3,
        held_out: int = 100,
        augment: Augment | None = None,
        batch: int = 64,
        seed: int = 1,
        workers: int = 0,
        memory: int = 4000,
        labelled: float = 1.0,
    ):
        path = Path(path)
        if not path.is_dir():
            raise UserError(f"{path}: no such folder")
        train = path / "train" if (path / "train").is_dir() else path
        names = class_folders(train)
        files = image_files(train, names)
        places = {"val": ("val", "valid", "validation"), "test": ("test",)} if train != path else {}
        own = {s: next((path / n for n in known if (path / n).is_dir()), None) for s, known in places.items()}
        self.files: dict[str, list[tuple[Path, int]]] = {}
        for split in ("val", "test"):
            folder = own.get(split)
            if folder is not None:
                here = class_folders(folder)
                _check_classes(set(here), set(names), str(folder), str(train))
                self.files[split] = image_files(folder, here, names)
            else:
                files, self.files[split] = _hold_out(files, held_out, seed, train)
        self.files["train"] = files
        mean, std = ((0.5,), (0.25,)) if channels == 1 else PHOTOGRAPHS
        super().__init__(
            names,
            image_size,
            channels,
            mean,
            std,
            augment=augment,
            batch=batch,
            seed=seed,
            workers=workers,
            memory=memory,
            labelled=labelled,
        )

    def source(self, split: Split) -> Pictures:
        return _files(self.files[split])


def class_folders(path: Path) -> list[str]:
    """Names of the folders in a folder, in order; UserError where there are fewer than two."""
    names = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(names) < 2:
        raise UserError(f"{path}: expected a folder of images for each of two classes or more, found {len(names)}")
    return names


def image_files(path: Path, names: Sequence[str], order: Sequence[str] | None = None) -> list[tuple[Path, int]]:
    """The image files of each class with its number (in `order`); UserError names a class without any."""
    numbers = {name: number for number, name in enumerate(names if order is None else order)}
    found = []
    for name in names:
        files = sorted(p for p in (path / name).rglob("*") if p.suffix.lower() in ENDINGS)
        if not files:
            raise UserError(
                f"{path / name}: no image here ({', '.join(sorted(ENDINGS))}); remove the folder or fill it"
            )
        found += [(file, numbers[name]) for file in files]
    return found


def _check_classes(found: set[Any], known: set[Any], where: str, train: str) -> None:
    if foreign := sorted(found - known):
        raise UserError(f"{where}: class {foreign[0]!r} is not in {train}: nothing could be learned of it")


def _hold_out(
    files: list[tuple[Path, int]], count: int, seed: int, where: Path
) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
    """All but `count` files, and those: by a hash of the name, so that a new file changes no other's side."""
    if not 0 < count <= len(files) // 2:
        raise UserError(f"{where}: {len(files)} images are too few to hold out {count} (held_out)")

    def rank(item: tuple[Path, int]) -> bytes:
        return hashlib.sha256(f"{seed} {item[0].relative_to(where)}".encode()).digest()

    chosen = set(sorted(files, key=rank)[:count])
    kept = [item for item in files if item not in chosen]
    if lost := {label for _, label in files} - {label for _, label in kept}:
        name = next(file.parent.name for file, label in files if label in lost)
        raise UserError(f"{where / name}: all images of this class would be held out (held_out {count})")
    return kept, sorted(chosen)


def _files(files: Sequence[tuple[Path | str, int]]) -> Pictures:
    """Files on disk. What stands for their content are names, sizes and times of change."""
    paths = [Path(path) for path, _ in files]
    digest = hashlib.sha256()
    for path in paths:
        about = path.stat()
        digest.update(f"{path} {about.st_size} {about.st_mtime_ns}\n".encode())
    return Pictures([label for _, label in files], partial(_read, paths), partial(_name, paths), digest.hexdigest())


def _read(paths: list[Path], row: int) -> bytes:
    try:
        return paths[row].read_bytes()
    except OSError as error:
        raise UserError(f"{paths[row]}: {error.strerror}") from None


def _name(paths: list[Path], row: int) -> str:
    return str(paths[row])
