"""Musical sense in numbers: what one would count to tell a chorale from noise.

Axes: n time steps, four voices (soprano, alto, tenor, bass). Pieces are what sounds at each step, "n 4", REST in
silence (zoo/music/chorale.py, `sounding`).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from zoo.music.chorale import REST

PAIRS = [(high, low) for low in range(1, 4) for high in range(low)]  # of voices: they may cross
FIFTH, OCTAVE = 7, 0  # semitones, over any octaves


def parallels(before: Sequence[int], after: Sequence[int], *intervals: int, contrary: bool = False) -> int:
    """Pairs of voices that move in the same direction and keep one of `intervals` between them, whichever is higher,
    from four pitches to the next four; what is negative is silent. `contrary`: in opposite directions counts too."""
    count = 0
    for one, other in PAIRS:
        if min(before[one], before[other], after[one], after[other]) < 0:
            continue
        motion = (after[one] - before[one]) * (after[other] - before[other])
        apart, then = (abs(chord[one] - chord[other]) % 12 for chord in (before, after))
        count += (motion > 0 or (contrary and motion < 0)) and apart == then and apart in intervals
    return count


def crossing(piece: np.ndarray) -> float:
    """The share of steps at which a voice sounds below the next lower one."""
    return float(((piece[:, :-1] < piece[:, 1:]) & (piece[:, :-1] >= 0) & (piece[:, 1:] >= 0)).any(1).mean())


def span(piece: np.ndarray) -> list[int]:
    """Semitones from the lowest to the highest pitch of each voice; 0 for a silent one."""
    lines = [line[line >= 0] for line in piece.T]
    return [int(line.max() - line.min()) if len(line) else 0 for line in lines]


def chords(pieces: Iterable[np.ndarray]) -> Counter[tuple[int, ...]]:
    """How often each chord is struck: its pitch classes above the lowest note, whatever the key."""
    found: Counter[tuple[int, ...]] = Counter()
    for piece in pieces:
        last = None
        for step in piece.tolist():
            pitches = [p for p in step if p != REST]
            if pitches and pitches != last:
                found[tuple(sorted({(p - min(pitches)) % 12 for p in pitches}))] += 1
            last = pitches
    return found


def overlap(one: Counter[tuple[int, ...]], other: Counter[tuple[int, ...]]) -> float:
    """The common part of two distributions of chords: 1 where they are equal, 0 where they share none."""
    totals = one.total(), other.total()
    return sum(min(one[chord] / totals[0], other[chord] / totals[1]) for chord in one.keys() & other.keys())


def similarity(piece: np.ndarray, lag: int) -> float:
    """The share of (step, voice) that sound the same pitch class `lag` steps later, in a piece longer than that."""
    a, b = piece[:-lag], piece[lag:]
    return float(((a % 12 == b % 12) & (a >= 0) & (b >= 0)).mean())


def measure(pieces: Sequence[np.ndarray], bar: int, reference: Counter[tuple[int, ...]]) -> dict[str, object]:
    """All of the above over pieces whose bars have `bar` steps; chords are compared with `reference`."""
    bars = sum(map(len, pieces)) / bar
    moves = [move for piece in pieces for move in pairwise(piece.tolist())]
    long = {lag: [piece for piece in pieces if len(piece) > lag * bar] for lag in range(1, 9)}
    return {
        "pieces": len(pieces),
        "bars": bars,
        "parallel fifths a bar, similar motion": sum(parallels(*move, FIFTH) for move in moves) / bars,
        "parallel octaves a bar, similar motion": sum(parallels(*move, OCTAVE) for move in moves) / bars,
        "steps with a voice crossing": float(np.mean([crossing(piece) for piece in pieces])),
        "span of the voices, semitones": np.mean([span(piece) for piece in pieces], axis=0).tolist(),
        "overlap of chords with the test set": overlap(chords(pieces), reference),
        "self-similarity by bars": {
            lag: float(np.mean([similarity(piece, lag * bar) for piece in some])) for lag, some in long.items() if some
        },
    }
