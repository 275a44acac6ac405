"""Data of music: every token is predicted once, windows lie in their piece, and splits stay apart."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.music.pieces import write_jsb
from zoo.data import public
from zoo.music.chorale import HOLD, REST, from_pitches, sounding
from zoo.music.data import JSBChorales, Pieces, Windows
from zoo.music.events import Events, Note, Song
from zoo.music.tokens import Chorale, View


@pytest.fixture
def jsb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_jsb(tmp_path / "jsb_chorales")
    monkeypatch.setattr("zoo.data.public.fetch", lambda name, files=None: tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("grid", ["16th", "8th", "quarter"])
@pytest.mark.parametrize("length", [40, 97, 1000])
def test_every_token_is_a_label_once_and_sees_half_a_window(jsb: Path, grid: str, length: int) -> None:
    data = JSBChorales(grid, length=length, tokens_per_batch=300)
    view = data.view
    for piece in data.pieces("val"):
        tokens = view.encode(piece)
        held = Pieces(view, [piece], length)
        labels = {}
        for window, (_, begin, _) in enumerate(held.cuts):
            ids, right, *_ = held[0, window]
            assert len(ids) == len(right) == held.lengths[window] <= length
            for place, label in enumerate(right):
                assert ids[place] == (tokens[begin + place - 1] if begin + place else view.vocab_size)
                if label >= 0:
                    assert begin + place not in labels
                    labels[begin + place] = label
                    bar = max(np.diff(view.begins(tokens)), default=0)
                    assert place >= min(begin + place, length // 2 - bar)
        assert [labels[place] for place in range(len(tokens))] == tokens
        assert sum(np.array(held[0, w][2:]) for w in range(len(held))).tolist() == list(view.count(tokens))


def test_a_bar_that_is_longer_than_a_window_is_cut_within() -> None:
    view = Events()
    notes = [Note(48 * bar + step, 0, pitch, 10, 1) for bar in range(4) for step in range(48) for pitch in (60, 64, 67)]
    song = Song((3,) * 4, (0,), (), tuple(notes))
    total = len(view.encode(song))
    assert total > 4 * 256
    held = Pieces(view, [song], 256)
    assert len(held) <= 2 * total / 128
    assert {place for (_, begin, first), size in zip(held.cuts, held.lengths, strict=True)
            for place in range(first, begin + size)} == set(range(total))  # fmt: skip
    assert all(first - begin >= 128 for _, begin, first in held.cuts[1:])
    trained = Windows(view, [song], 256, 0, seed=1)
    seen = [trained[epoch, index][1] for epoch in range(60) for index in range(len(trained))]
    tokens = view.encode(song)
    assert {place for part in seen for place in range(total) if tokens[place : place + len(part)] == part
            for place in range(place, place + len(part))} == set(range(total))  # fmt: skip


def test_training_windows_are_transposed_pieces(jsb: Path) -> None:
    """Each is a part of some transposition of its piece; epochs differ, and (seed, epoch, index) says all."""
    data = JSBChorales("16th", length=64, transpose=3)
    view, pieces = data.view, data.pieces("train")
    windows = Windows(view, pieces, 64, 3, seed=1)
    assert max(view.shifts(pieces[0], 3)) > 0
    seen = set()
    for epoch in range(30):
        for index in range(len(windows)):
            ids, labels, *_ = windows[epoch, index]
            assert windows[epoch, index] == (ids, labels, *windows[epoch, index][2:])
            piece = pieces[windows.of[index]]
            whole = [view.encode(view.transpose(piece, s)) for s in view.shifts(piece, 3)]
            found = [
                (shift, b)
                for shift, tokens in enumerate(whole)
                for b in view.begins(tokens)
                if tokens[b : b + len(labels)] == labels and [view.vocab_size, *tokens][b] == ids[0]
            ]
            assert found
            assert ids[1:] == labels[:-1]
            seen.add((found[0][0], found[0][1], len(whole[0]) == found[0][1] + len(labels)))
    assert len({shift for shift, *_ in seen}) > 3
    assert any(begin == 0 for _, begin, _ in seen)
    assert any(last for *_, last in seen)


def test_a_repeat_is_held_and_voices_stay_in_range(jsb: Path) -> None:
    piece = JSBChorales("16th").pieces("train")[0]
    assert (piece[1, :3] == -1).all()  # the fixture changes notes every fourth step
    view = Chorale()
    for shift in view.shifts(piece, 12):
        moved = view.transpose(piece, shift)
        assert moved is not None
        assert view.transpose(moved, -shift) is not None
    outside = max(view.shifts(piece, 40)) + 1
    assert view.transpose(piece, outside) is None


def test_a_silence_that_goes_on_is_no_note_that_is_held() -> None:
    piece = from_pitches([[72, 64, -1, -1], [72, -1, -1, 48], [-1, -1, 57, 48], [72, 64, 57, 50]])
    assert piece.tolist() == [[72, 64, REST, REST], [HOLD, REST, REST, 48], [REST, REST, 57, HOLD], [72, 64, HOLD, 50]]


def test_batches_hold_what_the_network_reads(jsb: Path) -> None:
    data = JSBChorales("quarter", length=50, tokens_per_batch=120)
    for batch in data.train_dataloader():
        assert batch.keep.sum() <= 120
        assert torch.equal(batch.ids[:, 1:][batch.keep[:, 1:]], batch.labels[:, :-1][batch.keep[:, 1:]])
    with pytest.raises(ValueError, match=r"length \(0\)"):
        JSBChorales(length=0)


def test_a_view_comes_back_from_its_file(tmp_path: Path) -> None:
    view = Chorale(steps=2)
    (tmp_path / View.filename).write_text(view.content())
    assert View.load(tmp_path / View.filename) == view


@pytest.mark.public
def test_the_public_chorales() -> None:
    """Counts of the public files; 8ths are every second 16th; the quarters are another edition."""
    folder = public.fetch("jsb_chorales")
    eighths = json.loads((folder / "jsb-chorales-8th.json").read_text())
    data = {grid: JSBChorales(grid) for grid in ("16th", "8th", "quarter")}
    for split, count, steps in (("train", 229, 55_228), ("val", 76, 18_408), ("test", 77, 18_900)):
        for grid in data:
            pieces = data[grid].pieces(split)
            assert len(pieces) == count
            if grid == "16th":
                assert sum(map(len, pieces)) == steps
        ours = {
            tuple(tuple(sorted(set(step) - {REST})) for step in sounding(p).tolist()) for p in data["8th"].pieces(split)
        }
        theirs = {tuple(tuple(sorted(set(step))) for step in p) for p in eighths["valid" if split == "val" else split]}
        assert ours == theirs  # in another order
    whole = [piece for split in ("train", "val", "test") for piece in data["16th"].pieces(split)]
    assert len({tuple(data["16th"].view.encode(piece)) for piece in whole}) == len(whole)
