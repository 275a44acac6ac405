"""Measures of musical sense against what they count, by hand."""

from itertools import pairwise

import numpy as np
import pytest

from zoo.music import sense
from zoo.music.chorale import REST, Chorale

FIFTHS = np.array([[67, 64, 60, 48], [69, 65, 62, 50], [69, 65, 62, 50], [71, 67, 64, 52]])


def test_parallels_are_counted_where_both_move() -> None:
    def count(piece: np.ndarray, interval: int) -> int:
        return sum(sense.parallels(*move, interval) for move in pairwise(piece.tolist()))

    assert count(FIFTHS, sense.FIFTH) == 4  # soprano with tenor and with bass, twice
    assert count(FIFTHS, sense.OCTAVE) == 2  # tenor with bass
    assert count(FIFTHS[1:3], sense.FIFTH) == 0
    silent = FIFTHS.copy()
    silent[:, 0] = REST
    assert count(silent, sense.FIFTH) == 0
    draw = np.random.default_rng(0)
    for _ in range(50):
        two = draw.integers(40, 80, (2, 4)).tolist()
        moved = [(a, b) for a in range(4) for b in range(a) if two[0][a] != two[1][a] and two[0][b] != two[1][b]]
        apart = [{(chord[b] - chord[a]) % 12 for chord in two} for a, b in moved]
        assert sense.parallels(*two, sense.FIFTH, sense.OCTAVE) == sum(one in ({0}, {7}) for one in apart)


def test_crossings_spans_and_chords() -> None:
    piece = np.array([[60, 64, 55, 48], [67, 64, 55, REST], [67, 64, 70, 48], [67, 64, 60, 48]])
    assert sense.crossing(piece) == 0.5
    assert sense.span(piece) == [7, 0, 15, 0]
    found = sense.chords([piece])
    assert found[(0, 4, 7)] == 2
    assert found.total() == 4
    assert sense.overlap(found, found) == pytest.approx(1)
    assert sense.overlap(found, sense.chords([np.where(piece < 0, piece, piece + 2)])) == pytest.approx(
        1
    )  # whatever the key
    assert sense.overlap(found, sense.chords([np.array([[61, 60, 59, 58]])])) == 0


def test_similarity_of_what_is_repeated() -> None:
    draw = np.random.default_rng(0)
    bar = draw.integers(40, 80, (16, 4))
    piece = np.concatenate([bar, bar + 1, bar, bar + 1])
    assert sense.similarity(piece, 32) == 1
    assert sense.similarity(piece, 16) == 0
    measured = sense.measure([piece], Chorale().bar, sense.chords([piece]))
    assert measured["bars"] == 4
    assert measured["self-similarity by bars"] == {1: 0.0, 2: 1.0, 3: 0.0}
