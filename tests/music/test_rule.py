"""The built-in harmony: its likelihood is that of the rule, exactly."""

import math
import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from zoo.music import rule
from zoo.music.chorale import Chorale, sounding
from zoo.music.data import RuleHarmony
from zoo.music.sense import FIFTH, OCTAVE, parallels

VIEW = Chorale(steps=2)


def test_likelihoods_of_all_pieces_sum_to_one() -> None:
    """Every piece of three chords that the rule can write: counted out, their probabilities are a distribution."""
    drawn = {}
    draw = random.Random(0)
    for _ in range(25_000):
        piece = rule.compose(draw, 3, VIEW)
        drawn[piece.tobytes()] = piece
    total = sum(math.exp(-rule.nats(piece, VIEW)) for piece in drawn.values())
    assert 0.8 < total <= 1 + 1e-9  # the rarest were not drawn
    doubled = next(iter(drawn.values())).copy()
    doubled[2] = doubled[0] + 1  # what the rule cannot write
    assert rule.nats(doubled, VIEW) == math.inf


def test_frequencies_are_what_the_likelihood_says() -> None:
    draw = random.Random(0)
    count = Counter(rule.compose(draw, 2, VIEW).tobytes() for _ in range(20_000))
    for raw, times in count.most_common(20):
        piece = np.frombuffer(raw, dtype=np.int64).reshape(-1, 4)
        share = math.exp(-rule.nats(piece, VIEW))
        assert times / 20_000 == pytest.approx(share, abs=4 * math.sqrt(share / 20_000))


def test_pieces_are_harmony() -> None:
    draw, near = random.Random(1), list[int]()
    for _ in range(50):
        piece = rule.compose(draw, 16, VIEW)
        assert VIEW.transpose(piece, 0) is not None  # in range
        chords = [tuple(row) for row in piece[:: VIEW.steps].tolist()]
        assert all(s > a > t > b for s, a, t, b in chords)
        assert (sounding(piece) > 0).all()
        near += [max(abs(x - y) for x, y in zip(a[:3], b[:3], strict=True)) for a, b in pairwise(chords)]
        assert not any(parallels(a, b, FIFTH, OCTAVE, contrary=True) for a, b in pairwise(chords))
    assert sum(move <= rule.NEAR for move in near) > 0.9 * len(near)


def test_parallels_against_the_definition() -> None:
    assert parallels((67, 64, 60, 48), (69, 65, 62, 50), FIFTH, OCTAVE) == 3  # fifths over tenor and bass, their octave
    assert parallels((67, 64, 60, 48), (67, 64, 60, 48), FIFTH, OCTAVE) == 0
    assert parallels((67, 64, 60, 48), (65, 62, 59, 55), FIFTH, OCTAVE) == 0


def test_splits_are_apart_and_the_best_loss_is_theirs() -> None:
    data = RuleHarmony(chords=8, train=200, val=20, test=20)
    seen = [piece.tobytes() for split in ("train", "val", "test") for piece in data.pieces(split)]
    assert len(set(seen)) == 240
    tokens = 20 * (8 * 2 * 4 + 1)
    assert data.best("test") * tokens == pytest.approx(sum(rule.nats(p, data.view) for p in data.pieces("test")))
    assert RuleHarmony(chords=8, train=200, val=20, test=20).manifest() == data.manifest()
    with pytest.raises(ValueError, match=r"chords \(3\)"):
        RuleHarmony(chords=3)
