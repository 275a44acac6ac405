"""Small files in the format of the public sets, and random pieces that hold the grammar."""

import json
import random
from pathlib import Path


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
