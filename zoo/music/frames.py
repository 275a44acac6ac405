"""Piano-roll frames as tokens: which of 88 keys sound at each time step, without voices and onsets.

A frame is its keys from the highest down and one token that closes it, so a frame has one spelling and its probability
is the product of its tokens': nats per time step are then those of the 88-key frame (Boulanger-Lewandowski et al.
2012).
A piece is a list of frames, each a tuple of MIDI pitches from the highest down.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from zoo.music.view import QUARTER, Grammar, Heard, TempoMap, View, check_steps, count_unread, off_grid, step_of

if TYPE_CHECKING:
    from symusic import Score

LOW, HIGH = 21, 108  # the keys of a piano
CLOSE = HIGH - LOW + 1
Frame = tuple[int, ...]


@dataclass(frozen=True)
class Frames(View):
    """Frames of 88 keys, `steps` to a quarter note. Tokens: a key each, from the lowest, then close, then the end."""

    steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_steps(self.steps)

    @property
    def vocab_size(self) -> int:
        return CLOSE + 2

    def encode(self, piece: list[Frame]) -> list[int]:
        return [token for frame in piece for token in (*(p - LOW for p in frame), CLOSE)] + [self.end]

    def decode(self, tokens: Sequence[int]) -> list[Frame]:
        piece: list[Frame] = []
        keys: list[int] = []
        for token in tokens:
            if token < CLOSE:
                keys.append(token + LOW)
            elif token == CLOSE:
                piece.append(tuple(keys))
                keys = []
        return piece

    def grammar(self, bars: int | None = None, tempo_map: TempoMap | None = None) -> "Descending":
        if bars is None:
            return Descending()
        steps = (tempo_map or TempoMap()).steps(bars, self.steps)
        return Descending(steps, steps)

    def transpose(self, piece: list[Frame], shift: int) -> list[Frame] | None:
        moved = [tuple(p + shift for p in frame) for frame in piece]
        return moved if all(LOW <= p <= HIGH for frame in moved for p in frame) else None

    def shifts(self, piece: list[Frame], most: int) -> list[int]:
        """The transpositions by at most `most` semitones that stay on the piano."""
        pitches = [p for frame in piece for p in frame]
        return [s for s in range(-most, most + 1) if min(pitches) + s >= LOW and max(pitches) + s <= HIGH]

    def begins(self, tokens: Sequence[int]) -> list[int]:
        return [0, *(place + 1 for place, token in enumerate(tokens[:-2]) if token == CLOSE)]

    def count(self, tokens: Sequence[int]) -> tuple[int, int]:
        return sum(t < CLOSE for t in tokens), sum(t == CLOSE for t in tokens)

    def score(self, piece: list[Frame], tempo_map: TempoMap | None = None) -> "Score":
        from symusic import Note, Score, Track

        tick = QUARTER // self.steps
        score = Score(QUARTER)
        (tempo_map or TempoMap()).write(score)
        track = Track(name="piano", program=0)
        for step, frame in enumerate(piece):
            for pitch in frame:
                track.notes.append(Note(step * tick, tick, pitch, 80))
        score.tracks.append(track)
        return score

    def tempo_map(self, score: "Score", counts: Counter[str] | None = None) -> TempoMap:
        return TempoMap.of(score, self.steps, counts)

    def heard(self, piece: list[Frame], tempo_map: TempoMap | None = None) -> list[Heard]:
        """A key that stands in frames one after another is held: frames have no onsets."""
        seconds = (tempo_map or TempoMap()).seconds
        found = []
        for begin, frame in enumerate(piece):
            for pitch in frame:
                if begin and pitch in piece[begin - 1]:
                    continue
                end = next((i for i in range(begin, len(piece)) if pitch not in piece[i]), len(piece))
                sounds = seconds(begin / self.steps)
                found.append(Heard(sounds, seconds(end / self.steps) - sounds, pitch, 80, 0))
        return found

    def piece(self, score: "Score", counts: Counter[str] | None = None) -> list[Frame]:
        """What sounds at each step, of all tracks but drums; ValueError for a pitch that no piano has."""
        counts = Counter() if counts is None else counts
        count_unread(score, counts)
        counts["tracks left out"] += sum(t.is_drum and len(t.notes) > 0 for t in score.tracks)
        keys: dict[int, set[int]] = {}
        for track in score.tracks:
            for note in () if track.is_drum else track.notes:
                if not LOW <= note.pitch <= HIGH:
                    raise ValueError(f"pitch {note.pitch} is not on a piano ({LOW} to {HIGH})")
                begin = step_of(note.start, self.steps, score.tpq)
                counts["notes moved to the grid"] += off_grid(note, self.steps, score.tpq)
                for step in range(begin, max(step_of(note.end, self.steps, score.tpq), begin + 1)):
                    keys.setdefault(step, set()).add(note.pitch)
        if not keys:
            raise ValueError("no notes")
        return [frame_of(keys.get(step, ())) for step in range(max(keys) + 1)]


def frame_of(pitches: Sequence[int] | set[int]) -> Frame:
    """Pitches in any order as a frame."""
    return tuple(sorted(set(pitches), reverse=True))


class State(NamedTuple):
    below: int = CLOSE  # keys of this frame must be below this one
    steps: int = 0
    any_before: bool = False  # whether the last frame holds a key


@dataclass(frozen=True)
class Descending(Grammar[State]):
    """Keys of a frame go down; a piece ends after a frame with a key in it. `least` and `most` frames."""

    least: int = 1
    most: int = 10**6
    end: int = CLOSE + 1

    def begin(self) -> State:
        return State()

    def may(self, state: State) -> list[int]:
        fresh = state.below == CLOSE
        may = [self.end] if fresh and state.steps >= self.least and state.any_before else []
        if fresh and state.steps >= self.most:
            return may
        may += range(state.below)
        if not (fresh and state.steps + 1 == self.most):  # the last frame holds a key
            may.append(CLOSE)
        return may

    def step(self, state: State, token: int) -> State:
        if token == CLOSE:
            return State(CLOSE, state.steps + 1, state.below < CLOSE)
        return State(token, state.steps, state.any_before)

    def need(self, state: State) -> int:
        open_frame = state.below < CLOSE
        steps, sounds = state.steps + open_frame, open_frame or state.any_before
        more = max(self.least - steps, 0 if sounds else 1)
        # all but the last frame may be silent; where more come the last of them must hold a key
        return open_frame + more + (more > 0) + 1

    def room(self, state: State) -> int:
        return 8 * (self.most - state.steps) + 1  # frames of more than seven keys have to make up elsewhere
