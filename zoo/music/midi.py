"""MIDI files of strangers: read through symusic, each fault in one line that names the file."""

import sys
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.data.files import files_under
from zoo.errors import UserError
from zoo.music.view import TempoMap, View
from zoo.progress import bar

if TYPE_CHECKING:
    from symusic import Score

SUFFIXES = (".mid", ".midi")
LONGEST = 3600.0  # seconds of a piece
BIGGEST = 16 * 2**20  # bytes of a file


def parse(raw: bytes) -> "Score":
    """A MIDI file's bytes; ValueError says why it is none that can be used."""
    score_of = _library()
    if len(raw) > BIGGEST:
        raise ValueError(f"{len(raw) / 2**20:.0f} MiB, a file may have {BIGGEST // 2**20}")
    if not raw.startswith(b"MThd"):
        raise ValueError("not MIDI (it does not begin with MThd)" if raw else "the file is empty")
    try:
        score = score_of.from_midi(raw)
    except Exception as error:  # the library raises RuntimeError and others, by the fault
        raise ValueError(f"damaged or cut short ({str(error).splitlines()[0][:100]})") from None
    if score.tpq < 1:
        raise ValueError("its clock counts frames of film, not quarters")
    if not score.note_num():
        raise ValueError("no notes")
    seconds = score.to("second").end()
    if seconds > LONGEST:
        raise ValueError(f"{seconds / 3600:.1f} hours long, a piece may have {LONGEST / 3600:g}")
    return score


def _library() -> Any:
    try:
        from symusic import Score
    except ImportError:
        raise UserError("MIDI files need symusic: pip install 'transformer-zoo[music]'") from None
    return Score


def read(path: Path) -> "Score":
    """A MIDI file; UserError names it and the fault."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return parse(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


@dataclass(frozen=True)
class Collection:
    """Pieces that were read, with the names of their files; what was wrong with the others, and what reading cost.

    `same`: files that became a piece which is there already, and the file that it came from. They are no fault.
    """

    names: list[str] = field(default_factory=list)
    pieces: list[Any] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    seen: dict[Hashable, str] = field(default_factory=dict, repr=False)

    @property
    def total(self) -> int:
        """All files."""
        return len(self.pieces) + len(self.bad) + len(self.same)

    def add(self, name: str, piece: Any, spelled: Hashable) -> None:
        """The piece of a file; where one that is spelled alike is there, the file is among the `same`."""
        if spelled in self.seen:
            self.same[name] = self.seen[spelled]
            return
        self.seen[spelled] = name
        self.names.append(name)
        self.pieces.append(piece)

    def report(self) -> None:
        """On stderr: every file left out in a line, and how often notes had to be changed."""
        for name, fault in self.bad.items():
            print(f"left out: {name}: {fault}", file=sys.stderr)
        for name, first in self.same.items():
            print(f"left out: {name}: the same piece as {first} on the grid", file=sys.stderr)
        changed = told(self.counts)
        print(f"{len(self.pieces)} of {self.total} files read{f'; {changed}' if changed else ''}", file=sys.stderr)


def told(counts: Counter[str]) -> str:
    """What reading cost, in words; empty where it cost nothing."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def collect(files: Iterable[tuple[str, bytes]], view: View, total: int) -> Collection:
    """All files as pieces of a view, each piece once."""
    found = Collection()
    for name, raw in bar(files, "MIDI", "file", total=total):
        try:
            piece = view.piece(parse(raw), found.counts)
        except ValueError as error:
            found.bad[name] = str(error)
            continue
        found.add(name, piece, tuple(view.encode(piece)))
    return found


def paths(folder: Path) -> list[Path]:
    """The MIDI files of a folder and those below, in the order of their names."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    files = [path for path in files_under(folder, SUFFIXES, Counter()) if path.is_file()]
    if not files:
        raise UserError(f"{folder}: no MIDI file ({', '.join(SUFFIXES)}) here")
    return files


def refuse_if_mostly_bad(found: Collection, share: float, where: str) -> None:
    """UserError where more than `share` of the files cannot be used."""
    if len(found.bad) > share * found.total:
        name, fault = next(iter(found.bad.items()))
        raise UserError(
            f"{where}: {len(found.bad)} of {found.total} files cannot be used, bad_share allows {share:.0%}; "
            f"the first: {name}: {fault}"
        )


def save(view: View, piece: Any, path: Path, tempo_map: TempoMap | None = None) -> None:
    """A piece as a MIDI file."""
    _library()
    path.write_bytes(view.score(piece, tempo_map).dumps_midi())
