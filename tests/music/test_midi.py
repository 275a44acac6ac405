"""MIDI of strangers: every fault is one line that names the file, training goes on with the others or says why not."""

import re
import struct
import sys
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from zoo.cli import main
from zoo.errors import UserError
from zoo.music import midi
from zoo.music.data import MidiFolder, MidiPieces, pop909_files
from zoo.music.events import TEMPOS, Song
from zoo.music.midi import Collection
from zoo.music.tokens import Chorale, Events, Frames
from zoo.music.view import TempoMap, View

symusic = pytest.importorskip("symusic")


def score(notes: list[tuple[int, int, int]], *, ticks: int = 480, drums: bool = False) -> "symusic.Score":
    """One track of (begin, length, pitch) in ticks."""
    made = symusic.Score(ticks)
    track = symusic.Track(program=0, is_drum=drums)
    for begin, length, pitch in notes:
        track.notes.append(symusic.Note(begin, length, pitch, 80))
    made.tracks.append(track)
    return made


def scale(shift: int = 0, **more: int) -> bytes:
    return score([(240 * i, 240, 60 + shift + i) for i in range(16)], **more).dumps_midi()


def header(count: int = 0, division: int = 480) -> bytes:
    return b"MThd" + struct.pack(">IHHH", 6, 0, count, division)


def hours() -> bytes:
    return score([(0, 480, 60), (480 * 120 * 60 * 10, 480, 62)]).dumps_midi()


BAD = {
    "empty.mid": (b"", "the file is empty"),
    "text.mid": (b"this is a text file", "not MIDI (it does not begin with MThd)"),
    "header.mid": (header(), "no notes"),
    "truncated.mid": (scale()[:60], "damaged or cut short"),
    "malformed.mid": (header(1) + b"MTrk" + struct.pack(">I", 4000) + b"\x00\x90" * 10, "damaged or cut short"),
    "long.mid": (hours(), "10.0 hours long, a piece may have 1"),
    "again.mid": (scale(3), "the same piece as 3.mid"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "midi"
    (made / "below").mkdir(parents=True)
    for shift in range(12):
        (made / ("below" if shift % 2 else ".") / f"{shift}.mid").write_bytes(scale(shift))
    (made / "3.mid").write_bytes((made / "below" / "3.mid").read_bytes())
    (made / "below" / "3.mid").unlink()
    return made


def test_bad_files_are_named_and_the_others_train(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, (raw, _) in BAD.items():
        (folder / f"z-{name}").write_bytes(raw)
    data = MidiFolder(folder, bad_share=0.5, held_out=0.1)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out")]
    for name, (_, fault) in BAD.items():
        assert sum(line.startswith(f"left out: z-{name}: {fault}") for line in said) == 1
    assert len(said) == len(BAD)
    assert sum(len(data.pieces(split)) for split in ("train", "val", "test")) == 12
    assert len(list(data.train_dataloader())) > 0


def test_a_model_of_ones_files_begins_with_another(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tokens are taken where the class of data reads several, and weights of other tokens are refused."""
    short = ["--model", "Composing", "--trainer.max_steps", "1", "--trainer.accelerator", "cpu"]
    short += ["--trainer.enable_progress_bar", "false"]
    stack = {"dim": 16, "depth": 1, "heads": 2, "causal": "true"}
    small = [word for name, value in stack.items() for word in (f"--model.stack.{name}", str(value))]
    mine = ["--data", "MidiFolder", "--data.path", str(folder), "--data.length", "64"]
    fine = ["--data.view", "Events", "--data.view.steps", "24"]

    def fit(name: str, *given: str) -> int:
        return main(["fit", "--run", str(tmp_path / name), *given])

    assert fit("first", *short, *small, *mine, *fine) == 0
    begun = ["--init-from", str(tmp_path / "first"), *short]
    assert fit("second", *mine, *begun) == 0
    views = [(tmp_path / name / View.filename).read_text() for name in ("first", "second")]
    assert views[0] == views[1]
    assert "24" in views[0]
    capsys.readouterr()
    assert fit("held", *mine, "--data.view.pedal", "true", *begun) == 0  # the same tokens
    capsys.readouterr()
    assert fit("third", *mine, "--data.view.steps", "12", *begun) == 2
    assert "was trained on other tokens, Events(steps=24, pedal=False)" in capsys.readouterr().err
    (tmp_path / "first" / View.filename).unlink()
    assert fit("fourth", *mine, *begun) == 2
    assert "it has no music.json" in capsys.readouterr().err


def test_too_many_bad_files_stop_before_training(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, (raw, _) in BAD.items():
        (folder / f"z-{name}").write_bytes(raw)
    run = tmp_path / "run"
    data = ["--data", "MidiFolder", "--data.path", str(folder)]
    small = ["--model.stack.dim", "16", "--model.stack.depth", "1", "--model.stack.heads", "2"]
    code = main(["fit", "--model", "Composing", *small, "--model.stack.causal", "true", *data, "--run", str(run)])
    said = capsys.readouterr().err.splitlines()
    assert code == 2
    assert "6 of 19 files cannot be used, bad_share allows 20%; the first: z-empty.mid" in said[-1]
    assert not run.exists()


def test_the_share_of_bad_files_is_of_all_files() -> None:
    found = Collection(pieces=[1, 2, 3], bad={"a": "no notes"}, same={"b": "c"})
    midi.refuse_if_mostly_bad(found, 0.2, "here")
    found.bad["d"] = "no notes"
    with pytest.raises(UserError, match="2 of 6 files cannot be used, bad_share allows 20%; the first: a: no notes"):
        midi.refuse_if_mostly_bad(found, 0.2, "here")


def test_copies_of_a_piece_are_left_out_and_no_fault(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        (folder / f"z-{number}.mid").write_bytes((folder / "3.mid").read_bytes())
    data = MidiFolder(folder, bad_share=0)
    said = capsys.readouterr().err.splitlines()
    assert said[:4] == [f"left out: z-{number}.mid: the same piece as 3.mid on the grid" for number in range(4)]
    assert said[4].startswith("12 of 16 files read")
    assert sum(len(data.pieces(split)) for split in ("train", "val", "test")) == 12


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none", "no such folder"),
        (lambda folder: _only_text(folder), r"no MIDI file \(\.mid, \.midi\) here"),
    ],
)
def test_folders_without_midi(folder: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MidiFolder(make(folder))


def _only_text(folder: Path) -> Path:
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("a")
    return folder / "texts"


def test_pieces_stay_in_their_split_whatever_their_names(folder: Path) -> None:
    before = MidiFolder(folder).manifest()["sha256"]
    for path in list(folder.rglob("*.mid")):
        path.rename(folder / f"renamed-{path.stem}.midi")
    after = MidiFolder(folder)
    assert {split: sorted(map(tuple, map(after.view.encode, after.pieces(split)))) for split in before}  # all there
    parts = [set(map(tuple, map(after.view.encode, after.pieces(split)))) for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 12
    assert all(parts)
    few = folder / "few"
    few.mkdir()
    for shift in (1, 2):
        (few / f"{shift}.mid").write_bytes(scale(shift))
    with pytest.raises(UserError, match="2 pieces are too few"):
        MidiFolder(few)


def test_a_piece_keeps_its_side_whatever_others_come() -> None:
    view = Events()
    pieces = [view.piece(score([(240 * i, 240, 40 + shift + i % 3) for i in range(4 + shift)])) for shift in range(60)]

    def sides(count: int) -> dict[object, str]:
        found = MidiPieces(Collection([str(i) for i in range(count)], pieces[:count]), view, 0.2, 64, 0, 512, 1, 0)
        return {piece: split for split, part in found.parts.items() for piece in part}

    some, all_ = sides(40), sides(60)
    assert {piece: all_[piece] for piece in some} == some
    counts = Counter(all_.values())
    assert min(counts["val"], counts["test"]) >= 6
    assert counts["train"] > 24
    for count in range(3, 12):  # of a few, one each at least
        assert set(sides(count).values()) == {"train", "val", "test"}


@pytest.mark.parametrize("view", ["Chorale", "Frames"])
@pytest.mark.parametrize("steps", [0, -1, 7])
def test_a_grid_that_midi_does_not_have_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], view: str, steps: int
) -> None:
    stack = ["--model", "Composing", "--model.stack.dim", "8", "--model.stack.depth", "1", "--model.stack.heads", "1"]
    data = ["--data", "MidiFolder", "--data.path", str(folder), "--data.view", view, "--data.view.steps", str(steps)]
    assert main(["fit", *stack, "--model.stack.causal", "true", *data, "--run", str(folder / "run")]) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert f"steps ({steps}) of a quarter note must be at least 1 and divide its 480 MIDI ticks" in said


def test_codes_of_sound_are_not_read_from_midi(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack = ["--model", "Composing", "--model.stack.dim", "8", "--model.stack.depth", "1", "--model.stack.heads", "1"]
    data = ["--data", "MidiFolder", "--data.path", str(folder), "--data.view", "Codebooks"]
    assert main(["fit", *stack, "--model.stack.causal", "true", *data, "--run", str(folder / "run")]) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert "Codebooks are of sound" in said


def test_overlapping_and_empty_notes_are_counted() -> None:
    found, losses = Events().quantise(score([(0, 960, 60), (480, 480, 60), (480, 480, 60), (960, 0, 62), (0, 480, 64)]))
    assert [(n.begin, n.pitch, n.length) for n in found.notes] == [(0, 60, 12), (0, 64, 12), (12, 60, 12), (24, 62, 1)]
    assert losses.counts["notes that overlapped"] == 1
    assert losses.counts["notes that became one"] == 1
    assert losses.counts["notes of no length"] == 1


@pytest.mark.parametrize("view", [Events(), Frames(), Chorale()], ids=lambda v: type(v).__name__)
def test_a_finer_clock_says_the_same(view: Events | Frames | Chorale) -> None:
    def voices(ticks: int) -> "symusic.Score":
        made = symusic.Score(ticks)
        for low in (60, 55, 50, 40):
            made.tracks.append(score([(ticks * i, ticks, low + i) for i in range(6)], ticks=ticks).tracks[0])
        return made

    assert view.encode(view.piece(voices(480))) == view.encode(view.piece(voices(960)))


def test_time_signatures_change_the_bars() -> None:
    made = score([(480 * i, 480, 60 + i) for i in range(12)])
    for time, count, unit in ((0, 3, 4), (3 * 480, 2, 4), (7 * 480, 11, 16)):
        made.time_signatures.append(symusic.TimeSignature(time, count, unit))
    song, losses = Events().quantise(made)
    assert [Events().bar_steps(bar) // 12 for bar in song.bars] == [3, 2, 2, 4, 4]
    assert losses.counts["unknown time signatures"] == 1
    assert Events().grammar().walk(Events().encode(song)) is None


def test_tempos_of_events_that_were_moved_are_counted() -> None:
    made = score([(480 * i, 480, 60 + i) for i in range(8)])
    for time, qpm in ((0, 100), (960, 96), (961, 48), (1920, 48)):
        made.tempos.append(symusic.Tempo(time, qpm))
    song, losses = Events().quantise(midi.parse(made.dumps_midi()))
    assert losses.counts["tempos moved to the nearest"] == 1
    assert losses.counts["tempos left out where two begin on one step"] == 1
    assert midi.told(losses.counts).count(",") == 1
    assert Events().tempo_map(made) is None
    assert not midi.told(Events().quantise(midi.parse(Events().score(song).dumps_midi()))[1].counts)
    assert [(step, TEMPOS[place]) for step, place in song.tempos] == [(0, 101.71), (24, 48), (48, 48)]


@pytest.mark.parametrize("told", [((0, 192), (0, 48), (0, 96)), ((5, 96), (0, 192)), ((0, 192), (7, 48), (7, 96))])
def test_of_tempos_on_one_step_the_last_stays(told: tuple[tuple[int, float], ...]) -> None:
    made = score([(0, 480, 60)])
    for time, qpm in told:
        made.tempos.append(symusic.Tempo(time, qpm))
    for read in (made, midi.parse(made.dumps_midi())):
        song = Events().piece(read)
        assert [(step, TEMPOS[place]) for step, place in song.tempos] == [(0, 96)]


def test_a_tempo_map_says_when_ticks_sound_and_where_bars_end() -> None:
    made = score([(97 * i, 97, 60 + i) for i in range(60)])
    for time, qpm in ((300, 60), (1000, 150), (4321, 30)):
        made.tempos.append(symusic.Tempo(time, qpm))
    for time, *sign in ((0, 3, 8), (1440, 2, 2), (4000, 3, 8), (6000, 11, 16)):
        made.time_signatures.append(symusic.TimeSignature(time, *sign))
    found = TempoMap.of(made, 4)
    seconds = [note.start for note in made.to("second").tracks[0].notes]
    assert [found.seconds(note.start / 480) for note in made.tracks[0].notes] == pytest.approx(seconds, rel=1e-5)
    assert [found.steps(bars, 4) for bars in range(7)] == [0, 6, 12, 28, 44, 50, 66]
    counts: Counter[str] = Counter()
    assert TempoMap.of(made, 1, counts).steps(2, 1) == 8  # three eighths are no whole quarters: 4/4
    assert counts["unknown time signatures"] == 3


def test_percussion_alone_is_music_to_events_and_not_to_chorales() -> None:
    drums = score([(240 * i, 100, 36) for i in range(8)], drums=True)
    view = Events()
    song = view.piece(drums)
    assert song.programs == (128,)
    assert view.shifts(song, 5) == [0]
    assert view.piece(view.score(song)) == song
    for other in (Chorale(), Frames()):
        with pytest.raises(ValueError, match=r"no notes|0 tracks"):
            other.piece(drums)


def test_pedal_and_bends_are_counted_and_the_pedal_holds_where_it_is_asked_to() -> None:
    made = score([(0, 120, 60), (240, 120, 60), (480, 120, 64), (1920, 120, 62)])
    track = made.tracks[0]
    for tick, value in ((240, 127), (1200, 0), (1900, 127), (1910, 0)):
        track.controls.append(symusic.ControlChange(tick, 64, value))
    for tick, value in ((0, 0), (100, 500)):
        track.pitch_bends.append(symusic.PitchBend(tick, value))
    made = symusic.Score.from_midi(made.dumps_midi())
    for view in (Events(), Frames(), Chorale()):
        counts: Counter[str] = Counter()
        (view.melody if isinstance(view, Chorale) else view.piece)(made, counts)
        assert counts["presses of the sustain pedal left out"] == 2
        assert counts["pitch bends left out"] == 1
    counts = Counter()
    held = Events(pedal=True)
    song = held.piece(made, counts)
    assert counts["presses of the sustain pedal left out"] == 0
    assert counts["pitch bends left out"] == 1
    lengths = {(note.begin, note.pitch): note.length for note in song.notes}
    assert lengths == {(0, 60): 3, (6, 60): 24, (12, 64): 18, (48, 62): 3}
    assert held.piece(held.score(song)) == song
    assert held.decode(held.encode(song)) == song
    again = Events(pedal=True).piece(score([(0, 120, 60), (240, 120, 60)]))
    assert [note.length for note in again.notes] == [3, 3]  # no pedal, nothing held


def test_what_a_chorale_cannot_hold_is_said() -> None:
    with pytest.raises(ValueError, match="1 tracks with notes, a chorale has four voices"):
        Chorale().piece(score([(0, 480, 60)]))
    with pytest.raises(ValueError, match="the soprano has pitch 30, its range is 60 to 81"):
        Chorale().melody(score([(0, 480, 30)]))


def test_every_track_has_a_channel_of_its_own() -> None:
    """Fifteen melodic ones beside drums, in the file, on reading and in the grammar; a 16th would share the first's."""
    view = Events()
    made = symusic.Score(480)
    for number in range(18):
        made.tracks.append(score([(0, 480, 40 + number)], drums=number == 17).tracks[0])
        made.tracks[-1].program = number
    song, losses = view.quantise(made)
    assert song.programs == (*range(15), 128)
    assert losses.counts["tracks left out"] == 2
    assert view.piece(midi.parse(view.score(song).dumps_midi())) == song
    changes = re.findall(rb"\x00([\xc0-\xcf])(.)", view.score(song).dumps_midi(), re.DOTALL)
    assert len({channel for channel, _ in changes}) == len(changes) == 16
    tokens = view.encode(song)
    assert view.grammar().walk(tokens) is None
    with pytest.raises(ValueError, match=f"may not stand at place {len(tokens) - 5}"):
        view.grammar().walk(view.encode(Song(song.bars, (*range(16),), (), song.notes)))


def test_onset_errors_are_within_half_a_step() -> None:
    song, losses = Events().quantise(score([(i * 97, 60 + i, 40 + i) for i in range(60)]))
    assert max(map(abs, losses.onsets)) <= 0.5 / 12 + 1e-9
    assert len(losses.onsets) == len(song.notes) == 60


def test_without_symusic_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "symusic", None)
    with pytest.raises(UserError, match=r"pip install 'transformer-zoo\[music\]'"):
        midi.parse(b"MThd")


@pytest.mark.public
def test_songs_of_pop909_come_back_up_to_the_grid() -> None:
    """Twenty of the 909 (all: experiments/music/pop909.py): tokens and back is what the grid made of the file."""
    view = Events()
    for _, raw in islice(pop909_files(), 20):
        song = view.piece(midi.parse(raw))
        tokens = view.encode(song)
        assert view.decode(tokens) == song
        assert view.grammar().walk(tokens) is None
        assert view.piece(view.score(song)) == song
