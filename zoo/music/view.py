"""What a view of music is: pieces as tokens and back, and the grammar that says which token may follow.

Axes: r rows written at once, n tokens written, v vocabulary.

A grammar is an automaton over token ids. `Following` walks it while a model writes and takes away every token that may
not come next, and near the end of what may be written also those from which no ending could be reached: whatever the
weights and the temperature, what comes out is a whole piece.
"""

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice, pairwise
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from zoo.core.setting import Setting
from zoo.data.files import InFolder
from zoo.errors import UserError

if TYPE_CHECKING:
    from symusic import Score

S = TypeVar("S")
DRUMS = 128  # as a program
QUARTER = 480  # MIDI ticks of a quarter note, where a view has a grid of its own
NEVER = 10**9  # tokens to an ending that cannot be reached
SIGNATURES = ((1, 4), (2, 4), (3, 4), (4, 4), (5, 4), (6, 4), (7, 4), (2, 2), (3, 2), (3, 8), (5, 8), (6, 8), (7, 8),
              (9, 8), (12, 8))  # fmt: skip
REACH = 8  # one token takes the nearest ending less than this many further away


@dataclass(frozen=True)
class TempoMap:
    """Tempos as (place, quarters per minute), time signatures as (place, count, unit); places rise from 0, in quarters.

    Without others, those of pieces that say nothing of theirs.
    """

    tempos: tuple[tuple[float, float], ...] = ((0.0, 96.0),)
    signatures: tuple[tuple[float, int, int], ...] = ((0.0, 4, 4),)

    @classmethod
    def of(cls, score: "Score", steps: int, counts: Counter[str] | None = None) -> Self:
        """Those of MIDI, which begins with 120 quarters per minute and 4/4 where it says nothing.

        A time signature whose bars are not known, or no whole steps (`steps` to a quarter), is taken for 4/4.
        """
        tempos = {0.0: 120.0} | {t.time / score.tpq: t.qpm for t in score.tempos}
        signatures = {0.0: (4, 4)}
        for sign in score.time_signatures:
            told = (sign.numerator, sign.denominator)
            fits = told in SIGNATURES and not 4 * steps * told[0] % told[1]
            signatures[sign.time * steps // score.tpq / steps] = told if fits else (4, 4)
            if counts is not None:
                counts["unknown time signatures"] += not fits
        return cls(tuple(sorted(tempos.items())), tuple((place, *sign) for place, sign in sorted(signatures.items())))

    def write(self, score: "Score") -> None:
        """Into MIDI that has none of its own."""
        from symusic import Tempo, TimeSignature

        for place, tempo in self.tempos:
            score.tempos.append(Tempo(round(place * score.tpq), tempo))
        for place, count, unit in self.signatures:
            score.time_signatures.append(TimeSignature(round(place * score.tpq), count, unit))

    def bars(self) -> Iterator[tuple[float, tuple[int, int]]]:
        """Begin in quarters and time signature of every bar, without end. A signature holds from its own bar on."""
        place = 0.0
        while True:
            _, *sign = self.signatures[bisect_right(self.signatures, place, key=itemgetter(0)) - 1]
            yield place, (sign[0], sign[1])
            place += 4 * sign[0] / sign[1]

    def steps(self, bars: int, steps: int) -> int:
        """How long so many bars are, in steps of a grid of `steps` to a quarter."""
        return round(next(islice(self.bars(), bars, None))[0] * steps)

    def seconds(self, place: float) -> float:
        """When a place in quarters sounds."""
        now = bisect_right(self.tempos, place, key=itemgetter(0)) - 1
        return self._begins[now] + (place - self.tempos[now][0]) * 60 / self.tempos[now][1]

    @cached_property
    def _begins(self) -> list[float]:
        """When each tempo begins, in seconds."""
        lasting = [(after - place) * 60 / tempo for (place, tempo), (after, _) in pairwise(self.tempos)]
        return list(accumulate(lasting, initial=0.0))


def check_steps(steps: int) -> None:
    """ValueError where a grid of so many steps to a quarter does not lie on MIDI's ticks: a piece would come back from
    there as another."""
    if steps < 1 or QUARTER % steps:
        raise ValueError(f"steps ({steps}) of a quarter note must be at least 1 and divide its {QUARTER} MIDI ticks")


def step_of(tick: int, steps: int, tpq: int) -> int:
    """The step of a grid, `steps` to a quarter, that is nearest to a tick; halfway the even one.

    Another rounding would give pieces other tokens, whose hash says in which split they are: what one training held out
    the next would learn from.
    """
    return round(tick * steps / tpq)


def off_grid(note: Any, steps: int, tpq: int) -> bool:
    """Whether a MIDI note begins or ends between two steps."""
    return any(tick * steps % tpq for tick in (note.start, note.end))


def count_unread(score: "Score", counts: Counter[str], *, pedal: bool = True) -> None:
    """Count what no view has tokens for: pitch bends, and (`pedal`) presses of the sustain pedal."""
    if pedal:
        counts["presses of the sustain pedal left out"] += sum(len(t.pedals) for t in score.tracks)
    counts["pitch bends left out"] += sum(bend.value != 0 for t in score.tracks for bend in t.pitch_bends)


class Heard(NamedTuple):
    """A note as it sounds: begin and length in seconds, MIDI pitch and velocity, program (128: drums), its part."""

    begin: float
    length: float
    pitch: int
    velocity: int
    program: int
    part: int = 0  # voice or track


class Grammar(Generic[S]):
    """Which tokens may follow. States are values that can be hashed; None is that of a piece that ended with `end`.

    Subclasses give `begin`, `may`, `step`, `need` and `room`, for pieces that go on.
    """

    end: int

    def begin(self) -> S:
        """The state before the first token."""
        raise NotImplementedError

    def may(self, state: S) -> list[int]:
        """The tokens that may come next."""
        raise NotImplementedError

    def step(self, state: S, token: int) -> S:
        """The state after a token, not the end, that may come next."""
        raise NotImplementedError

    def need(self, state: S) -> int:
        """The fewest tokens to the end of the piece, the end among them; NEVER where it cannot be reached."""
        raise NotImplementedError

    def room(self, state: S) -> int:
        """The tokens that may be written from here to the end of a piece of so many bars, the end among them."""
        raise NotImplementedError

    def after(self, state: S, token: int) -> S | None:
        """The state after a token that may come next."""
        return None if token == self.end else self.step(state, token)

    def walk(self, tokens: Sequence[int]) -> S | None:
        """The state after `tokens`; ValueError names the first that may not stand where it does."""
        state: S | None = self.begin()
        for place, token in enumerate(tokens):
            if state is None or token not in self.may(state):
                raise ValueError(f"token {token} may not stand at place {place}")
            state = self.after(state, token)
        return state

    def holds(self, tokens: Sequence[int]) -> bool:
        """Whether `tokens` begin a piece."""
        try:
            self.walk(tokens)
        except ValueError:
            return False
        return True

    def within(self, state: S, left: int) -> list[int]:
        """The tokens after which the piece can still end within `left` tokens, the next one counted."""
        may = self.may(state)
        if self.need(state) + REACH < left:
            return may
        return [token for token in may if token == self.end or self.need(self.step(state, token)) < left]


class Following:
    """A grammar as the constraint of zoo.core.decode, for rows that go on with `prompts` for at most `length` tokens.

    Without `length` as many as the grammar has room for. UserError where a prompt is not a beginning, or no piece can
    end within `length`.
    """

    def __init__(self, grammar: Grammar[Any], prompts: Sequence[Sequence[int]], length: int | None = None):
        self.grammar, self.seen = grammar, 0
        try:
            self.states = [grammar.walk(prompt) for prompt in prompts]
        except ValueError as error:
            raise UserError(f"the prompt is not the beginning of a piece: {error}") from None
        need, room = (
            max(0 if state is None else tokens(state) for state in self.states)
            for tokens in (grammar.need, grammar.room)
        )
        self.length = length = room if length is None else length
        if need > length:
            raise UserError(f"a piece needs {need if need < NEVER else 'more'} tokens to end, {length} may be written")

    def __call__(self, tokens: Tensor, scores: Tensor) -> Tensor:
        """Scores "r v" with -inf for what may not follow `tokens` "r n"."""
        for column in tokens[:, self.seen :].T.tolist():
            self.states = [
                None if state is None else self.grammar.after(state, token)
                for state, token in zip(self.states, column, strict=True)
            ]
        self.seen = tokens.shape[1]
        left = self.length - self.seen
        rows: dict[Any, list[int]] = {}  # many rows are in one state
        for row, state in enumerate(self.states):
            rows.setdefault(state, []).append(row)
        may = torch.zeros(scores.shape, dtype=torch.bool)
        for state, same in rows.items():
            allowed = torch.zeros(scores.shape[-1], dtype=torch.bool)
            allowed[[self.grammar.end] if state is None else self.grammar.within(state, left)] = True
            may[same] = allowed
        return scores.masked_fill(~may.to(scores.device), float("-inf"))


@dataclass(frozen=True)
class View(Setting, InFolder):
    """A view of music as tokens 0 to `vocab_size` - 1, the last of which ends a piece.

    Pieces are values of the view's own; `encode` and `decode` are inverse to each other over what its grammar allows,
    and so are `score` and `piece` (MIDI). Where pieces hold no tempo and no time signature, a `tempo_map` says them.
    """

    filename: ClassVar[str] = "music.json"  # in a model's folder

    @property
    def vocab_size(self) -> int:
        raise NotImplementedError

    @property
    def end(self) -> int:
        return self.vocab_size - 1

    def encode(self, piece: Any) -> list[int]:
        """A piece as tokens, `end` the last."""
        raise NotImplementedError

    def decode(self, tokens: Sequence[int]) -> Any:
        """The piece of tokens that hold the grammar."""
        raise NotImplementedError

    def grammar(self, bars: int | None = None, tempo_map: TempoMap | None = None) -> Grammar[Any]:
        """What may follow what, in pieces of exactly `bars` bars where that is given."""
        raise NotImplementedError

    def transpose(self, piece: Any, shift: int) -> Any | None:
        """The piece `shift` semitones higher; None where a note would leave the range."""
        raise NotImplementedError

    def shifts(self, piece: Any, most: int) -> list[int]:
        """The transpositions by at most `most` semitones that stay in range, 0 among them."""
        raise NotImplementedError

    def begins(self, tokens: Sequence[int]) -> list[int]:
        """Where in a piece's tokens a window may begin."""
        raise NotImplementedError

    def count(self, tokens: Sequence[int]) -> tuple[int, int]:
        """Notes that begin in a piece's tokens, and time steps that it lasts."""
        raise NotImplementedError

    def score(self, piece: Any, tempo_map: TempoMap | None = None) -> "Score":
        """The piece as MIDI."""
        raise NotImplementedError

    def piece(self, score: "Score", counts: Counter[str] | None = None) -> Any:
        """MIDI as a piece; ValueError says what the view cannot hold. What had to be changed is added to `counts`."""
        raise NotImplementedError

    def tempo_map(self, score: "Score", counts: Counter[str] | None = None) -> TempoMap | None:
        """What MIDI says of tempo and time signature that a piece does not hold; None where it holds it."""
        return None

    def heard(self, piece: Any, tempo_map: TempoMap | None = None) -> list[Heard]:
        """The piece's notes in seconds."""
        raise NotImplementedError

    def content(self) -> str:
        return json.dumps(self.to_plain(), indent=1) + "\n"

    def to_plain(self) -> dict[str, Any]:
        from zoo.core.setting import to_plain

        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The view that a model's folder holds; UserError where the file is not one."""
        try:
            return cls.from_plain(json.loads(Path(path).read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: not a view of music ({error})") from None
