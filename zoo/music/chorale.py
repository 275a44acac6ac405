"""Chorales as tokens: four voices in series on a grid.

Axes: n time steps, four voices (soprano, alto, tenor, bass).

At every step each voice has one token, from the soprano down: a pitch (a note begins), a hold (its note goes on) or a
rest. So position in the sequence is position in time and voice: Huang et al. 2019, section 4.1. A piece is an array
"n 4" of pitches, HOLD and REST. Data without onsets (JSB's JSON) cannot tell a note that is struck again from one that
is held: `from_pitches` takes every repeat for a hold.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.music.view import NEVER, QUARTER, Grammar, Heard, TempoMap, View, check_steps, count_unread, off_grid, step_of

if TYPE_CHECKING:
    from symusic import Score

HOLD, REST = -1, -2
VOICES = ("soprano", "alto", "tenor", "bass")
ORGAN = 19  # the program that chorales are heard with


@dataclass(frozen=True)
class Range:
    """Pitches of a voice as MIDI numbers, both ends among them."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 127:
            raise ValueError(f"a range goes from a MIDI pitch up to another, got {self.low} to {self.high}")


@dataclass(frozen=True)
class Chorale(View):
    """Four voices in series, `steps` to a quarter note. Ranges are those of Bach's chorales in the public sets.

    Tokens: 0 rest, 1 hold, then a pitch each from the lowest of all ranges to the highest, then the end.
    """

    steps: int = 4
    soprano: Range = Range(60, 81)
    alto: Range = Range(52, 74)
    tenor: Range = Range(46, 69)
    bass: Range = Range(36, 66)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_steps(self.steps)

    @cached_property
    def ranges(self) -> tuple[Range, ...]:
        return self.soprano, self.alto, self.tenor, self.bass

    @cached_property
    def lowest(self) -> int:
        return min(r.low for r in self.ranges)

    @cached_property
    def vocab_size(self) -> int:
        return 2 + max(r.high for r in self.ranges) - self.lowest + 1 + 1

    @property
    def bar(self) -> int:
        """Time steps of a bar of four quarters."""
        return 4 * self.steps

    def encode(self, piece: np.ndarray) -> list[int]:
        flat = piece.reshape(-1)
        tokens = np.where(flat >= 0, flat - self.lowest + 2, np.where(flat == HOLD, 1, 0))
        return [*tokens.tolist(), self.end]

    def decode(self, tokens: Sequence[int]) -> np.ndarray:
        flat = np.array([t for t in tokens if t != self.end], dtype=np.int64)
        return np.where(flat >= 2, flat + self.lowest - 2, np.where(flat == 1, HOLD, REST)).reshape(-1, 4)

    def grammar(
        self, bars: int | None = None, tempo_map: TempoMap | None = None, melody: np.ndarray | None = None
    ) -> "Voices":
        """What may follow what; with a `melody` ("n", as the first column of a piece) the soprano sings that."""
        if melody is not None:
            return Voices(self, len(melody), len(melody), tuple(self.encode(melody)[:-1]))
        if bars is None:
            return Voices(self)
        steps = (tempo_map or TempoMap()).steps(bars, self.steps)
        return Voices(self, steps, steps)

    def transpose(self, piece: np.ndarray, shift: int) -> np.ndarray | None:
        moved = np.where(piece >= 0, piece + shift, piece)
        low, high = np.array([[r.low for r in self.ranges], [r.high for r in self.ranges]])
        return moved if bool(((moved < 0) | ((low <= moved) & (moved <= high))).all()) else None

    def shifts(self, piece: np.ndarray, most: int) -> list[int]:
        """The transpositions by at most `most` semitones that stay in range."""
        room = [(r.low - low, r.high - high) for r, (low, high) in zip(self.ranges, extremes(piece), strict=True)]
        return [s for s in range(-most, most + 1) if all(down <= s <= up for down, up in room)]

    def begins(self, tokens: Sequence[int]) -> list[int]:
        return list(range(0, len(tokens) - 1, 4 * self.steps))  # with a beat

    def count(self, tokens: Sequence[int]) -> tuple[int, int]:
        return sum(2 <= t < self.end for t in tokens), (len(tokens) - (tokens[-1] == self.end)) // 4

    def score(self, piece: np.ndarray, tempo_map: TempoMap | None = None) -> "Score":
        from symusic import Note, Score, Track

        tick = QUARTER // self.steps
        score = Score(QUARTER)
        (tempo_map or TempoMap()).write(score)
        for name, line in zip(VOICES, piece.T, strict=True):
            track = Track(name=name, program=ORGAN)
            for begin, length, pitch in notes(line):
                track.notes.append(Note(begin * tick, length * tick, pitch, 80))
            score.tracks.append(track)
        return score

    def tempo_map(self, score: "Score", counts: Counter[str] | None = None) -> TempoMap:
        return TempoMap.of(score, self.steps, counts)

    def heard(self, piece: np.ndarray, tempo_map: TempoMap | None = None) -> list[Heard]:
        seconds = (tempo_map or TempoMap()).seconds
        found = []
        for voice, line in enumerate(piece.T):
            for begin, length, pitch in notes(line):
                sounds, ends = seconds(begin / self.steps), seconds((begin + length) / self.steps)
                found.append(Heard(sounds, ends - sounds, pitch, 80, ORGAN, voice))
        return found

    def piece(self, score: "Score", counts: Counter[str] | None = None) -> np.ndarray:
        """Four tracks, named as the voices or in their order; where notes of a voice overlap the later one cuts."""
        counts = Counter() if counts is None else counts
        tracks = _melodic(score, counts)
        count_unread(score, counts)
        named = {t.name: t for t in tracks}
        if named.keys() <= set(VOICES) and len(named) == len(tracks):
            lines = [named.get(name) for name in VOICES]
        elif len(tracks) == 4:
            lines = list(tracks)
        else:
            raise ValueError(f"{len(tracks)} tracks with notes, a chorale has four voices, a track each")
        if not any(line is not None for line in lines):
            raise ValueError("no notes")
        columns = [
            [] if track is None else self._line(track, score.tpq, place, counts) for place, track in enumerate(lines)
        ]
        length = max(len(column) for column in columns)
        return np.array([column + [REST] * (length - len(column)) for column in columns], dtype=np.int64).T

    def melody(self, score: "Score", counts: Counter[str] | None = None) -> np.ndarray:
        """The first track with notes as a soprano, "n"; ValueError where it leaves the soprano's range.

        What had to be changed is added to `counts`.
        """
        counts = Counter() if counts is None else counts
        tracks = _melodic(score, counts)
        if not tracks:
            raise ValueError("no notes")
        counts["tracks left out"] += len(tracks) - 1
        count_unread(score, counts)
        return np.array(self._line(tracks[0], score.tpq, 0, counts), dtype=np.int64)

    def _line(self, track: "object", tpq: int, place: int, counts: Counter[str]) -> list[int]:
        allowed = self.ranges[place]
        line: list[int] = []
        last = -1
        for note in sorted(track.notes, key=lambda n: (n.start, n.pitch)):  # type: ignore[attr-defined]
            if not allowed.low <= note.pitch <= allowed.high:
                raise ValueError(
                    f"the {VOICES[place]} has pitch {note.pitch}, its range is {allowed.low} to {allowed.high}"
                )
            begin = step_of(note.start, self.steps, tpq)
            end = max(step_of(note.end, self.steps, tpq), begin + 1)
            counts["notes moved to the grid"] += off_grid(note, self.steps, tpq)
            counts["notes left out where two begin on one step"] += begin == last
            counts["notes cut by the next of their voice"] += last < begin < len(line)
            last = begin
            line = line[:begin] + [REST] * (begin - len(line)) + [note.pitch] + [HOLD] * (end - begin - 1)
        return line


class State(NamedTuple):
    """Voice to come, steps that are whole, which voices sound, whether anything sounds in this step and the last."""

    voice: int = 0
    steps: int = 0
    sounding: tuple[bool, ...] = (False,) * 4
    any_now: bool = False
    any_before: bool = False


@dataclass(frozen=True)
class Voices(Grammar[State]):
    """Each voice in its range; only what sounds is held; a piece ends with a whole step in which something sounds.

    (A silence at the end would be lost in MIDI.) `least` and `most` steps; `melody`: the soprano's tokens.
    """

    view: Chorale
    least: int = 1
    most: int = 10**6
    melody: tuple[int, ...] = ()

    @property
    def end(self) -> int:  # type: ignore[override]
        return self.view.end

    def begin(self) -> State:
        return State()

    def may(self, state: State) -> list[int]:
        view = self.view
        ends = state.voice == 0 and state.steps >= self.least and state.any_before
        may = [view.end] if ends else []
        if state.voice == 0 and state.steps >= self.most:
            return may
        if state.voice == 0 and self.melody:
            return [self.melody[state.steps]]
        if not (state.voice == 3 and state.steps + 1 == self.most and not state.any_now):
            may.append(0)
        if state.sounding[state.voice]:
            may.append(1)
        allowed = view.ranges[state.voice]
        return [*may, *range(allowed.low - view.lowest + 2, allowed.high - view.lowest + 3)]

    def step(self, state: State, token: int) -> State:
        sounds = token > 0
        sounding = (*state.sounding[: state.voice], sounds, *state.sounding[state.voice + 1 :])
        now = state.any_now or sounds
        if state.voice < 3:
            return State(state.voice + 1, state.steps, sounding, now, state.any_before)
        return State(0, state.steps + 1, sounding, False, now)

    def need(self, state: State) -> int:
        steps = state.steps
        if state.voice:  # this step can always be made to sound: its last voice is still to come
            return 4 - state.voice + 4 * max(self.least - steps - 1, 0) + 1
        whole = max(self.least - steps, 0 if state.any_before else 1)
        return NEVER if steps + whole > self.most else 4 * whole + 1

    def room(self, state: State) -> int:
        return 4 * (self.most - state.steps) - state.voice + 1


def _melodic(score: "Score", counts: Counter[str]) -> list[Any]:
    """The tracks with notes that are no drums."""
    tracks = [t for t in score.tracks if len(t.notes)]
    melodic = [t for t in tracks if not t.is_drum]
    counts["tracks left out"] += len(tracks) - len(melodic)
    return melodic


def from_pitches(steps: Sequence[Sequence[int]]) -> np.ndarray:
    """A piece from four pitches a step, negative where a voice is silent, without onsets: a repeat becomes a hold."""
    pitches = np.array(steps, dtype=np.int64)
    pitches = np.where(pitches < 0, REST, pitches)
    held = np.zeros_like(pitches, dtype=bool)
    held[1:] = (pitches[1:] == pitches[:-1]) & (pitches[1:] >= 0)
    return np.where(held, HOLD, pitches)


def sounding(piece: np.ndarray) -> np.ndarray:
    """What each voice sings at each step, "n 4": the pitch also while it is held, REST in silence."""
    out = piece.copy()
    for step in range(1, len(out)):
        out[step] = np.where(out[step] == HOLD, out[step - 1], out[step])
    return out


def notes(line: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Begin, length and pitch of every note of one voice "n"."""
    begin = 0
    while begin < len(line):
        last = begin + 1
        while last < len(line) and line[last] == HOLD:
            last += 1
        if line[begin] >= 0:
            yield begin, last - begin, int(line[begin])
        begin = last


def extremes(piece: np.ndarray) -> list[tuple[int, int]]:
    """Lowest and highest pitch of each voice; a silent voice fits everywhere."""
    lines = [line[line >= 0] for line in piece.T]
    return [(int(line.min()), int(line.max())) if len(line) else (127, 0) for line in lines]
