"""Views of music: pieces and tokens are inverse, the grammar holds for every sample, and MIDI keeps all of it."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.core import Rotary, StackConfig
from zoo.core.decode import Sampling
from zoo.errors import UserError
from zoo.music import MusicLM
from zoo.music.chorale import HOLD, REST, from_pitches, sounding
from zoo.music.compose import harmonise, write
from zoo.music.events import SIGNATURES, TEMPOS, VELOCITIES, Note, Song, nearest
from zoo.music.tokens import Chorale, Events, Following, Frames, View

pytest.importorskip("symusic")
VIEWS = [Chorale(), Chorale(steps=2), Frames(), Events(), Events(steps=4)]
named = pytest.mark.parametrize("view", VIEWS, ids=str)


def network(view: View, seed: int = 0) -> MusicLM:
    """Random weights, far from even: some tokens are much likelier than others."""
    torch.manual_seed(seed)
    net = MusicLM(
        StackConfig(dim=24, depth=1, heads=2, causal=True, position=Rotary()), view.vocab_size, end=view.end
    ).eval()
    torch.nn.init.normal_(net.head.weight, std=0.7)
    return net


def is_whole(view: View, tokens: Sequence[int]) -> None:
    """The grammar holds to the end, and the piece comes back from tokens and from MIDI."""
    assert view.grammar().walk(tokens) is None
    piece = view.decode(tokens)
    assert view.encode(piece) == list(tokens)
    assert view.encode(view.piece(view.score(piece))) == list(tokens)


@named
@pytest.mark.parametrize(("bars", "temperature"), [(None, 1.0), (2, 1.0), (1, 20.0), (1, 0.0)], ids=str)
def test_every_sample_is_a_whole_piece(view: View, bars: int | None, temperature: float) -> None:
    """Random weights write valid pieces at any temperature, of the bars asked for."""
    rows = write(
        network(view),
        view,
        count=12,
        bars=bars,
        length=None if bars else 90,
        sampling=Sampling(temperature=temperature),
    )
    for tokens in rows:
        is_whole(view, tokens)
        if bars and not isinstance(view, Events):
            assert view.count(tokens)[1] == 4 * bars * view.steps
        if bars and isinstance(view, Events):
            assert len(view.decode(tokens).bars) == bars


@named
@pytest.mark.parametrize("length", range(6, 14))
def test_a_piece_ends_in_what_room_there_is(view: View, length: int) -> None:
    """However few tokens may be written: the shortest piece fits or it is said."""
    need = view.grammar().need(view.grammar().begin())
    if length < need:
        with pytest.raises(UserError, match=f"needs {need} tokens to end, {length} may be written"):
            write(network(view), view, length=length)
        return
    for tokens in write(network(view), view, count=20, length=length, sampling=Sampling(seed=length)):
        assert len(tokens) <= length
        is_whole(view, tokens)


@named
def test_need_is_one_more_than_after_the_best_token(view: View) -> None:
    """In states on random ways: what makes `need` the shortest way to an end, and every way end in time."""
    draw = random.Random(0)
    for grammar in (view.grammar(), view.grammar(1)):
        for _ in range(10):
            state = grammar.begin()
            for _ in range(draw.randint(0, 15)):
                may = grammar.may(state)
                assert grammar.need(state) == 1 + min(
                    0 if token == view.end else grammar.need(grammar.step(state, token)) for token in may
                )
                further = [token for token in may if token != view.end]
                if not further:
                    break
                state = grammar.step(state, draw.choice(further))


@named
def test_what_may_not_follow_is_named(view: View) -> None:
    tokens = write(network(view), view, length=60)[0]
    with pytest.raises(ValueError, match=f"token {tokens[0]} may not stand at place {len(tokens)}"):
        view.grammar().walk([*tokens, tokens[0]])
    with pytest.raises(
        ValueError, match="token 1 may not stand at place 0" if isinstance(view, Chorale) else "place 0"
    ):
        view.grammar().walk([1 if isinstance(view, Chorale) else view.end])
    with pytest.raises(UserError, match="not the beginning of a piece"):
        Following(view.grammar(), [[view.end]], 50)


@named
def test_going_on_keeps_what_is_given(view: View) -> None:
    whole = write(network(view), view, length=60)[0]
    prompt = whole[: len(whole) // 2]
    for tokens in write(network(view, 1), view, count=4, prompt=prompt, length=80):
        assert tokens[: len(prompt)] == prompt
        is_whole(view, tokens)


DENSE = {
    "events": (
        Events(),
        Song((3, 3), (0,), (), tuple(Note(3 * i, 0, 40 + k, 19, 3) for i in range(32) for k in range(12))),
    ),
    "frames": (Frames(), [tuple(range(71, 59, -1))] * 8),
}


@pytest.mark.parametrize(("view", "piece"), DENSE.values(), ids=DENSE)
def test_a_dense_prompt_leaves_room_for_the_bars_to_come(view: View, piece: object) -> None:
    prompt = view.encode(piece)[:-1]
    (tokens,) = write(network(view), view, prompt=prompt, bars=3)
    is_whole(view, tokens)
    assert tokens[: len(prompt)] == prompt
    assert len(view.begins(tokens)) == {"Events": 3, "Frames": 12}[type(view).__name__]  # bars, and frames


@named
def test_transposition_moves_every_pitch_and_comes_back(view: View) -> None:
    for tokens in write(network(view), view, count=6, bars=1):
        piece = view.decode(tokens)
        heard = [note.pitch for note in view.heard(piece) if note.program != 128]
        shifts = view.shifts(piece, 6)
        assert 0 in shifts
        for shift in shifts:
            moved = view.transpose(piece, shift)
            assert moved is not None
            is_whole(view, view.encode(moved))
            assert [n.pitch for n in view.heard(moved) if n.program != 128] == [p + shift for p in heard]


def test_drums_stay_when_a_song_is_transposed() -> None:
    """A pitch of theirs is an instrument."""
    view = Events()
    piano, snare = Note(0, 0, 60, 20, 12), Note(12, 1, 126, 20, 12)
    song = Song((3,), (0, 128), (), (piano, snare))
    assert view.shifts(song, 6) == list(range(-6, 7))
    for shift in (-6, 6):
        moved = view.transpose(song, shift)
        assert moved == Song((3,), (0, 128), (), (piano._replace(pitch=60 + shift), snare))


@st.composite
def songs(draw: st.DrawFn) -> Song:
    """Songs that Events can hold: any bars, tracks, tempos and notes without overlap."""
    view = Events()
    bars = draw(st.lists(st.integers(0, len(SIGNATURES) - 1), min_size=1, max_size=4))
    total = sum(map(view.bar_steps, bars))
    wanted = draw(
        st.lists(
            st.tuples(
                st.integers(0, total - 1),
                st.integers(0, 2),
                st.integers(0, 127),
                st.integers(0, len(VELOCITIES) - 1),
                st.sampled_from(view.lengths),
            ),
            min_size=1,
            max_size=12,
        )
    )
    ends: dict[tuple[int, int], int] = {}
    notes = []
    for begin, track, pitch, velocity, length in sorted(wanted):
        if ends.get((track, pitch), 0) <= begin:
            notes.append(Note(begin, track, pitch, velocity, length))
            ends[track, pitch] = begin + length
    order = {track: place for place, track in enumerate(dict.fromkeys(note.track for note in notes))}
    notes = sorted(note._replace(track=order[note.track]) for note in notes)
    programs = draw(st.lists(st.integers(0, 128), min_size=len(order), max_size=len(order)))
    last = max(note.begin for note in notes)
    tempos = draw(st.dictionaries(st.integers(0, last), st.integers(0, len(TEMPOS) - 1), max_size=3))
    begin, kept = 0, []
    for bar in bars:
        if begin > last:
            break
        kept.append(bar)
        begin += view.bar_steps(bar)
    return Song(tuple(kept), tuple(programs), tuple(sorted(tempos.items())), tuple(notes))


@given(songs())
@settings(max_examples=60, deadline=None)
def test_any_song_comes_back(song: Song) -> None:
    view = Events()
    tokens = view.encode(song)
    assert view.decode(tokens) == song
    is_whole(view, tokens)
    assert view.count(tokens)[0] == len(song.notes) == len(view.heard(song))


@given(st.lists(st.sets(st.integers(21, 108), max_size=6), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_any_frames_come_back(frames: list[set[int]]) -> None:
    view = Frames()
    piece = [tuple(sorted(frame, reverse=True)) for frame in [*frames, {60}]]
    assert view.decode(view.encode(piece)) == piece
    is_whole(view, view.encode(piece))


@given(
    st.lists(
        st.tuples(*(st.sampled_from([REST, HOLD, r.low, r.low + 3, r.high]) for r in Chorale().ranges)),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_chorale_comes_back(steps: list[tuple[int, ...]]) -> None:
    view, piece = Chorale(), np.array([*steps, (60, 60, 60, 60)])
    for step in range(len(piece)):  # what is silent cannot be held
        silent = piece[step - 1] == REST if step else np.ones(4, dtype=bool)
        piece[step] = np.where((piece[step] == HOLD) & silent, REST, piece[step])
    assert (view.decode(view.encode(piece)) == piece).all()
    is_whole(view, view.encode(piece))
    again = from_pitches(sounding(piece).tolist())  # without onsets, a note struck again is one that is held
    assert (sounding(again) == sounding(piece)).all()


def test_the_nearest_of_rising_values() -> None:
    values = [1, 2, 4, 8]
    for wanted in np.linspace(-1, 12, 53):
        assert abs(values[nearest(values, wanted)] - wanted) == min(abs(v - wanted) for v in values)


def test_a_melody_is_kept_and_the_other_voices_are_written() -> None:
    view = Chorale(steps=2)
    melody = np.array([72, HOLD, 74, HOLD, REST, 76, HOLD, HOLD, 60, 61])
    net = network(view)
    tokens = harmonise(net, view, melody, sampling=Sampling(seed=1), particles=6)
    assert (view.decode(tokens)[:, 0] == melody).all()
    is_whole(view, tokens)
    assert tokens == harmonise(net, view, melody, sampling=Sampling(seed=1), particles=6)
    others = view.decode(harmonise(net, view, melody, sampling=Sampling(seed=2), particles=6))
    assert (others[:, 1:] != view.decode(tokens)[:, 1:]).any()
    with pytest.raises(UserError, match="no notes"):
        harmonise(net, view, np.array([REST, REST]), sampling=Sampling())


def test_harmonies_that_saw_the_melody_coming_are_kept() -> None:
    """A model in which the bass decides the next soprano: with many particles the bass fits the melody to come."""

    class Foretold(MusicLM):
        def hidden(self, ids, keep=None, cache=None, context=None):  # type: ignore[no-untyped-def]
            states, layout = super().hidden(ids, keep, cache, context)
            self.last = ids[:, -1] if ids.dim() == 2 else ids
            return states, layout

    view = Chorale(steps=1)
    net = Foretold(StackConfig(dim=24, depth=1, heads=2, causal=True), view.vocab_size, end=view.end).eval()
    low, high = (view.encode(np.array([[72, 60, 60, bass]]))[3] for bass in (40, 50))
    soprano = {bass: view.encode(np.array([[top, 60, 60, 40]]))[0] for bass, top in ((low, 65), (high, 75))}
    plain = net.head.forward

    def head(states: torch.Tensor) -> torch.Tensor:
        scores = torch.zeros_like(plain(states))
        for row, token in enumerate(net.last.tolist()):
            if token in soprano:
                scores[row, soprano[token]] = 6.0
        scores[:, [low, high]] += 5.0
        return scores

    net.head.forward = head  # type: ignore[method-assign]
    melody = np.array([70, *[65, 75, 65, 65, 75, 75, 65] * 3])
    # of 21 steps all but a few, to the end: what was foreseen before the last choice counts no more
    for particles, wanted in ((40, range(19, 22)), (1, range(16))):
        tokens = harmonise(net, view, melody, sampling=Sampling(seed=0), particles=particles)
        foretold = [soprano.get(tokens[4 * step + 3]) == tokens[4 * step + 4] for step in range(len(melody) - 1)]
        assert sum(foretold) in wanted


def test_who_goes_on_from_another_may_hold_what_that_one_sings() -> None:
    """Voices that rest and hold more than they sing: every harmony is whole, whoever it has gone on from."""
    view = Chorale(steps=1)
    net = network(view)
    plain = net.head.forward
    silence = torch.zeros(view.vocab_size).index_fill(0, torch.tensor([0, 1]), 5.0)
    net.head.forward = lambda states: plain(states) + silence  # type: ignore[method-assign]
    for seed in range(4):
        is_whole(view, harmonise(net, view, np.arange(65, 77), sampling=Sampling(seed=seed), particles=8))
