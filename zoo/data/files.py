"""Where data is kept, and reading text files that strangers wrote."""

import codecs
import gzip
import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from zoo.atomic import write_atomically
from zoo.errors import UserError

LONGEST = 100_000  # characters of a line


class InFolder:
    """Base of what lies in a model's folder as a file of that name, or of one of `others`."""

    filename: ClassVar[str]
    others: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def find(cls, folder: Path) -> Path | None:
        """Its file in a folder; None where there is none."""
        return next((folder / name for name in (cls.filename, *cls.others) if (folder / name).is_file()), None)

    def content(self) -> str:
        """What stands in its file."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Its file, into a model's folder."""
        write_atomically(folder / self.filename, self.content())

    @classmethod
    def named(cls) -> str:
        """The names that it may have, to be read."""
        return " or ".join((cls.filename, *cls.others))


def files_under(folder: Path, endings: Container[str], others: Counter[str]) -> list[Path]:
    """The files of a folder and of those in it that end so (".txt", in any case), in order; `others` counts the rest by
    their endings.

    What is hidden (.name, and __MACOSX, which archives of that system bring) is not looked at. Links to folders are
    followed, each folder once.
    """
    found = []
    for path in sorted(_walk(folder)):
        if path.suffix.lower() in endings:
            found.append(path)
        else:
            others[path.suffix.lower() or "no ending"] += 1
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """The files below a folder that are not hidden. A folder that links lead to as well is walked at its own place."""
    seen: set[str] = set()
    waiting = [str(folder)]
    while waiting:
        for here, folders, files in os.walk(waiting.pop(0)):
            real = os.path.realpath(here)
            folders[:] = [] if real in seen else sorted(name for name in folders if not _hidden(name))
            if real in seen:
                continue
            seen.add(real)
            yield from (Path(here, name) for name in files if not _hidden(name))
            links = (path for name in folders if os.path.islink(path := os.path.join(here, name)))
            waiting += [path for path in links if not Path(real).is_relative_to(os.path.realpath(path))]  # no circles


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def say_others(where: Path | str, others: Counter[str], what: str) -> None:
    """One line on stderr of what `files_under` has left out."""
    if others:
        said = ", ".join(f"{count} {ending}" for ending, count in others.most_common(5))
        print(f"{where}: {others.total()} files do not end as {what} do and are left out ({said})", file=sys.stderr)


def data_folder() -> Path:
    """`ZOO_DATA`, or the user's cache folder: fetched files and tokenizers stand there."""
    if given := os.environ.get("ZOO_DATA"):
        return Path(given)
    import pooch  # here: it is slow to import, and most that read files do not need it

    return Path(pooch.os_cache("zoo"))


def read_text(path: Path) -> str:
    """A UTF-8 text file (.gz is unpacked) as one text whose lines end in \\n; UserError as for `read_lines`."""
    return "\n".join(read_lines(path, longest=None))


def stream_text(
    path: Path, block: int = 1 << 20, advance: Callable[[int], object] = lambda count: None
) -> Iterator[str]:
    """`read_text` in pieces, so that the whole need never be in memory; `advance` is told how far the file was read.

    UserError as for `read_lines`, but for the length of lines, as soon as the fault is reached.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, held = 1, ""  # held: ends of lines that may be the text's last
    begun, blank = False, True
    with path.open("rb") as raw:
        file = gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw
        at = 0
        while True:
            try:
                found = file.read(block)
                text = held + decoder.decode(found, final=not found)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n") + held.count("\n")
                raise UserError(f"{path}, line {line}: not UTF-8 (byte {error.object[error.start]:#04x})") from None
            except (OSError, EOFError, zlib.error) as error:
                raise UserError(f"{path}: not gzip, or cut short ({error})") from None
            at, before = raw.tell(), at
            advance(at - before)
            if "\0" in text:
                line += text[: text.index("\0")].count("\n")
                raise UserError(f"{path}, line {line}: holds a NUL character")
            if text and not begun:
                text, begun = text.removeprefix("\ufeff"), True
            blank = blank and not text.strip()
            if found:
                keep = len(text.rstrip("\r\n"))
                text, held = text[:keep], text[keep:]
                line += text.count("\n")
            else:
                if blank:
                    raise UserError(f"{path}: the file is empty")
                text = text.removesuffix("\n").removesuffix("\r")
            if text:
                yield text.replace("\r\n", "\n")
            if not found:
                return


def read_lines(path: Path, longest: int | None = LONGEST, encoding: str = "utf-8") -> list[str]:
    """The lines of a text file (.gz is unpacked), without their ends; lines end at \\n or \\r\\n only.

    UserError names file and line: not in this encoding, a NUL, a line over `longest` characters; and an empty file.
    """
    raw = _bytes(path)
    lines = []
    for number, line in enumerate(raw.removesuffix(b"\n").split(b"\n"), 1):
        try:
            text = line.removesuffix(b"\r").decode(encoding)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise UserError(f"{path}, line {number}: not {encoding.upper()} (byte {byte:#04x})") from None
        if "\0" in text:
            raise UserError(f"{path}, line {number}: holds a NUL character")
        if longest is not None and len(text) > longest:
            raise UserError(f"{path}, line {number}: {len(text):,} characters, a line may have {longest:,}")
        lines.append(text.removeprefix("\ufeff") if number == 1 else text)
    return lines


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not gzip, or cut short ({error})") from None
    if not raw.strip():
        raise UserError(f"{path}: the file is empty")
    return raw


def separator_of(path: Path) -> str:
    """What stands between the cells of a table: a tab in .tsv, else a comma."""
    return "\t" if str(path).lower().removesuffix(".gz").endswith(".tsv") else ","


def states_of(files: Sequence[Path]) -> list[list[Any]]:
    """Of each file its name, size, and when it and what is noted of it were changed last, which copies that keep a
    file's time, and tools that set it, do not take over. Of one that is not there, nothing: reading says so."""
    states = ((file, file.stat()) for file in files if file.is_file())
    return [[os.path.abspath(file), of.st_size, of.st_mtime_ns, of.st_ctime_ns] for file, of in states]
