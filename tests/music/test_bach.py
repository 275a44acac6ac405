"""Bach's chorales as music21 brings them: onsets are told from holds, and what does not fit is named."""

import sys
from pathlib import Path

import numpy as np
import pytest

from zoo.errors import UserError
from zoo.music import bach
from zoo.music.chorale import HOLD, Chorale, sounding
from zoo.music.data import Music21Bach


def test_a_chorale_on_the_grid() -> None:
    corpus = pytest.importorskip("music21").corpus
    view, score = Chorale(), corpus.parse("bach/bwv66.6")
    piece = bach.grid(score, view)
    assert view.grammar().walk(view.encode(piece)) is None
    struck = [part.stripTies().flatten().notes for part in score.parts]
    assert (piece >= 0).sum(0).tolist() == list(map(len, struck))
    for voice, part in enumerate(struck):
        for note in part:
            at = round(float(note.offset) * 4)
            assert piece[at, voice] == note.pitch.midi
            assert sounding(piece)[at + round(float(note.quarterLength) * 4) - 1, voice] == note.pitch.midi
    repeated = (sounding(piece)[1:] == sounding(piece)[:-1]) & (piece[1:] != HOLD)
    assert repeated.any()  # what the JSON of the public set cannot tell
    with pytest.raises(ValueError, match="outside"):
        bach.grid(score.transpose(24), view)


def test_they_are_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("music21")
    some = [path for path in bach.files() if path.stem in ("bwv66.6", "bwv269", "bwv1.6", "bwv10.7", "bwv846")]
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    monkeypatch.setattr(bach, "files", lambda: some)
    first = Music21Bach()
    monkeypatch.setattr(bach, "collect", None)  # nothing is parsed again
    again = Music21Bach()
    assert first.manifest() == again.manifest()
    assert all(len(first.pieces(split)) == 1 for split in ("val", "test"))
    assert isinstance(first.pieces("train")[0], np.ndarray)


def test_without_music21_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    monkeypatch.setitem(sys.modules, "music21", None)
    with pytest.raises(UserError, match=r"needs music21: pip install 'transformer-zoo\[music\]'"):
        Music21Bach()
