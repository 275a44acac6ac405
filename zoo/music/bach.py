"""Bach's chorales as music21 bundles them, with onsets: its parser is slow, so callers keep what comes out."""

from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import UserError
from zoo.music.chorale import HOLD, REST, VOICES, Chorale
from zoo.music.midi import Collection
from zoo.progress import bar


def collect(view: Chorale) -> Collection:
    """Every chorale of four parts that fits the view's ranges; the others are named with the reason."""
    every = files()
    from music21 import corpus

    found = Collection()
    for path in bar(every, "music21", "file"):
        try:
            piece = grid(corpus.parse(path), view)
        except Exception as error:  # its parsers raise what they like, over files that are not the user's
            found.bad[path.name] = str(error).splitlines()[0] if str(error) else type(error).__name__
            continue
        found.add(path.name, piece, piece.tobytes())
    return found


def files() -> list[Path]:
    """Every score of Bach's that music21 brings; UserError where it is not installed."""
    try:
        from music21 import corpus
    except ImportError:
        raise UserError("this data needs music21: pip install 'transformer-zoo[music]'") from None
    return sorted(path for path in corpus.getComposer("bach") if path.suffix in (".xml", ".mxl", ".krn"))


def grid(score: Any, view: Chorale) -> np.ndarray:
    """A music21 score of four parts as the view's array; ties are held. ValueError where it does not fit."""
    parts = list(score.parts)
    if len(parts) != 4:
        raise ValueError(f"{len(parts)} parts, a chorale has 4")
    length = round(float(score.highestTime) * view.steps)
    piece = np.full((length, 4), REST)
    for place, part in enumerate(parts):
        allowed = view.ranges[place]
        for note in part.stripTies().flatten().notes:
            begin = round(float(note.offset) * view.steps)
            end = max(round(float(note.offset + note.quarterLength) * view.steps), begin + 1)
            pitch = max(p.midi for p in note.pitches)  # a divided voice: its upper note
            if not allowed.low <= pitch <= allowed.high:
                raise ValueError(f"the {VOICES[place]} has pitch {pitch}, outside {allowed.low} to {allowed.high}")
            piece[begin, place] = pitch
            piece[begin + 1 : end, place] = HOLD
    sounds = np.flatnonzero((piece != REST).any(1))
    if not len(sounds):
        raise ValueError("no notes")
    return piece[: sounds[-1] + 1]
