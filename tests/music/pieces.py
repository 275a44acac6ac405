"""Small files in the format of the public sets, and random pieces that hold the grammar."""

import io
import json
import random
import tarfile
from pathlib import Path

import torch

from zoo.music.codec import Codec


def write_jsb(folder: Path, steps: int = 48, counts: dict[str, int] | None = None) -> None:
    """Chorales of random steps in the JSON of the public set: four voices, some silent, and frames unsorted."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(1)
    voices: dict[str, list[list[list[int]]]] = {}
    frames: dict[str, list[list[list[int]]]] = {}
    for split, count in (counts or {"train": 4, "valid": 2, "test": 2}).items():
        voices[split], frames[split] = [], []
        for _ in range(count):
            piece, now = [], [72, 64, 57, 48]
            for step in range(steps):
                if step % 4 == 0:
                    now = [draw.randint(low, low + 8) for low in (66, 58, 52, 44)]
                piece.append([-1 if step < 2 and voice == 3 else now[voice] for voice in range(4)])
            voices[split].append(piece)
            frames[split].append([draw.sample(range(43, 90), draw.choice([0, 3, 4, 4])) for _ in range(steps // 4)])
    (folder / "Jsb16thSeparated.json").write_text(json.dumps(voices))
    (folder / "jsb-chorales-quarter.json").write_text(json.dumps(frames))


def write_pop909(folder: Path, songs: int = 5) -> None:
    """An archive named and laid out as POP909's, of songs of a few notes in three tracks."""
    import symusic

    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(2)
    with tarfile.open(folder / "POP909.tar.xz", "w:xz") as archive:
        for number in range(1, songs + 1):
            score = symusic.Score(480)
            for name in ("MELODY", "BRIDGE", "PIANO"):
                track = symusic.Track(name=name)
                for beat in range(6):
                    track.notes.append(symusic.Note(480 * beat + draw.randint(0, 99), 300, draw.randint(50, 80), 90))
                score.tracks.append(track)
            for path, raw in (("mid", score.dumps_midi()), ("txt", b"0.0 1.0 C:maj\n")):
                entry = tarfile.TarInfo(f"POP909/{number:03}/{number:03}.{path}")
                entry.size = len(raw)
                archive.addfile(entry, io.BytesIO(raw))


def write_codec(folder: Path) -> None:
    """The run folder of a codec of random weights."""
    (folder / "checkpoints").mkdir(parents=True)
    codec = Codec(width=4, size=16, latent=8)
    (folder / "config.json").write_text(json.dumps({"kind": "Codec", "settings": codec.to_plain()}))
    state = {f"network.{name}": value for name, value in codec.state_dict().items()}
    torch.save({"state_dict": state}, folder / "checkpoints" / "last.ckpt")
