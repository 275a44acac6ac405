"""Folders of weights: reading them whole or not at all, writing them whole or not at all.

Weights are safetensors: one `model.safetensors`, or shards that `model.safetensors.index.json` lists. Nothing is
unpickled. A folder may hold `SHA256SUMS` (in the form of `sha256sum`), which is then checked; every folder that zoo
writes does.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo.errors import UserError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SUMS = "SHA256SUMS"
UNUSED = "unused.safetensors"  # what came with published weights and no output depends on
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.bin", "model.pt", "model.pth", "model.ckpt")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; UserError names a file that holds none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no settings, but {type(values).__name__}")
    return values


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, by name. UserError names the file that is missing, damaged or a pickle."""
    if (folder / WEIGHTS).is_file():
        return read_file(folder / WEIGHTS)
    if not (folder / INDEX).is_file():
        if pickled := [name for name in PICKLED if (folder / name).exists()]:
            raise UserError(
                f"{folder / pickled[0]}: a pickle, which could run code and is never opened; {WEIGHTS} is needed"
            )
        raise UserError(f"{folder}: holds no {WEIGHTS}")
    placed = read_json(folder / INDEX).get("weight_map")
    if not isinstance(placed, dict) or not all(isinstance(shard, str) for shard in placed.values()):
        raise UserError(f"{folder / INDEX}: holds no weight_map of names and files")
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(placed.values())):
        if not shard or Path(shard).name != shard:
            raise UserError(f"{folder / INDEX}: {shard!r} is not a file of this folder")
        if not (folder / shard).is_file():
            raise UserError(f"{folder / shard}: this shard is missing; {INDEX} names it")
        held = read_file(folder / shard)
        if absent := [name for name, where in placed.items() if where == shard and name not in held]:
            raise UserError(f"{folder / shard}: lacks {absent[0]!r}, which {INDEX} places there")
        tensors |= held
    return tensors


def read_file(path: Path) -> dict[str, Tensor]:
    """The tensors of one file; UserError where it holds none that can be opened."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not weights that can be opened ({error})") from None


def verify(folder: Path) -> None:
    """UserError names the file whose bytes are not those that `SHA256SUMS`, or the hub's cache, promises."""
    promised = {}
    if (folder / SUMS).is_file():
        for line in (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines():
            digest, _, name = line.partition("  ")
            if not re.fullmatch("[0-9a-f]{64}", digest) or Path(name).name != name:
                raise UserError(f"{folder / SUMS}: not a list of SHA-256 sums and files ({line[:80]!r})")
            promised[name] = digest
    for path in sorted(folder.glob("*.safetensors")):
        # in the hub's cache a file is a link to one that is named by its sum
        if path.is_symlink() and re.fullmatch("[0-9a-f]{64}", path.resolve().name):
            promised.setdefault(path.name, path.resolve().name)
    for name, digest in promised.items():
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: missing; {SUMS} names it")
        if sha256(folder / name) != digest:
            raise UserError(f"{folder / name}: damaged, its SHA-256 is not the one of {SUMS}; fetch or make it anew")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to write into that stands at `out`, with its `SHA256SUMS`, once all went well, and nowhere otherwise.

    UserError where something stands there already.
    """
    if out.exists():
        raise UserError(f"{out}: exists already; give a folder that does not, nothing is overwritten")
    beside = out.with_name(f"{out.name}.{os.getpid()}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        beside.mkdir()
        yield beside
        lines = [f"{sha256(path)}  {path.name}\n" for path in sorted(beside.iterdir())]
        (beside / SUMS).write_text("".join(lines), encoding="utf-8")
        beside.rename(out)
    except OSError as error:
        raise UserError(f"{out}: could not be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Into a file of safetensors."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        # "pt" is what readers of the format expect to find there
        save_file({name: t.detach().contiguous() for name, t in tensors.items()}, path, {"format": "pt"})
    except SafetensorError as error:
        raise UserError(f"{path}: could not be written ({error})") from None


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
