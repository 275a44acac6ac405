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


@pytest.mark.parametrize(
    ("before", "after", "counts"),  # of two voices: fifths and octaves; then with those in contrary motion
    [
        ((67, 60), (69, 62), (1, 0, 1, 0)),
        ((60, 67), (62, 69), (1, 0, 1, 0)),  # crossed voices: a fifth is a fifth
        ((60, 65), (62, 67), (0, 0, 0, 0)),  # and a fourth a fourth
        ((67, 60), (62, 69), (0, 0, 1, 0)),  # a fifth again, the other voice above: each moves its own way
        ((60, 67), (70, 75), (0, 0, 0, 0)),  # a fifth, then a fourth
        ((67, 60), (81, 62), (1, 0, 1, 0)),  # a twelfth: over an octave
        ((67, 60), (76, 57), (0, 0, 1, 0)),  # the same in contrary motion
        ((72, 60), (74, 62), (0, 1, 0, 1)),
        ((60, 60), (62, 62), (0, 1, 0, 1)),  # in unison
        ((72, 60), (77, 53), (0, 0, 0, 1)),  # an octave, then two, apart
        ((67, 60), (67, 60), (0, 0, 0, 0)),
        ((72, 60), (72, 48), (0, 0, 0, 0)),  # one stays
        ((67, 60), (72, 60), (0, 0, 0, 0)),
    ],
)
def test_parallels_by_hand(before: tuple[int, int], after: tuple[int, int], counts: tuple[int, ...]) -> None:
    every = [
        sense.parallels((*before, REST, REST), (*after, REST, REST), interval, contrary=contrary)
        for contrary in (False, True)
        for interval in (sense.FIFTH, sense.OCTAVE)
    ]
    assert every == list(counts)
    # whichever two of the four voices they are
    low = [sense.parallels((REST, before[0], REST, before[1]), (REST, after[0], REST, after[1]), i) for i in (7, 0)]
    assert low == list(counts[:2])


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
