"""The synthesiser: right pitches, loud enough, no clipping, the same every time."""

import io
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.errors import UserError
from zoo.music.synth import PEAK, RATE, fluidsynth, level, render, wav_bytes
from zoo.music.view import Heard


@pytest.mark.parametrize("program", [0, 19, 48])
@pytest.mark.parametrize("pitch", [36, 60, 69, 96])
def test_a_note_has_its_pitch(program: int, pitch: int) -> None:
    sound = render([Heard(0.0, 1.0, pitch, 90, program)]).mean(0)[:RATE]
    spectrum = torch.fft.rfft(sound * torch.hann_window(len(sound))).abs()
    wanted = 440 * 2 ** ((pitch - 69) / 12)
    low, high = int(wanted / 1.35), int(wanted * 1.35) + 1
    assert abs(low + int(spectrum[low:high].argmax()) - wanted) <= max(2, 0.01 * wanted)


def test_what_the_rate_cannot_carry_is_not_heard_as_another_pitch() -> None:
    """4,186 Hz at 8,000 samples a second: it would sound at 3,814 Hz."""
    assert render([Heard(0.0, 0.2, 108, 90, 0)], rate=8000).abs().sum() == 0


@pytest.mark.parametrize("rate", [4000, 8000, 48_000])
@pytest.mark.parametrize(("pitch", "program"), [(60, 0), (42, 128)], ids=["tone", "hiss"])
def test_any_rate_gives_numbers_within_full_scale(rate: int, pitch: int, program: int) -> None:
    assert render([Heard(0.0, 0.2, pitch, 90, program)], rate).abs().max() == pytest.approx(PEAK, abs=1e-4)


def test_equal_notes_give_equal_samples_within_full_scale() -> None:
    notes = [Heard(0.1 * i, 0.4, 48 + i, 127, [0, 19, 48, 128][i % 4]) for i in range(40)]
    sound = render(notes)
    assert torch.equal(sound, render(notes))
    assert sound.abs().max() == pytest.approx(PEAK, abs=1e-4)
    assert sound.square().mean().sqrt() > 0.1  # loud enough
    quiet = [note._replace(velocity=20) for note in notes]
    assert render(quiet).abs().max() == pytest.approx(PEAK, abs=1e-4)


def test_velocity_length_and_place_are_heard() -> None:
    def energy(notes: list[Heard], a: float, b: float) -> float:
        return float(render(notes)[:, int(a * RATE) : int(b * RATE)].square().sum())

    two = [Heard(0.0, 0.3, 60, 120, 19), Heard(1.5, 0.3, 60, 30, 19)]
    assert energy(two, 0, 0.5) > 5 * energy(two, 1.5, 2.0) > 0
    assert energy(two, 0.0, 0.3) > 20 * energy(two, 1.2, 1.5)
    left, right = render([Heard(0, 0.5, 30, 80, 0)]).square().sum(-1)
    assert left > right
    assert render([]).abs().sum() == 0
    assert level(torch.zeros(2, 5)).abs().sum() == 0


def test_wav_holds_the_samples() -> None:
    sound = torch.stack((torch.linspace(-1, 1, 500), torch.linspace(1, -1, 500)))
    with wave.open(io.BytesIO(wav_bytes(sound))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (2, 2, RATE, 500)
        read = np.frombuffer(file.readframes(500), dtype="<i2").reshape(-1, 2).T / 32767
    assert np.abs(read - sound.numpy()).max() < 1e-4


def test_what_fluidsynth_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    font = tmp_path / "piano.sf2"
    with pytest.raises(UserError, match=r"--soundfont .*piano.sf2: no such file"):
        fluidsynth(tmp_path / "a.mid", font, tmp_path / "a.wav")
    font.write_bytes(b"")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="needs the program fluidsynth"):
        fluidsynth(tmp_path / "a.mid", font, tmp_path / "a.wav")
    fake = tmp_path / "fluidsynth"
    fake.write_text("#!/bin/sh\necho 'not a soundfont' >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(UserError, match="fluidsynth failed: not a soundfont"):
        fluidsynth(tmp_path / "a.mid", font, tmp_path / "a.wav")
    fake.write_text('#!/bin/sh\n/bin/cat > /dev/null < /dev/null\nprintf RIFF > "$4"\n')
    fluidsynth(tmp_path / "a.mid", font, tmp_path / "a.wav")
    assert (tmp_path / "a.wav").read_bytes() == b"RIFF"
