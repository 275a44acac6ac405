"""How image sets lie on disk: IDX files, Parquet in Hugging Face's layout, a folder of images for each class.

All of it is read to `Pictures` or tensors; what does not hold what it should is a UserError that names the file.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data.files import files_under, say_others
from zoo.errors import UserError
from zoo.vision.images import ENDINGS
from zoo.vision.pictures import Pictures


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


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a Parquet file: the bytes of each image and its class."""

    path: Path
    contents: Any  # a column of bytes
    labels: list[int]
    numbers: list[int]  # which rows of the file

    def __len__(self) -> int:
        return len(self.labels)

    def some(self, rows: np.ndarray) -> "Rows":
        return Rows(self.path, self.contents, [self.labels[r] for r in rows], [self.numbers[r] for r in rows])

    def read(self, row: int) -> bytes:
        return self.contents[self.numbers[row]].as_py() or b""

    def where(self, row: int) -> str:
        return f"{self.path}, row {self.numbers[row] + 1}"

    def pictures(self) -> Pictures:
        digest = hashlib.sha256(json.dumps(self.numbers).encode())
        for file in parquet_files(self.path):
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return Pictures(self.labels, self.read, self.where, digest.hexdigest())


def parquet_files(path: Path) -> list[Path]:
    return sorted(path.glob("*.parquet")) if path.is_dir() else [path]


def read_parquet(path: Path) -> Rows:
    """UserError in one line where there is no such file, or not these columns."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError("Parquet files need pyarrow: pip install 'transformer-zoo[parquet]'") from None
    files = parquet_files(path)
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


def class_folders(path: Path) -> list[str]:
    """Names of the folders in a folder, in order; UserError where there are fewer than two."""
    names = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX")))
    if len(names) < 2:
        raise UserError(f"{path}: expected a folder of images for each of two classes or more, found {len(names)}")
    return names


def splits_lie_in(path: Path) -> bool:
    """Whether a folder's `train` holds the classes to train on. One that holds files alone, beside other folders than
    those of splits, is a class of that name."""
    train = path / "train"
    if not train.is_dir():
        return False
    others = {p.name for p in path.iterdir() if p.is_dir()} - {"train", "val", "valid", "validation", "test"}
    return not others or any(p.is_dir() for p in train.iterdir())


def image_files(path: Path, names: Sequence[str], order: Sequence[str] | None = None) -> list[tuple[Path, int]]:
    """The image files of each class with its number (in `order`); UserError names a class without any."""
    numbers = {name: number for number, name in enumerate(names if order is None else order)}
    found = []
    others: Counter[str] = Counter()
    for name in names:
        files = files_under(path / name, ENDINGS, others)
        if not files:
            raise UserError(
                f"{path / name}: no image here ({', '.join(sorted(ENDINGS))}); remove the folder or fill it"
            )
        found += [(file, numbers[name]) for file in files]
    say_others(path, others, "images")
    return found


def check_classes(found: set[Any], known: set[Any], where: str, train: str) -> None:
    if foreign := sorted(found - known):
        raise UserError(f"{where}: class {foreign[0]!r} is not in {train}: nothing could be learned of it")


def hold_out(
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
        name = next(file.relative_to(where).parts[0] for file, label in files if label in lost)
        raise UserError(f"{where / name}: all images of this class would be held out (held_out {count})")
    return kept, sorted(chosen)


def on_disk(files: Sequence[tuple[Path | str, int]]) -> Pictures:
    """Files on disk. What stands for their content are names, sizes and times of change."""
    paths = [Path(path) for path, _ in files]
    digest = hashlib.sha256()
    for path in paths:
        about = path.stat() if path.exists() else None  # a link to nowhere is left out when it is read
        digest.update(f"{path} {about and about.st_size} {about and about.st_mtime_ns}\n".encode())
    return Pictures([label for _, label in files], partial(_read, paths), partial(_name, paths), digest.hexdigest())


def _read(paths: list[Path], row: int) -> bytes:
    try:
        return paths[row].read_bytes()
    except OSError as error:
        raise UserError(f"{paths[row]}: {error.strerror}") from None


def _name(paths: list[Path], row: int) -> str:
    return str(paths[row])
