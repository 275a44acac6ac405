"""Four-part harmony written by a rule whose entropy is known: the built-in data of music.

A piece is a row of chords in a major key: degrees follow each other by a table, and a chord's voicing is drawn evenly
from those that fit the voices' ranges, keep every voice near where it was and make no parallel fifths or octaves, in
contrary motion neither. Now and then the soprano fills a third with the note between. Nothing else is left to chance,
so the likelihood of a piece under its own rule is a sum over the keys that it could be in: no model can expect a lower
loss.
"""

import math
import random
from functools import cache
from itertools import pairwise, product

import numpy as np

from zoo.music.chorale import HOLD, Chorale
from zoo.music.sense import FIFTH, OCTAVE, parallels

SCALE = (0, 2, 4, 5, 7, 9, 11)
# After a degree (row), which degree (column), out of 10: I ii iii IV V vi, as functional harmony has it.
FOLLOW = {
    0: {0: 1, 1: 2, 3: 3, 4: 3, 5: 1},
    1: {4: 8, 0: 2},
    3: {0: 3, 1: 2, 4: 5},
    4: {0: 7, 5: 3},
    5: {1: 4, 3: 4, 4: 2},
}
TRIADS = {degree: tuple(SCALE[(degree + third) % 7] for third in (0, 2, 4)) for degree in FOLLOW}
PASSING = 0.5  # how often a soprano that moves by a third fills it
NEAR = 4  # semitones that an upper voice may move; the bass may leap a fifth
Voicing = tuple[int, int, int, int]


@cache
def voicings(key: int, degree: int) -> tuple[Voicing, ...]:
    """Every voicing of a triad: root in the bass, all three notes in the upper voices, which do not cross."""
    view = Chorale()
    notes = {(key + pitch) % 12 for pitch in TRIADS[degree]}
    root = (key + SCALE[degree]) % 12
    # the middle of each voice's range
    ranges = [range(r.low + 2, r.high - 4) for r in view.ranges[:3]]
    upper = [[p for p in r if p % 12 in notes] for r in ranges]
    bass = [p for p in range(view.bass.low + 4, view.bass.high - 9) if p % 12 == root]
    return tuple(
        (s, a, t, b)
        for s, a, t, b in product(*upper, bass)
        if s > a > t > b and s - a <= 12 and a - t <= 12 and {s % 12, a % 12, t % 12} == notes
    )


@cache
def following(key: int, degree: int, before: Voicing) -> tuple[Voicing, ...]:
    """The voicings of a degree that may come after one; where all are too far, those that are nearest."""
    every = voicings(key, degree)
    apart = tuple(v for v in every if not parallels(before, v, FIFTH, OCTAVE, contrary=True)) or every
    good = tuple(v for v in apart if _near(before, v))
    if good:
        return good
    far = [sum(abs(a - b) for a, b in zip(before, v, strict=True)) for v in apart]
    return tuple(v for v, distance in zip(apart, far, strict=True) if distance == min(far))


def _near(before: Voicing, after: Voicing) -> bool:
    moves = [abs(a - b) for a, b in zip(before, after, strict=True)]
    return max(moves[:3]) <= NEAR and moves[3] <= 7


def _between(key: int, low: int, high: int) -> int | None:
    """The note of the scale inside a third; None where the voice does not move by a third."""
    if abs(low - high) not in (3, 4):
        return None
    inside = [p for p in range(min(low, high) + 1, max(low, high)) if (p - key) % 12 in SCALE]
    return inside[0] if len(inside) == 1 else None


def compose(draw: random.Random, chords: int, view: Chorale) -> np.ndarray:
    """One piece of `chords` quarters, as the view's array; it begins and ends on the first degree."""
    key = draw.randrange(12)
    degree = 0
    now = draw.choice(voicings(key, degree))
    rows = [now]
    for left in range(chords - 2, -1, -1):
        degree = draw.choices(*zip(*allowed(degree, left).items(), strict=True))[0]  # type: ignore[arg-type]
        now = draw.choice(following(key, degree, now))
        rows.append(now)
    fills = [_between(key, a[0], b[0]) is not None and draw.random() < PASSING for a, b in pairwise(rows)]
    piece = np.full((chords * view.steps, 4), HOLD)
    piece[:: view.steps] = rows
    for place, fill in enumerate(fills):
        if fill:
            piece[place * view.steps + view.steps // 2, 0] = _between(key, rows[place][0], rows[place + 1][0])
    return piece


@cache
def _ways(degree: int, left: int) -> bool:
    """Whether the first degree can be reached in exactly `left` more chords."""
    return degree == 0 if left == 0 else any(_ways(after, left - 1) for after in FOLLOW[degree])


def allowed(degree: int, left: int) -> dict[int, float]:
    """Chances of the next degree when `left` more chords come after it: those that still reach the first degree."""
    may = {after: weight for after, weight in FOLLOW[degree].items() if _ways(after, left)}
    total = sum(may.values())
    return {after: weight / total for after, weight in may.items()}


def nats(piece: np.ndarray, view: Chorale) -> float:
    """The negative log likelihood of a piece under the rule."""
    rows = [tuple(map(int, row)) for row in piece[:: view.steps]]
    fills = [int(step[0]) for step in piece[view.steps // 2 :: view.steps]]
    return -_log_sum([_log_in(key, rows, fills) - math.log(12) for key in range(12)])


def _log_in(key: int, rows: list[Voicing], fills: list[int]) -> float:
    """Log likelihood given the key. In a key a voicing is one degree's only, so nothing is summed over."""
    total, degree = 0.0, 0
    for place, row in enumerate(rows):
        if place == 0:
            choices = voicings(key, 0)
        else:
            left = len(rows) - 1 - place
            may = [d for d in allowed(degree, left) if row in voicings(key, d)]
            if not may:
                return -math.inf
            total += math.log(allowed(degree, left)[may[0]])
            degree, before = may[0], rows[place - 1]
            choices = following(key, degree, before)
        if row not in choices:
            return -math.inf
        total -= math.log(len(choices))
        after = rows[place + 1] if place + 1 < len(rows) else None
        fill = None if after is None else _between(key, row[0], after[0])
        if fill is None:
            if fills[place] >= 0:
                return -math.inf
        elif fills[place] >= 0 and fills[place] != fill:
            return -math.inf
        else:
            total += math.log(PASSING if fills[place] >= 0 else 1 - PASSING)
    return total


def _log_sum(values: list[float]) -> float:
    top = max(values)
    return top if top == -math.inf else top + math.log(sum(math.exp(v - top) for v in values))
