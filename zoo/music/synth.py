"""Sound with nothing installed: a small additive synthesiser, and 16-bit WAV files.

Axes: n samples, p partials, c channels (left, right).

A note is a sum of partials whose strength falls with their number, the more so the softer it is struck; high partials
die away first. Drums are short bursts of filtered noise. A room (exponentially dying noise, Moorer 1979, section 3) is
folded in, and the sum is brought to one loudness below full scale: equal notes give equal samples.
"""

import io
import math
import shutil
import subprocess
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torchaudio.functional as sound
from torch import Tensor

from zoo.errors import UserError
from zoo.music.view import DRUMS, Heard

RATE = 22_050  # samples per second
PEAK = 0.89  # 1 dB below full scale
TAIL = 1.2  # seconds that the room goes on after the last note


class Voice(NamedTuple):
    """How a family of instruments sounds: partials, their fall, attack and release in seconds, decay a second."""

    partials: int
    fall: float
    attack: float
    release: float
    decay: float


PLUCKED = Voice(partials=10, fall=1.3, attack=0.004, release=0.12, decay=1.6)
ORGAN = Voice(partials=8, fall=1.1, attack=0.03, release=0.08, decay=0.0)
SOFT = Voice(partials=6, fall=1.6, attack=0.08, release=0.2, decay=0.15)


def voice_of(program: int) -> Voice:
    """General MIDI's groups: keys, chromatic percussion, guitars and basses decay; organs stand; others swell."""
    if program in range(16, 24):
        return ORGAN
    return PLUCKED if program < 40 or program in range(104, 120) else SOFT


def render(notes: Sequence[Heard], rate: int = RATE) -> Tensor:
    """Notes as sound, "c n" of two channels, in [-PEAK, PEAK]; silence where there are none."""
    last = max((note.begin + note.length for note in notes), default=0.0)
    dry = torch.zeros(2, math.ceil((last + TAIL) * rate))
    for note in notes:
        made = _drum(note, rate) if note.program == DRUMS else _tone(note, rate)
        begin = round(note.begin * rate)
        right = 0.35 + 0.3 * (note.pitch - 36) / 60  # low to the left, as a pianist hears it
        gains = torch.tensor([[1 - right], [right]]).clamp(0.2, 0.8)
        room = dry.shape[1] - begin
        dry[:, begin : begin + len(made)] += gains * made[:room]
    return level(reverb(dry, rate))


def _tone(note: Heard, rate: int) -> Tensor:
    voice = voice_of(note.program)
    frequency = 440 * 2 ** ((note.pitch - 69) / 12)
    t = torch.arange(math.ceil((note.length + voice.release) * rate)) / rate
    number = torch.arange(1, voice.partials + 1)
    number = number[number * frequency < 0.45 * rate]  # none that the rate cannot carry
    strength = note.velocity / 127
    amplitude = number ** -(voice.fall + 0.8 * (1 - strength))
    dying = torch.exp(-voice.decay * (0.6 + 0.4 * number.unsqueeze(-1)) * t)
    waves = torch.sin(2 * math.pi * frequency * number.unsqueeze(-1) * t)
    envelope = (t / voice.attack).clamp(max=1) * ((note.length + voice.release - t) / voice.release).clamp(0, 1)
    return strength * envelope * (amplitude.unsqueeze(-1) * dying * waves).sum(0)


def _drum(note: Heard, rate: int) -> Tensor:
    low = note.pitch in (35, 36, 41, 43, 45, 47, 48, 50)  # bass drums and toms; what is left hisses
    t = torch.arange(math.ceil(0.3 * rate)) / rate
    noise = torch.randn(len(t), generator=torch.Generator().manual_seed(note.pitch))
    strength = note.velocity / 127
    if low:
        thump = torch.sin(2 * math.pi * (50 + 1.2 * (note.pitch - 35)) * t * (1 + torch.exp(-30 * t)))
        return strength * torch.exp(-12 * t) * (thump + 0.1 * noise)
    hiss: Tensor = sound.highpass_biquad(noise, rate, min(4000.0 if note.pitch > 40 else 1200.0, 0.45 * rate))
    return 0.5 * strength * torch.exp(-25 * t) * hiss


def reverb(dry: Tensor, rate: int, share: float = 0.18) -> Tensor:
    """The sound with the answer of a small hall, of the same length."""
    t = torch.arange(round(TAIL * rate)) / rate
    noise = torch.randn(2, len(t), generator=torch.Generator().manual_seed(0))
    hall = sound.lowpass_biquad(noise * torch.exp(-5 * t), rate, min(5000.0, 0.45 * rate))
    hall = hall / hall.square().sum(-1, keepdim=True).sqrt()
    wet = sound.fftconvolve(dry, hall)[:, : dry.shape[1]]
    return (1 - share) * dry + share * wet


def level(x: Tensor) -> Tensor:
    """The loudest parts are rounded off, then the peak is brought to PEAK."""
    often = x.abs().flatten().sort().values[int(0.995 * (x.numel() - 1))]
    if often > 0:
        x = torch.tanh(0.6 * x / often)
    peak = x.abs().max()
    return x * (PEAK / peak) if peak > 0 else x


def wav_bytes(samples: Tensor, rate: int = RATE) -> bytes:
    """Samples "c n" in [-1, 1] as a 16-bit WAV file."""
    whole = (samples.clamp(-1, 1) * 32767).round().to(torch.int16)
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(len(whole))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(whole.T.contiguous().numpy().tobytes())
    return out.getvalue()


def find_fluidsynth(soundfont: Path) -> str:
    """The user's fluidsynth. UserError where it or the soundfont is missing."""
    if not soundfont.is_file():
        raise UserError(f"--soundfont {soundfont}: no such file")
    program = shutil.which("fluidsynth")
    if program is None:
        raise UserError("--soundfont needs the program fluidsynth, which is not installed; leave it out for zoo's own")
    return program


def fluidsynth(midi: Path, soundfont: Path, wav: Path) -> None:
    """A MIDI file as WAV by the user's fluidsynth. UserError where that cannot be done."""
    command = [find_fluidsynth(soundfont), "-ni", "-q", "-F", str(wav), "-r", "44100", str(soundfont), str(midi)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not wav.is_file():
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise UserError(f"fluidsynth failed: {last[0]}")
