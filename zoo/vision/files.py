"""How image sets lie on disk: IDX files, a folder of images for each class. (Parquet: zoo/vision/parquet.py.)

All of it is read to `Pictures` or tensors; what does not hold what it should is a UserError that names the file.
"""

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data.files import files_under, say_others
from zoo.data.split import place
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


Labelled = list[tuple[Path, int]]


def hold_out(files: Labelled, held_out: float, seed: int, where: Path, before: int = 0) -> tuple[Labelled, Labelled]:
    """Files in two parts, all but those held out, and those: by a hash of the name, which the seed changes.

    From 1 `held_out` is how many: those with the lowest hashes. So many they stay, and a new file may take the place of
    one of them. Below 1 it is a share: each file's own hash decides, so that a new file changes no other's side
    (`before`: as many shares have been held out). Files of the same bytes stand on one side, which the lowest of their
    hashes decides; so a copy may take its original with it. UserError where too much would be held out.
    """
    share = held_out < 1
    count = held_out * len(files) if share else held_out
    if not (0 < count <= len(files) // 2 and (share or held_out == int(held_out))):
        most = "half" if share else str(len(files) // 2)
        said = f"{len(files)} images are too few to hold out {held_out:g} (held_out): at most {most}"
        raise UserError(f"{where}: {said}")
    places = {file: place(f"{seed} {file.relative_to(where)}") for file, _ in files}
    sides: dict[Path, list[Path]] = {}  # files of the same bytes, by the first of them
    first = {file: min(same, key=places.__getitem__) for same in copies(list(places)) for file in same}
    for file in places:
        sides.setdefault(first.get(file, file), []).append(file)
    held: set[Path] = set()
    for file in sorted(sides, key=places.__getitem__):
        own = before * held_out <= places[file] < (before + 1) * held_out
        if own if share else len(held) + len(sides[file]) <= count:
            held.update(sides[file])
    kept = [item for item in files if item[0] not in held]
    if not held:
        raise UserError(f"{where}: held_out ({held_out:g}) holds out none of {len(files)} images: take more")
    if lost := {label for _, label in files} - {label for _, label in kept}:
        name = next(file.relative_to(where).parts[0] for file, label in files if label in lost)
        raise UserError(f"{where / name}: all images of this class would be held out (held_out {held_out:g})")
    return kept, sorted(item for item in files if item[0] in held)


def copies(files: Sequence[Path]) -> list[list[Path]]:
    """Those of the files that have the same bytes, together. What differs in size or in its end is not read whole."""
    groups = [list(files)]
    for about in (_size, partial(_digest, last=4096), _digest):
        alike: dict[Any, list[Path]] = {}
        for number, group in enumerate(groups):
            for file in group:
                alike.setdefault((number, about(file)), []).append(file)
        groups = [group for group in alike.values() if len(group) > 1]
    return groups


def say_copies(where: Path, files: Labelled, train: Path, trained: Labelled) -> None:
    """One line on stderr of how many files are byte for byte among those that are trained on."""
    seen = {file for file, _ in trained}
    same = [file for group in copies([file for file, _ in files + trained]) if seen & set(group) for file in group]
    if found := [file for file in same if file not in seen]:
        print(
            f"{where}: {len(found)} of {len(files)} images are copies of ones in {train}, {found[0]} among them",
            file=sys.stderr,
        )


def _size(path: Path) -> object:
    return path.stat().st_size if path.is_file() else path


def _digest(path: Path, last: int | None = None) -> object:
    """Of a file's bytes, or of its last ones. A file that cannot be read is like no other."""
    try:
        with path.open("rb") as file:
            if last is not None:
                file.seek(-min(last, path.stat().st_size), os.SEEK_END)
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return path


def on_disk(files: Sequence[tuple[Path | str, int]]) -> Pictures:
    """Files on disk. What stands for their content are names in the folder that holds them all, sizes and times of
    change: a folder that was moved, or is named in another way, holds the same."""
    paths = [Path(path) for path, _ in files]
    whole = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath({os.path.dirname(path) for path in whole}) if whole else ""
    digest = hashlib.sha256()
    for path, name in zip(paths, whole, strict=True):
        about = path.stat() if path.exists() else None  # a link to nowhere is left out when it is read
        digest.update(os.fsencode(f"{name[len(root) :]} {about and about.st_size} {about and about.st_mtime_ns}\n"))
    return Pictures(
        [label for _, label in files],
        partial(_read, paths),
        partial(_name, paths),
        digest.hexdigest(),
        os.path.realpath(root),
    )


def _read(paths: list[Path], row: int) -> bytes:
    try:
        return paths[row].read_bytes()
    except OSError as error:
        raise UserError(f"{paths[row]}: {error.strerror}") from None


def _name(paths: list[Path], row: int) -> str:
    return str(paths[row])
