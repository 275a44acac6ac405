"""All 909 songs of POP909 through the events view: python experiments/music/pop909.py

Each file is put on the grid, spelled as tokens and read back; it must be the same, and once more after a way through
MIDI. What the grid costs is reported: errors of onsets and lengths, and notes that had to change. Writes
results/pop909.json.
"""

import json
import time
from collections import Counter

import numpy as np

from zoo.music import midi
from zoo.music.data import pop909_files
from zoo.music.tokens import Events
from zoo.progress import bar
from zoo.provenance import keep


def main() -> None:
    begin, view = time.time(), Events()
    counts: Counter[str] = Counter()
    same = Counter(tokens=0, midi=0)
    onsets, lengths, notes, tokens, files = [], [], 0, 0, 0
    for _, raw in bar(pop909_files(), "POP909", "file", total=909):
        song, losses = view.quantise(midi.parse(raw))
        spelled = view.encode(song)
        same["tokens"] += view.decode(spelled) == song
        same["midi"] += view.piece(view.score(song)) == song
        counts.update(losses.counts)
        onsets += losses.onsets
        lengths += losses.lengths
        files, notes, tokens = files + 1, notes + len(song.notes), tokens + len(spelled)
    onset, length = np.abs(onsets), np.abs(lengths)
    kept = {
        "view": view.to_plain(),
        "files": files,
        "identical": dict(same),
        "notes": {"read": len(onsets), "kept": notes},
        "tokens": tokens,
        "onset_error_quarters": {"mean": float(onset.mean()), "max": float(onset.max())},
        "length_error_quarters": {
            "mean": float(length.mean()),
            "99.9 %": float(np.quantile(length, 0.999)),
            "max": float(length.max()),
        },
        "changed": dict(counts),
    }
    keep(__file__, "pop909", begin, kept)
    print(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
