"""Texts larger than memory: read in pieces, cut into tokens once, and kept as numbers that are mapped into memory.

A shard is a folder below `ZOO_DATA`/shards, named by the hash of what went into it (the files' bytes, the tokenizer,
what counts as a document). It holds `tokens.bin`, the ids one after the other, and `ends.bin`, where each document
ends. It is written beside its place and moved there whole. What a reading of the files has found is kept in
`shards`/read, so that files that nobody has touched since are read once.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from zoo.atomic import write_atomically
from zoo.data.files import data_folder, files_under, say_others, states_of, stream_text
from zoo.errors import UserError
from zoo.progress import bar
from zoo.text.tokens import Tokenizer

# What a document is: nothing (the files are one running text), a file, a line, or what stands between blank lines.
Documents = Literal["running", "files", "lines", "paragraphs"]
Pieces = Iterator[tuple[str, bool]]  # some text, and whether a document ends with it

PIECE = 1 << 20  # characters that are cut into tokens at a time
LEFT = 3600  # seconds after which what nobody has written to is nobody's
SETTLED = 2  # seconds after which another change of a file shows in its times, whatever they are rounded to


@dataclass(frozen=True)
class Source:
    """Text files, in order, that were read through once: the hash of their bytes, their characters."""

    files: tuple[Path, ...]
    documents: Documents
    sha256: str
    characters: int
    alphabet: str  # each character that occurs, sorted

    @classmethod
    def read(cls, path: Path, documents: Documents) -> "Source":
        """A file, or the .txt files of a folder and of those in it, in the order of their names; stderr says what else
        lies there, and how many are empty. Files whose sizes and times are those of a reading before are not read
        again. UserError names file and line of a fault."""
        path = Path(path)
        files = _texts_in(path) if path.is_dir() else [path]
        key = hashlib.sha256(json.dumps([os.path.abspath(path), documents]).encode()).hexdigest()[:24]
        kept, before, begun = data_folder() / "shards" / "read" / f"{key}.json", states_of(files), time.time_ns()
        if found := _found(kept, before):
            return cls(tuple(files), documents, **found)
        digest, count, alphabet = hashlib.sha256(), 0, set[str]()
        for piece, ends in _pieces(files, documents, "reading"):
            digest.update(piece.encode() + b"\0" * ends)
            count += len(piece)
            alphabet |= set(piece)
        found = {"sha256": digest.hexdigest(), "characters": count, "alphabet": "".join(sorted(alphabet))}
        if states_of(files) == before and all(begun - max(times) > SETTLED * 10**9 for _, _, *times in before):
            with suppress(OSError):  # a folder that others fill, say
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(kept, json.dumps({"files": before, "found": found}))
        return cls(tuple(files), documents, **found)

    def pieces(self, part: Literal["train", "held out"], held_out: float, doing: str) -> Pieces:
        """The text of a part: its last `held_out` share (in characters, whole documents) is held out."""
        begin = int(self.characters * (1 - held_out))
        pieces = _pieces(self.files, self.documents, doing)
        if self.documents == "running":
            yield from _between(pieces, *((0, begin) if part == "train" else (begin, None)))
            return
        done = document = 0  # characters so far, and where this document began
        for piece, ends in pieces:
            if (document < begin) == (part == "train"):
                yield piece, ends
            done += len(piece)
            document = done if ends else document


def _found(kept: Path, states: list[list[Any]]) -> dict[str, Any]:
    """What a reading of files in these states has found; nothing where there was none."""
    try:
        about = json.loads(kept.read_text())
        found = {name: about["found"][name] for name in ("sha256", "characters", "alphabet")}
        return found if states and about["files"] == states else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _texts_in(folder: Path) -> list[Path]:
    others: Counter[str] = Counter()
    every = files_under(folder, {".txt"}, others)
    if not every:
        raise UserError(f"{folder}: no .txt file here")
    say_others(folder, others, "texts (.txt)")
    empty = {file for file in every if file.is_file() and _blank(file)}
    if len(empty) == len(every):
        raise UserError(f"{folder}: every .txt file here is empty")
    if empty:
        print(f"{folder}: {len(empty)} empty files are left out, the first is {min(empty)}", file=sys.stderr)
    return [file for file in every if file not in empty]


def _blank(file: Path) -> bool:
    """Whether nothing but white space stands in a file: told by its first block, as a rule."""
    with file.open("rb") as raw:
        while block := raw.read(1 << 16):
            if block.decode("utf-8", errors="replace").removeprefix("\ufeff").strip():
                return False
    return True


def _pieces(files: Sequence[Path], documents: Documents, doing: str) -> Pieces:
    return _running(files, doing) if documents == "running" else _documents(files, documents, doing)


def _running(files: Sequence[Path], doing: str) -> Pieces:
    """All files as one text, a new line between two."""
    with _progress(files, doing) as shown:
        for number, file in enumerate(files):
            if number:
                yield "\n", False
            for piece in stream_text(file, advance=shown.update):
                yield piece, False


def _documents(files: Sequence[Path], documents: Documents, doing: str) -> Pieces:
    with _progress(files, doing) as shown:
        for file in files:
            pieces = stream_text(file, advance=shown.update)
            if documents == "files":
                for piece in pieces:
                    yield piece, False
                yield "", True
            else:
                lines = _lines(pieces)
                found = lines if documents == "lines" else _paragraphs(lines)
                yield from ((text, True) for text in found if text.strip())


def _progress(files: Sequence[Path], doing: str) -> Any:
    """A bar over the bytes of files."""
    total = sum(file.stat().st_size for file in files if file.is_file())
    return bar(doing=doing, unit="B", total=total, unit_scale=True)


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split("\n")
        yield from whole
    yield rest


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    held: list[str] = []
    for line in lines:
        if line.strip():
            held.append(line)
        elif held:
            yield "\n".join(held)
            held = []
    yield "\n".join(held)


def _between(pieces: Pieces, begin: int, end: int | None) -> Pieces:
    """Characters [begin, end) of a running text."""
    done = 0
    for piece, ends in pieces:
        part = piece[max(begin - done, 0) : None if end is None else max(end - done, 0)]
        done += len(piece)
        if part:
            yield part, ends


def at_words(pieces: Pieces, size: int = PIECE) -> Pieces:
    """The same text in pieces of at most `size` characters that begin with the space before a word, or a document.

    Byte-level BPE never joins what stands before such a space with it, so tokens are those of the whole text. A text
    that has no space for long is cut anyhow.
    """
    held: list[str] = []
    count = 0
    for piece, ends in pieces:
        held.append(piece)
        count += len(piece)
        if count <= size and not ends:
            continue
        text, begin = "".join(held), 0
        while len(text) - begin > size:
            cut = begin + _last_space(text[begin : begin + size])
            yield text[begin:cut], False
            begin = cut
        if ends:
            yield text[begin:], True
        held, count = ([], 0) if ends else ([text[begin:]], len(text) - begin)
    if count:
        yield "".join(held), False


def _last_space(text: str) -> int:
    """Where the last space that follows a word stands, in the last 10,000 characters; the end where there is none."""
    for at in range(len(text) - 1, max(len(text) - 10_000, 1), -1):
        if text[at] in " \n" and not text[at - 1].isspace():
            return at
    return len(text)


class Shard:
    """A shard opened: token ids on disk, of which only what is read is in memory. Other processes open it anew."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._open()

    def _open(self) -> None:
        about = json.loads((self.folder / "shard.json").read_text())
        self.ids = _mapped(self.folder / "tokens.bin", about["type"])
        self.ends = _mapped(self.folder / "ends.bin", "int64")

    def __getstate__(self) -> Path:
        return self.folder

    def __setstate__(self, folder: Path) -> None:
        self.folder = folder
        self._open()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> Tensor:
        return torch.from_numpy(self.ids[part].astype(np.int64))

    def cuts(self, begin: int, end: int) -> list[int]:
        """Where documents end within (begin, end)."""
        first, last = np.searchsorted(self.ends, (begin, end - 1), side="right")
        return [int(at) for at in self.ends[first:last]]

    def goes_on(self, at: int) -> bool:
        """Whether the token at `at` belongs to the document of the one before."""
        return at < len(self.ids) and not self.cuts(at - 1, at + 1)


def _mapped(path: Path, kind: str) -> np.ndarray:
    if not path.stat().st_size:  # nothing cannot be mapped
        return np.empty(0, dtype=kind)
    return np.memmap(path, dtype=kind, mode="r")


def shard(source: Source, part: Literal["train", "held out"], held_out: float, tokenizer: Tokenizer) -> Shard:
    """A part of a text as tokens: from the data folder, or cut now. A document stands between start and end."""
    identity = [
        source.sha256,
        source.documents,
        part,
        held_out,
        hashlib.sha256(tokenizer.to_json().encode()).hexdigest(),
    ]
    folder = data_folder() / "shards" / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]
    if not (folder / "shard.json").is_file():
        beside = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        shutil.rmtree(beside, ignore_errors=True)
        _sweep(folder.parent)
        beside.mkdir(parents=True)
        pieces = source.pieces(part, held_out, f"tokens ({part})")
        try:
            _write(beside, at_words(pieces), tokenizer, whole=source.documents != "running")
            beside.replace(folder)
        except OSError:
            if not (folder / "shard.json").is_file():  # else another process was quicker with the same
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return Shard(folder)


def _sweep(folder: Path) -> None:
    """Remove what runs that were killed have left half cut: of processes that are no more, and untouched for an hour,
    since those of another machine that shares the folder cannot be seen here, but write all the time."""
    for part in folder.glob("*.*.part"):
        try:
            touched = max(path.stat().st_mtime for path in (part, *part.iterdir()))
            if time.time() - touched > LEFT and not _runs(int(part.name.split(".")[-2])):
                shutil.rmtree(part)
        except (OSError, ValueError, OverflowError):  # gone meanwhile, or none of ours
            continue


def _runs(process: int) -> bool:
    if os.name == "nt":  # where a signal of 0 is no question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _write(folder: Path, pieces: Pieces, tokenizer: Tokenizer, *, whole: bool) -> None:
    """Tokens of all pieces; where documents are `whole`, each between start (where there is one) and end."""
    kind = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
    first = [tokenizer.start] if whole and tokenizer.has("start") else []
    count, begins = 0, True
    with (folder / "tokens.bin").open("wb") as tokens, (folder / "ends.bin").open("wb") as marks:
        while some := _batch(pieces):
            ends: list[int] = []
            for ids, (_, last) in zip(tokenizer.pieces([text for text, _ in some]), some, strict=True):
                row = [*(first if begins else []), *ids, *([tokenizer.end] if last else [])]
                np.asarray(row, dtype=kind).tofile(tokens)
                count, begins = count + len(row), last
                if last:
                    ends.append(count)
            np.asarray(ends, dtype="int64").tofile(marks)
    (folder / "shard.json").write_text(json.dumps({"type": kind, "tokens": count}))


def _batch(pieces: Pieces) -> list[tuple[str, bool]]:
    """The next pieces, some of them large or many small ones."""
    some: list[tuple[str, bool]] = []
    size = 0
    for piece in islice(pieces, 10_000):
        some.append(piece)
        size += len(piece[0])
        if size > 4 * PIECE:
            break
    return some
