"""Any MIDI file as tokens: bar, position, tempo, track, pitch, velocity, duration.

After Huang & Yang 2020 (Pop Music Transformer, REMI), with tracks. A piece goes bar by bar; a bar says its time
signature; inside it positions go up; at a position first a change of tempo, then the tracks in order, and the notes of
each from the lowest up. A track is declared, with its program, where its first note begins. So a piece has one
spelling, and every spelling that the grammar allows is a piece.
"""

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, takewhile
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from zoo.music.view import DRUMS, SIGNATURES, Grammar, Heard, TempoMap, View, count_unread, off_grid, step_of

if TYPE_CHECKING:
    from symusic import Score

TEMPOS = tuple(round(24 * 2 ** (i / 12), 2) for i in range(49))  # quarters per minute, 24 to 384
VELOCITIES = tuple(range(3, 128, 4))
TRACKS = 16
MELODIC = 15  # of them at most: MIDI has 16 channels, one of which is the drums'
SOUNDING = 64  # notes of one track that may sound at once
UNFINISHED = {"track": 3, "program": 3, "pitch": 2, "velocity": 1}  # tokens that a note still needs


class Note(NamedTuple):
    """A note on the grid: begin in steps, track, pitch, velocity's place in VELOCITIES, length in steps."""

    begin: int
    track: int
    pitch: int
    velocity: int
    length: int


@dataclass(frozen=True)
class Song:
    """A piece on the grid. `bars`: place of each bar's signature in SIGNATURES; `tempos`: (step, place in TEMPOS)."""

    bars: tuple[int, ...]
    programs: tuple[int, ...]  # of each track, 128 for drums
    tempos: tuple[tuple[int, int], ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Losses:
    """What reading a MIDI file onto the grid cost: counts, and the errors of onsets and lengths in quarters."""

    counts: Counter[str] = field(default_factory=Counter)
    onsets: list[float] = field(default_factory=list, repr=False)
    lengths: list[float] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class Events(View):
    """Notes of any instruments, `steps` (a multiple of 4) to a quarter note.

    Lengths are whole steps up to four quarters, then half quarters up to 16, then quarters up to 64. `pedal`: a note of
    MIDI that ends while the sustain pedal is down ends when it comes up (or its key is struck again).
    """

    steps: int = 12
    pedal: bool = field(default=False, compare=False)  # how MIDI is read: tokens mean the same
    unit: ClassVar[int] = 480  # MIDI ticks of a quarter, at least; a multiple of `steps` is used

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 4 or self.steps % 4:
            raise ValueError(f"steps ({self.steps}) must be a multiple of 4: a bar of n/16 is not on another grid")

    # -- the vocabulary, in order ----------------------------------------------------------------------------------

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        s = self.steps
        return (*range(1, 4 * s), *range(4 * s, 16 * s, s // 2), *range(16 * s, 64 * s + 1, s))

    @cached_property
    def sizes(self) -> dict[str, int]:
        longest = max(self.bar_steps(i) for i in range(len(SIGNATURES)))
        return {
            "bar": len(SIGNATURES),
            "position": longest,
            "tempo": len(TEMPOS),
            "track": TRACKS,
            "program": DRUMS + 1,
            "pitch": 128,
            "velocity": len(VELOCITIES),
            "length": len(self.lengths),
            "end": 1,
        }

    @cached_property
    def first(self) -> dict[str, int]:
        """The first token of each sort."""
        found, count = {}, 0
        for sort, size in self.sizes.items():
            found[sort] = count
            count += size
        return found

    @property
    def vocab_size(self) -> int:
        return sum(self.sizes.values())

    def bar_steps(self, signature: int) -> int:
        count, unit = SIGNATURES[signature]
        return self.steps * 4 * count // unit

    # -- pieces and tokens -----------------------------------------------------------------------------------------

    def encode(self, piece: Song) -> list[int]:
        at, place = self.first, {length: i for i, length in enumerate(self.lengths)}
        tempos, notes = dict(piece.tempos), sorted(piece.notes)
        steps = sorted({*tempos, *(note.begin for note in notes)})
        tokens: list[int] = []
        declared, begin, todo, done = 0, 0, 0, 0
        for signature in piece.bars:
            tokens.append(at["bar"] + signature)
            stop = begin + self.bar_steps(signature)
            while done < len(steps) and steps[done] < stop:
                step = steps[done]
                done += 1
                tokens.append(at["position"] + step - begin)
                if step in tempos:
                    tokens.append(at["tempo"] + tempos[step])
                track = -1
                while todo < len(notes) and notes[todo].begin == step:
                    note = notes[todo]
                    todo += 1
                    if note.track != track:
                        track = note.track
                        fresh = track == declared
                        declared += fresh
                        tokens.append(at["program"] + piece.programs[track] if fresh else at["track"] + track)
                    tokens += [at["pitch"] + note.pitch, at["velocity"] + note.velocity]
                    tokens.append(at["length"] + place[note.length])
            begin = stop
        return [*tokens, self.end]

    def decode(self, tokens: Sequence[int]) -> Song:
        bars, programs, tempos, notes = [], [], [], []
        begin = stop = step = track = pitch = velocity = 0
        sorts, lengths = _Sorts(self), self.lengths
        for token in tokens:
            sort, value = sorts.of(token)
            if sort == "bar":
                bars.append(value)
                begin, stop = stop, stop + self.bar_steps(value)
            elif sort == "position":
                step = begin + value
            elif sort == "tempo":
                tempos.append((step, value))
            elif sort == "track":
                track = value
            elif sort == "program":
                track = len(programs)
                programs.append(value)
            elif sort == "pitch":
                pitch = value
            elif sort == "velocity":
                velocity = value
            elif sort == "length":
                notes.append(Note(step, track, pitch, velocity, lengths[value]))
        return Song(tuple(bars), tuple(programs), tuple(tempos), tuple(notes))

    def grammar(self, bars: int | None = None, tempo_map: TempoMap | None = None) -> "Remi":
        return Remi(self) if bars is None else Remi(self, bars, bars)

    def transpose(self, piece: Song, shift: int) -> Song | None:
        """All tracks but drums."""
        moved = tuple(
            note if piece.programs[note.track] == DRUMS else note._replace(pitch=note.pitch + shift)
            for note in piece.notes
        )
        if not all(0 <= note.pitch <= 127 for note in moved):
            return None
        return Song(piece.bars, piece.programs, piece.tempos, moved)

    def shifts(self, piece: Song, most: int) -> list[int]:
        """The transpositions by at most `most` semitones that stay on a piano."""
        pitches = [n.pitch for n in piece.notes if piece.programs[n.track] != DRUMS]
        if not pitches:
            return [0]
        low, high = min(min(pitches), 21), max(max(pitches), 108)  # a piece that is already outside stays there
        return [s for s in range(-most, most + 1) if low <= min(pitches) + s and max(pitches) + s <= high]

    def begins(self, tokens: Sequence[int]) -> list[int]:
        bars = self.sizes["bar"]
        return [place for place, token in enumerate(tokens) if token < bars]

    def count(self, tokens: Sequence[int]) -> tuple[int, int]:
        at, size = self.first, self.sizes
        pitches = range(at["pitch"], at["pitch"] + size["pitch"])
        return sum(t in pitches for t in tokens), sum(self.bar_steps(t) for t in tokens if t < size["bar"])

    # -- MIDI ------------------------------------------------------------------------------------------------------

    def score(self, piece: Song, tempo_map: TempoMap | None = None) -> "Score":
        from symusic import Note as MidiNote
        from symusic import Score, Tempo, TimeSignature, Track

        quarter = math.lcm(self.steps, self.unit)
        tick = quarter // self.steps
        score = Score(quarter)
        for step, place in piece.tempos:
            score.tempos.append(Tempo(step * tick, TEMPOS[place]))
        begin, last = 0, -1
        for signature in piece.bars:
            if signature != last:
                score.time_signatures.append(TimeSignature(begin * tick, *SIGNATURES[signature]))
            begin, last = begin + self.bar_steps(signature), signature
        for number, program in enumerate(piece.programs):
            drums = program == DRUMS
            track = Track(name=f"{number}", program=0 if drums else program, is_drum=drums)
            for note in piece.notes:
                if note.track == number:
                    track.notes.append(
                        MidiNote(note.begin * tick, note.length * tick, note.pitch, VELOCITIES[note.velocity])
                    )
            score.tracks.append(track)
        return score

    def heard(self, piece: Song, tempo_map: TempoMap | None = None) -> list[Heard]:
        changes = ((step / self.steps, TEMPOS[place]) for step, place in piece.tempos)
        seconds = TempoMap(((0.0, 120.0), *changes)).seconds
        return [
            Heard(
                seconds(note.begin / self.steps),
                seconds((note.begin + note.length) / self.steps) - seconds(note.begin / self.steps),
                note.pitch,
                VELOCITIES[note.velocity],
                piece.programs[note.track],
                note.track,
            )
            for note in piece.notes
        ]

    def piece(self, score: "Score", counts: Counter[str] | None = None) -> Song:
        song, losses = self.quantise(score)
        if counts is not None:
            counts.update(losses.counts)
        return song

    def quantise(self, score: "Score") -> tuple[Song, Losses]:
        """MIDI on the grid, and what that cost. ValueError where there is no note.

        Notes of one track and pitch that begin together become one; where one begins before another has ended, the
        earlier ends there. Notes of no length get one step.
        """
        losses = Losses()
        grid = self.steps / score.tpq
        tracks = [t for t in score.tracks if len(t.notes)]
        if not tracks:
            raise ValueError("no notes")
        melodic = accumulate(not t.is_drum for t in tracks)
        kept = [t for t, number in zip(tracks, melodic, strict=True) if t.is_drum or number <= MELODIC][:TRACKS]
        losses.counts["tracks left out"] = len(tracks) - len(kept)
        # in the order of their first notes, as they will be declared
        tracks = sorted(kept, key=lambda t: min(round(n.start * grid) for n in t.notes))
        count_unread(score, losses.counts, pedal=not self.pedal)
        notes = []
        for number, track in enumerate(tracks):
            notes += self._quantised(number, track, score.tpq, losses)
        # of two on one step the later stays; of two on one tick the one that stands later in the file
        timed = sorted(score.tempos, key=lambda t: t.time)
        changes = [(round(t.time * grid), nearest(TEMPOS, t.qpm)) for t in timed]
        losses.counts["tempos moved to the nearest"] = sum(
            not math.isclose(t.qpm, TEMPOS[nearest(TEMPOS, t.qpm)], rel_tol=1e-4)  # MIDI counts microseconds
            for t in score.tempos
        )
        tempos = tuple(dict(changes).items())
        losses.counts["tempos left out where two begin on one step"] = len(changes) - len(tempos)
        bars = self._bars(score, max([n.begin for n in notes] + [step for step, _ in tempos]), losses)
        programs = tuple(DRUMS if t.is_drum else t.program for t in tracks)
        return Song(bars, programs, tempos, tuple(sorted(notes))), losses

    def _quantised(self, number: int, track: "object", tpq: int, losses: Losses) -> list[Note]:
        """The notes of one track; each ends before its pitch begins again."""
        found: dict[tuple[int, int], tuple[int, int]] = {}  # (pitch, begin) -> (end, velocity)
        held = _held(track) if self.pedal and not track.is_drum else []  # type: ignore[attr-defined]
        for note in track.notes:  # type: ignore[attr-defined]
            exact = note.start * self.steps / tpq
            begin, end = (step_of(tick, self.steps, tpq) for tick in (note.start, _released(note.end, held)))
            losses.onsets.append((begin - exact) / self.steps)
            losses.counts["notes moved to the grid"] += off_grid(note, self.steps, tpq)
            losses.counts["notes of no length"] += note.duration <= 0
            losses.counts["notes that became one"] += (note.pitch, begin) in found
            before = found.get((note.pitch, begin), (0, 0))
            found[note.pitch, begin] = max(before, (max(end, begin + 1), nearest(VELOCITIES, note.velocity)))
        notes, following = [], {}
        lengths = self.lengths
        for (pitch, begin), (end, velocity) in sorted(found.items(), reverse=True):
            free = following.get(pitch, end) - begin
            losses.counts["notes that overlapped"] += free < end - begin
            wanted = min(end - begin, free)
            place = nearest(lengths, wanted)
            place -= lengths[place] > free
            losses.lengths.append((lengths[place] - wanted) / self.steps)
            losses.counts["notes of another length"] += lengths[place] != wanted
            notes.append(Note(begin, number, pitch, velocity, lengths[place]))
            following[pitch] = begin
        return self._thinned(notes, losses)

    def _thinned(self, notes: list[Note], losses: Losses) -> list[Note]:
        """At most SOUNDING at once: further ones are left out."""
        kept: list[Note] = []
        ends: list[int] = []
        for note in sorted(notes):
            ends = [end for end in ends if end > note.begin]
            if len(ends) < SOUNDING:
                ends.append(note.begin + note.length)
                kept.append(note)
        losses.counts["notes beyond 64 at once"] += len(notes) - len(kept)
        return kept

    def _bars(self, score: "Score", last: int, losses: Losses) -> tuple[int, ...]:
        """Bars as far as step `last`."""
        every = TempoMap.of(score, self.steps, losses.counts).bars()
        kept = takewhile(lambda bar: bar[0] * self.steps <= last, every)
        return tuple(SIGNATURES.index(sign) for _, sign in kept)


def _held(track: Any) -> list[tuple[int, int]]:
    """When the sustain pedal goes down and when it comes up, in ticks."""
    return sorted((pedal.time, pedal.time + pedal.duration) for pedal in track.pedals)


def _released(end: int, held: Sequence[tuple[int, int]]) -> int:
    """When a note falls silent whose key comes up at `end`."""
    place = bisect_right(held, end, key=itemgetter(0)) - 1
    return max(end, held[place][1]) if place >= 0 else end


def nearest(values: Sequence[float], wanted: float) -> int:
    """The place of the nearest of rising values."""
    place = min(bisect_left(values, wanted), len(values) - 1)
    return place - 1 if place and wanted - values[place - 1] < values[place] - wanted else place


class _Sorts:
    """Sort and value of a token."""

    def __init__(self, view: Events):
        self.table = [(sort, value) for sort, size in view.sizes.items() for value in range(size)]

    def of(self, token: int) -> tuple[str, int]:
        return self.table[token]


class State(NamedTuple):
    """Where in the grammar: the sort of the last token, and what decides what may follow it."""

    sort: str = "begin"
    begin: int = 0  # first step of the bar
    signature: int = 0
    bars: int = 0
    position: int = -1  # in the bar
    track: int = -1  # of the notes that come; -1: none yet at this position
    pitch: int = -1  # the last at this position and track
    tempo: bool = False  # whether this position has changed it
    notes: int = 0
    tracks: int = 0
    melodic: int = 0  # of these tracks
    sounding: tuple[tuple[int, int, int], ...] = ()  # (track, pitch, end) of notes that have not ended

    @property
    def step(self) -> int:
        return self.begin + self.position


class Remi(Grammar[State]):
    """Time never runs back, a pitch sounds once at a time in a track, and a piece ends with a note or a tempo.

    (Empty bars at the end would be lost in MIDI.) `least` and `most` bars.
    """

    def __init__(self, view: Events, least: int = 1, most: int = 10**6):
        self.view, self.least, self.most, self.end = view, least, most, view.end
        self.at, self.size, self.lengths = view.first, view.sizes, view.lengths
        self.sorts = _Sorts(view)

    def begin(self) -> State:
        return State()

    def may(self, state: State) -> list[int]:
        sort = state.sort
        if sort == "pitch":
            return self._all("velocity")
        if sort == "velocity":
            return self._all("length")
        if sort in ("track", "program"):
            return self._pitches(state)
        may: list[int] = []
        if sort in ("length", "tempo"):
            if state.notes and state.bars >= self.least:
                may.append(self.end)
            may += self._pitches(state) if sort == "length" else []
        if sort != "begin":
            if sort != "bar":
                may += self._tracks(state)
            if sort == "position":
                may += self._all("tempo")
            else:
                longest = self.view.bar_steps(state.signature)
                may += [self.at["position"] + p for p in range(state.position + 1, longest)]
        if sort != "position" and state.bars < self.most:
            may += self._all("bar")
        return may

    def step(self, state: State, token: int) -> State:
        sort, value = self.sorts.of(token)
        if sort == "bar":
            begin = state.begin + (self.view.bar_steps(state.signature) if state.bars else 0)
            return state._replace(sort=sort, begin=begin, signature=value, bars=state.bars + 1, position=-1, track=-1)
        if sort == "position":
            step = state.begin + value
            held = tuple(note for note in state.sounding if note[2] > step)
            return state._replace(sort=sort, position=value, track=-1, pitch=-1, tempo=False, sounding=held)
        if sort == "program":
            melodic = state.melodic + (value != DRUMS)
            return state._replace(sort=sort, track=state.tracks, tracks=state.tracks + 1, melodic=melodic, pitch=-1)
        if sort == "track":
            return state._replace(sort=sort, track=value, pitch=-1)
        if sort == "pitch":
            return state._replace(sort=sort, pitch=value)
        if sort == "length":
            note = (state.track, state.pitch, state.step + self.lengths[value])
            return state._replace(sort=sort, notes=state.notes + 1, sounding=(*state.sounding, note))
        return state._replace(sort=sort, tempo=state.tempo or sort == "tempo")

    def need(self, state: State) -> int:
        unfinished = UNFINISHED.get(state.sort, 0)
        sounded = state.notes > 0 or unfinished > 0
        last = 1 if sounded else 4  # at the last position: a tempo; or program, pitch, velocity and length
        bars = max(self.least - state.bars, state.sort == "begin")
        if state.sort == "position":
            return 1 + bars + 1 + last + 1 if bars else last + 1
        if bars or state.sort == "bar":
            return unfinished + bars + 1 + last + 1
        return unfinished + 1 if sounded else last + 1

    def room(self, state: State) -> int:
        return 256 * (self.most - state.bars + (state.bars > 0)) + 8  # the bar that has begun may go on

    def _all(self, sort: str) -> list[int]:
        return list(range(self.at[sort], self.at[sort] + self.size[sort]))

    def _pitches(self, state: State) -> list[int]:
        """Above the last at this position, and silent in this track."""
        taken = {pitch for track, pitch, _ in state.sounding if track == state.track}
        if len(taken) >= SOUNDING:
            return []
        return [self.at["pitch"] + p for p in range(state.pitch + 1, 128) if p not in taken]

    def _tracks(self, state: State) -> list[int]:
        """Tracks after the last at this position that have room for a note, and new ones."""
        full = Counter(track for track, _, _ in state.sounding)
        may = [self.at["track"] + t for t in range(state.track + 1, state.tracks) if full[t] < SOUNDING]
        if state.tracks < TRACKS:
            programs = self._all("program")
            may += programs if state.melodic < MELODIC else programs[DRUMS:]
        return may
