"""From a command to sound: train a little on the built-in harmony, write pieces, overwrite nothing."""

import io
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo.cli import main
from zoo.core.decode import Sampling
from zoo.errors import UserError
from zoo.music import midi
from zoo.music.chorale import HOLD, REST
from zoo.music.compose import harmonise, opening
from zoo.music.data import RuleHarmony
from zoo.music.events import Note, Song
from zoo.music.model import MusicLM
from zoo.music.tokens import Chorale, Events, Frames
from zoo.music.view import TempoMap

symusic = pytest.importorskip("symusic")
QUIET = ["--trainer.enable_progress_bar", "false"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps on the built-in harmony."""
    folder = tmp_path_factory.mktemp("music") / "run"
    stack = ["--model.stack.dim", "24", "--model.stack.depth", "1", "--model.stack.heads", "2"]
    data = ["--data", "RuleHarmony", "--data.train", "40", "--data.val", "2", "--data.test", "4"]
    steps = ["--trainer.accelerator", "cpu", "--trainer.max_steps", "8", "--model.optimizer.lr", "0.02"]
    given = ["--model", "Composing", *stack, "--model.stack.causal", "true", "--model.optimizer", "Muon"]
    assert main(["fit", *given, *data, *steps, *QUIET, "--run", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("windows", [[], ["--data.length", "40", "--data.tokens_per_batch", "40"]])
def test_its_loss_is_said_in_every_unit(run: Path, capsys: pytest.CaptureFixture[str], windows: list[str]) -> None:
    """Also where a batch holds nothing but a piece's later windows, which begin no note and no step."""
    assert main(["test", str(run), *windows, *QUIET]) == 0
    said = dict(line.split(": ") for line in capsys.readouterr().out.strip().splitlines())
    view, pieces = Chorale(steps=2), RuleHarmony(train=40, val=2, test=4).pieces("test")
    tokens = [view.encode(piece) for piece in pieces]
    notes, steps = np.array([view.count(one) for one in tokens]).sum(0)
    nats = float(said["nll"]) * sum(map(len, tokens))
    assert float(said["nll_step"]) == pytest.approx(nats / steps, rel=1e-5)
    assert float(said["nll_note"]) == pytest.approx(nats / notes, rel=1e-5)


def test_a_piece_is_midi_sound_and_picture(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "piece"
    assert main(["compose", str(run), "--bars", "2", "--seed", "3", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out.split() == [str(out.with_suffix(f".{kind}")) for kind in ("mid", "wav", "png")]
    view = Chorale(steps=2)
    piece = view.piece(midi.read(out.with_suffix(".mid")))
    assert view.grammar(2).walk(view.encode(piece)) is None
    with wave.open(io.BytesIO(out.with_suffix(".wav").read_bytes())) as file:
        assert file.getnframes() / file.getframerate() > 8 * 60 / 96
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    before = out.with_suffix(".wav").read_bytes()
    assert main(["compose", str(run), "--out", str(out)]) == 2
    assert "piece.mid exists already: give another name" in capsys.readouterr().err
    again = tmp_path / "again"
    assert main(["compose", str(run), "--bars", "2", "--seed", "3", "--out", str(again)]) == 0
    assert again.with_suffix(".wav").read_bytes() == before == out.with_suffix(".wav").read_bytes()


def test_without_a_name_it_takes_the_next_number(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "composed.png").write_bytes(b"mine")
    assert main(["compose", str(run), "--bars", "1"]) == 0
    assert (tmp_path / "composed-2.mid").is_file()
    assert (tmp_path / "composed.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("out", "base"),
    [("tune.mid", "tune"), ("op.1", "op.1"), ("", "composed"), (".", "composed"), ("folder/", "folder/composed")],
)
def test_out_is_a_name_or_a_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, base: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert main(["compose", str(run), "--bars", "1", "--out", out]) == 0
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {f"{base}.{kind}" for kind in ("mid", "wav", "png")}


def test_scores_that_are_no_numbers_are_said(run: Path) -> None:
    """From the first token on, and where they come later: a harmonisation is no common search."""
    loaded = zoo.load(run, kind=MusicLM)
    head, calls = loaded.model.head.forward, []

    def broken(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return head(x) * (float("nan") if len(calls) > late else 1.0)

    loaded.model.head.forward = broken  # type: ignore[method-assign]
    melody = np.array([60, HOLD, 62, HOLD, 64, HOLD, 65, HOLD])
    for late in (0, 5, 30):
        calls.clear()
        with pytest.raises(UserError, match="scores are not numbers"):
            harmonise(loaded.model, loaded.tokenizer, melody, sampling=Sampling(seed=1), particles=3)
        assert len(calls) == late + 1


def test_a_prompt_is_gone_on_with_and_a_melody_is_harmonised(run: Path, tmp_path: Path) -> None:
    view = Chorale(steps=2)
    start = np.array([(72, 64, 60, 48), (HOLD,) * 4, (71, 62, 59, 43), (HOLD,) * 4])
    midi.save(view, start, tmp_path / "start.mid")
    out = tmp_path / "longer"
    assert main(["compose", str(run), "--prompt", str(tmp_path / "start.mid"), "--bars", "1", "--out", str(out)]) == 0
    longer = view.piece(midi.read(out.with_suffix(".mid")))
    assert (longer[:4] == start).all()
    assert len(longer) == 8
    song = np.tile(start, (8, 1))  # four bars
    midi.save(view, song, tmp_path / "song.mid")
    given = ["compose", str(run), "--prompt", str(tmp_path / "song.mid"), "--bars", "2", "--prompt-bars", "1"]
    assert main([*given, "--out", str(tmp_path / "begun")]) == 0
    begun = view.piece(midi.read(tmp_path / "begun.mid"))
    assert (begun[:8] == song[:8]).all()
    assert len(begun) == 16
    assert not np.array_equal(begun, song[:16])
    made = symusic.Score(480)
    made.tracks.append(symusic.Track())
    for step, pitch in enumerate((67, 69, 71, 72)):
        made.tracks[0].notes.append(symusic.Note(480 * step, 480, pitch, 90))
    made.dump_midi(tmp_path / "melody.mid")
    out = tmp_path / "harmonised"
    assert main(["compose", str(run), "--melody", str(tmp_path / "melody.mid"), "--out", str(out)]) == 0
    piece = view.piece(midi.read(out.with_suffix(".mid")))
    assert piece[:, 0].tolist() == [67, HOLD, 69, HOLD, 71, HOLD, 72, HOLD]
    assert (piece[0] > 0).any()


def test_an_opening_is_what_so_many_bars_hold() -> None:
    events, frames = Events(), Frames()
    notes = [Note(48 * bar + step, 0, 60 + bar, 10, 2) for bar in range(3) for step in (0, 12, 40)]
    song = Song((3, 3, 3), (0,), (), tuple(notes))
    for bars, count in ((1, 3), (2, 6), (3, 9), (4, 9)):
        part = opening(events, events.encode(song), bars)
        assert events.decode(part).notes == tuple(notes[:count])
        assert len(events.decode(part).bars) == min(bars, 3)
    piece = [(60,), (), (62, 50), (64,)] * 3
    waltz = TempoMap(signatures=((0.0, 3, 4),))
    assert frames.decode(opening(frames, frames.encode(piece), 2)) == piece[:8]
    assert frames.decode(opening(frames, frames.encode(piece), 1, waltz)) == piece[:3]


@pytest.mark.parametrize(("given", "bars"), [("--melody", []), ("--prompt", ["--bars", "2"])])
def test_tempo_and_time_signature_are_those_of_the_music_given(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, bars: list[str]
) -> None:
    view, tempo_map = Chorale(steps=2), TempoMap(((0, 150), (2, 75)), ((0, 3, 4),))
    midi.save(
        view, np.array([(pitch, REST, REST, REST) for pitch in (72, *[HOLD] * 5)]), tmp_path / "waltz.mid", tempo_map
    )
    out = tmp_path / "out"
    assert main(["compose", str(run), given, str(tmp_path / "waltz.mid"), *bars, "--out", str(out)]) == 0
    assert "changed" not in capsys.readouterr().err
    written = midi.read(out.with_suffix(".mid"))
    assert view.tempo_map(written) == tempo_map
    length = len(view.piece(written))
    assert length == (12 if bars else 6)  # steps of two bars of 3/4, and of the melody
    with wave.open(str(out.with_suffix(".wav"))) as file:
        assert 0 < file.getnframes() / file.getframerate() - tempo_map.seconds(length / 2) < 1.3


def test_what_was_changed_of_a_melody_is_said(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = symusic.Score(480)
    made.time_signatures.append(symusic.TimeSignature(0, 11, 16))
    for notes in ([(0, 240, 67), (0, 240, 72), (100, 400, 74), (720, 240, 76)], [(0, 240, 60)]):
        made.tracks.append(symusic.Track())
        for note in notes:
            made.tracks[-1].notes.append(symusic.Note(*note, 80))
    made.dump_midi(tmp_path / "tune.mid")
    assert main(["compose", str(run), "--melody", str(tmp_path / "tune.mid"), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err.splitlines()[0] == (
        f"{tmp_path / 'tune.mid'} was changed to fit the model: 1 tracks left out, 1 notes moved to the grid, "
        "2 notes left out where two begin on one step, 1 unknown time signatures"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bars", "0"], "--bars must be at least 1"),
        (["--prompt", "none.mid"], "none.mid: no such file"),
        (["--prompt", "a.mid", "--melody", "b.mid"], "either --prompt"),
        (["--melody", "b.mid", "--bars", "2"], "--bars does not go with --melody"),
        (["--melody", "text.mid"], "text.mid: not MIDI"),
        (["--temperature", "-1"], r"temperature (-1.0) must be at least 0"),
        (["--temperature", "nan"], "temperature (nan) must be at least 0"),
        (["--seed", str(2**64)], f"seed ({2**64}) must be in"),
        (["--out", "none/piece"], "no folder none"),
        (["--soundfont", "none.sf2", "--bars", "1"], "--soundfont none.sf2: no such file"),
        (["--prompt", "long.mid", "--bars", "1"], "the prompt is longer than 1 bars"),
        (["--prompt-bars", "1"], "--prompt-bars says how much of --prompt is taken"),
        (["--prompt", "long.mid", "--bars", "1", "--prompt-bars", "2"], "more than the 1 bars of the piece"),
        (["--prompt", "long.mid", "--prompt-bars", "0"], "--prompt-bars must be at least 1"),
        (["--seeds", "1"], "did you mean '--seed'"),
    ],
)
def test_what_is_asked_for_wrongly_is_one_line(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.mid").write_text("text")
    midi.save(Chorale(steps=2), np.tile([[72, 64, 60, 48]], (16, 1)), Path("long.mid"))
    assert main(["compose", str(run), *options]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("composed*"))
