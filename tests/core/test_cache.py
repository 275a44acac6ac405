"""What is continued from a cache is what one pass would have given."""

import itertools

import pytest
import torch

from tests.core.architectures import CAUSAL, build, context
from zoo.check import promises
from zoo.core import (
    GRU,
    LSTM,
    RNN,
    ALiBi,
    Cache,
    Layout,
    Learned,
    NoPosition,
    Peaks,
    Periodic,
    RelativeBuckets,
    RMSNorm,
    Rotary,
    Sinusoidal,
    Skewed,
    StackConfig,
    attend,
)
from zoo.core.cache import KeyValueState, Moves

POSITIONS = {
    "none": NoPosition(),
    "interleaved": Sinusoidal(),
    "halves": Sinusoidal("halves"),
    "cosine_first": Sinusoidal("cosine_first"),
    "learned": Learned(16, offset=2),
    "rotary": Rotary(),
    "buckets": RelativeBuckets(8, 6),
    "alibi": ALiBi(),
    "periodic": Periodic(3),
    "peaks": Peaks((0, -1, -2, -4), (0.1, 1.0, 1.0, 0.5)),
    "skewed": Skewed(5, Sinusoidal()),
}
BASE = StackConfig(dim=24, depth=2, heads=4, head_dim=6, causal=True, qk_norm=RMSNorm())
TOKENS = 9


@pytest.mark.parametrize("ragged", [False, True], ids=["even", "ragged"])
@pytest.mark.parametrize("cross", [False, True], ids=["alone", "cross"])
@pytest.mark.parametrize("groups", [None, 2, 1])
@pytest.mark.parametrize("position", POSITIONS)
def test_chunks_through_a_cache(position: str, groups: int | None, cross: bool, ragged: bool) -> None:
    config = BASE.replace(position=POSITIONS[position], kv_heads=groups, cross=cross)
    for chunks in [(3, 1, 1, 1, 1, 1, 1), (3, 2, 2, 2), (3, 3, 3), (TOKENS,)]:
        assert promises.cached(config, chunks, ragged=ragged) < 1e-12


@pytest.mark.parametrize("ragged", [False, True], ids=["even", "ragged"])
@pytest.mark.parametrize("mixer", [LSTM(), GRU(16), RNN()], ids=lambda m: type(m).__name__)
def test_chunks_through_a_recurrent_state(mixer, ragged: bool) -> None:
    for cross, chunks in itertools.product((False, True), [(3, 1, 1, 1, 1, 1, 1), (3, 2, 2, 2), (TOKENS,)]):
        assert (
            promises.cached(BASE.replace(mixer=mixer, cross=cross, position=Sinusoidal()), chunks, ragged=ragged)
            < 1e-12
        )


@pytest.mark.parametrize("mixer", [None, LSTM(), GRU(16), RNN()], ids=lambda m: type(m).__name__)
def test_who_sits_a_chunk_out_goes_on_from_where_it_was(mixer) -> None:
    """The second of three sequences has no token in the second chunk."""
    stack = build(BASE.replace(position=Sinusoidal(), **({} if mixer is None else {"mixer": mixer})), torch.float64)
    x = torch.randn(3, 5, 24, dtype=torch.float64)
    keep = torch.ones(3, 5, dtype=torch.bool)
    keep[1, 2:4] = False
    cache, outs = Cache(stack, 3, 5), []
    with torch.no_grad():
        for part in (slice(0, 2), slice(2, 4), slice(4, 5)):
            layout = cache.next(keep=keep[:, part])
            tokens = layout.take(x[:, part], keep[:, part])
            outs.append(layout.give(stack(tokens, layout, cache=cache), keep[:, part]))
        found = torch.cat(outs, 1)
        for row, real in enumerate(keep):
            expected = stack(x[row][real], Layout.dense(1, int(real.sum())))
            torch.testing.assert_close(found[row][real], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CAUSAL)
def test_every_causal_architecture(name: str, device: torch.device) -> None:
    assert promises.cached(CAUSAL[name], (4, 1, 2, 1, 1), ragged=True, device=device) < 1e-12


def test_a_cache_that_forgets_its_lengths_is_noticed() -> None:
    """Negative control: the comparison above sees a cache that takes padding for tokens."""
    config = BASE.replace(position=Rotary())
    stack = build(config, torch.float64)
    x = torch.randn(2, 4, config.dim, dtype=torch.float64)
    keep = torch.tensor([[False, True, True, True], [True, True, True, True]])
    layout = Layout.from_keep(keep)
    whole = layout.give(stack(layout.take(x, keep), layout), keep)
    wrong = stack(x.flatten(0, 1), Layout.dense(2, 4)).view(2, 4, -1)
    assert (wrong - whole)[keep].abs().max() > 1e-3


@pytest.mark.parametrize("mixer", [None, LSTM()], ids=["attention", "lstm"])
@pytest.mark.parametrize("rows", [[2, 0, 1], [0, 0, 1, 1, 2, 2], [1]], ids=str)
def test_reorder_goes_on_with_the_chosen_rows(mixer, rows: list[int]) -> None:
    config = BASE.replace(position=Sinusoidal()) if mixer is None else BASE.replace(mixer=mixer)
    stack = build(config, torch.float64)
    x = torch.randn(3, 5, config.dim, dtype=torch.float64)
    keep = torch.tensor([[True] * 4, [False, True, True, True], [False, False, True, True]])
    chosen = torch.tensor(rows)
    with torch.no_grad():
        cache = Cache(stack, 3, 8)
        layout = cache.next(keep=keep)
        stack(layout.take(x[:, :4], keep), layout, cache=cache)
        cache.reorder(chosen)
        out = stack(x[chosen, 4], cache.next(), cache=cache)
        for place, row in enumerate(rows):
            alone = torch.cat((x[row, :4][keep[row]], x[row, 4:]))
            expected = stack(alone, Layout.dense(1, len(alone)))[-1]
            torch.testing.assert_close(out[place], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mixer", [None, GRU()], ids=["attention", "gru"])
def test_beams_that_part_and_meet_go_on_with_their_own_past(mixer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many reorders in a row, as in a beam search: what beams have in common is not moved, and nothing else is lost."""
    config = BASE.replace(position=Sinusoidal()) if mixer is None else BASE.replace(mixer=mixer)
    stack = build(config, torch.float64)
    draw = torch.Generator().manual_seed(5)
    moved: list[int] = []
    reorder = KeyValueState.reorder

    def counted(state: KeyValueState, rows: torch.Tensor, moves: Moves | None) -> None:
        moved.append(cache.filled * cache.batch if moves is None else len(moves.slot))
        reorder(state, rows, moves)

    monkeypatch.setattr(KeyValueState, "reorder", counted)
    with torch.no_grad():
        cache = Cache(stack, 2, 20)
        past = torch.randn(2, 1, config.dim, dtype=torch.float64, generator=draw)
        stack(past[:, 0], cache.next(), cache=cache)
        for step in range(16):
            rows = torch.arange(2).repeat_interleave(3) if step == 0 else torch.randint(0, 6, (6,), generator=draw)
            rows = torch.arange(6) if step == 9 else rows
            moved.clear()
            cache.reorder(rows)
            assert step != 9 or not sum(moved)  # all stay where they are
            x = torch.randn(6, config.dim, dtype=torch.float64, generator=draw)
            past = torch.cat((past[rows], x.unsqueeze(1)), 1)
            out = stack(x, cache.next(), cache=cache)
            expected = stack(past.flatten(0, 1), Layout.dense(6, step + 2)).view(6, -1, config.dim)[:, -1]
            torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    assert mixer is not None or max(moved) < 6 * 16 / 2  # rows of one ancestor share all but the last few


def test_fewer_and_more_rows_go_on_after_rows_were_chosen() -> None:
    """What each row wrote is known of as many rows as there were, and is forgotten when their number changes."""
    config = BASE.replace(position=Sinusoidal())
    stack = build(config, torch.float64)
    past = torch.randn(3, 2, config.dim, dtype=torch.float64)
    with torch.no_grad():
        cache = Cache(stack, 3, 8)
        stack(past.flatten(0, 1), cache.next(2), cache=cache)
        for rows in ([2, 0, 1], [1, 1, 0], [2, 1], [1, 0], [0, 1, 1, 0], [3, 0, 2, 2]):
            cache.reorder(torch.tensor(rows))
            past = torch.cat((past[rows], torch.randn(len(rows), 1, config.dim, dtype=torch.float64)), 1)
            out = stack(past[:, -1], cache.next(), cache=cache)
            expected = stack(past.flatten(0, 1), Layout.dense(*past.shape[:2])).view_as(past)[:, -1]
            torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_room_is_what_the_longest_sequence_takes() -> None:
    """Rows of 8 + 1 and of 1 + 7 tokens: nine slots, not the fifteen of the longest pieces."""
    stack = build(BASE)
    cache = Cache(stack, 2, 9)
    for lengths in ([8, 1], [1, 7]):
        layout = cache.next(keep=torch.arange(8) < torch.tensor(lengths).unsqueeze(-1))
        stack(torch.randn(layout.tokens, 24), layout, cache=cache)
    assert cache.filled == 9


def test_beams_share_their_source() -> None:
    """Six sequences on two sources: the keys of a source are projected once, and beams of it are its queries."""
    config = BASE.replace(cross=True, kv_heads=2)
    stack, given = build(config, torch.float64), context(config, 2, torch.float64)
    x = torch.randn(6, config.dim, dtype=torch.float64)
    with torch.no_grad():
        cache = Cache(stack, 6, 3)
        out = stack(x, cache.next(), cache=cache, **given)
        assert cache.states[0].cross.projected[0].shape[0] == 2
        layout = given["context_layout"]
        rows = layout.pad(given["context"]).repeat_interleave(3, 0)
        keep = layout.keep.repeat_interleave(3, 0)
        every = Layout.from_keep(keep)
        expected = stack(x, Layout.dense(6, 1), context=every.take(rows, keep), context_layout=every)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_what_does_not_fit_is_said() -> None:
    stack = build(BASE)
    cache = Cache(stack, 2, 3)
    with pytest.raises(ValueError, match="holds 2 sequences, 3 came"):
        stack(torch.randn(3, 24), Layout.dense(3, 1), cache=cache)
    with pytest.raises(ValueError, match="room for 3 tokens per sequence, 4 are needed"):
        stack(torch.randn(8, 24), cache.next(4), cache=cache)
    stack(torch.randn(4, 24), cache.next(2), cache=cache)
    with pytest.raises(ValueError, match="tokens from position 0 on came, the next is 2"):
        stack(torch.randn(2, 24), Layout.dense(2, 1), cache=cache)
    with pytest.raises(ValueError, match=r"x is of shape \(20, 24\), expected \(10, 24\) by its layout"):
        stack(torch.randn(20, 24), Layout.dense(2, 5))
    with pytest.raises(ValueError, match="only a causal stack"):
        Cache(build(BASE.replace(causal=False)), 2, 3)
    with pytest.raises(ValueError, match="needs a context"):
        build(BASE.replace(cross=True))(torch.randn(2, 24), Layout.dense(1, 2))


def test_tokens_at_other_places_than_the_next_are_refused() -> None:
    """Keys stand where their slots say; a ragged cache has no one place where all go on."""
    stack, keep = build(BASE.replace(position=ALiBi()), torch.float64), torch.tensor([[True] * 3, [True, True, False]])
    x = torch.randn(2, 5, 24, dtype=torch.float64)
    cache = Cache(stack, 2, 8)
    layout = cache.next(keep=keep)
    stack(layout.take(x[:, :3], keep), layout, cache=cache)
    late = cache.next()
    cache.reorder(torch.tensor([1, 0]))
    with pytest.raises(ValueError, match="at other positions"):  # made for rows as they stood before
        stack(x[:, 3], late, cache=cache)
    cache.reorder(torch.tensor([1, 0]))
    mine = Layout.dense(2, 2, pos=torch.tensor([[3, 4], [2, 3]]))
    wrong = [
        Layout.dense(2, 2, start=3),
        Layout.from_keep(torch.tensor([[True, True], [True, False]])),
        Layout.dense(2, 2, pos=torch.tensor([[3, 4], [3, 4]])),
        Layout.dense(2, 2, pos=torch.tensor([[3, 5], [2, 4]])),
    ]
    for other in wrong:
        with pytest.raises(ValueError, match="at other positions than follow on what the cache holds: see `next`"):
            stack(x[:, :1].expand(-1, 2, -1).flatten(0, 1)[: other.tokens], other, cache=cache)
    assert cache.filled == 3
    out = stack(x[:, 3:].flatten(0, 1), mine, cache=cache)
    alone = torch.cat((x[1, :2], x[1, 3:]))
    torch.testing.assert_close(out[2:], stack(alone, Layout.dense(1, 4))[2:], rtol=0, atol=1e-12)
    even = Cache(stack, 1, 8)
    with pytest.raises(ValueError, match="at other positions"):
        stack(x[0], Layout.dense(1, 5, pos=torch.tensor([[0, 2, 4, 6, 8]])), cache=even)


TWO_AXES = {"two axes": Rotary(), "sines of two axes": Sinusoidal()}


@pytest.mark.parametrize("ragged", [False, True], ids=["even", "ragged"])
@pytest.mark.parametrize("position", [*POSITIONS, *TWO_AXES])
def test_positions_of_their_own_through_a_cache(position: str, ragged: bool, device: torch.device) -> None:
    """Places in a picture that is written patch by patch, or with gaps: as one pass has them, reordered too."""
    config = BASE.replace(position=(POSITIONS | TWO_AXES)[position], head_dim=8)
    stack = build(config, torch.float64).to(device)
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(3, 6, 24, dtype=torch.float64, generator=draw).to(device)
    pos = torch.randint(0, 12, (3, 6, 2) if position in TWO_AXES else (3, 6), generator=draw).to(device)
    keep = torch.ones(3, 6, dtype=torch.bool, device=device)
    if ragged:
        keep[1, 0] = keep[2, 1:3] = keep[0, 4] = False
    rows = torch.tensor([2, 0, 0], device=device)
    with torch.no_grad():
        cache = Cache(stack, 3, 6)
        for begin, end in ((0, 3), (3, 4), (4, 6)):
            part = slice(begin, end)
            some = keep[:, part] if ragged else None
            layout = cache.next(keep=some, pos=pos[:, part])
            out = layout.give(stack(layout.take(x[:, part], some), layout, cache=cache), some)
            whole = Layout.from_keep(keep[:, :end], pos=pos[:, :end])
            expected = whole.give(stack(whole.take(x[:, :end], keep[:, :end]), whole), keep[:, :end])
            torch.testing.assert_close(out, expected[:, part], rtol=0, atol=1e-12)
            if begin == 3:
                cache.reorder(rows)
                x, pos, keep = (torch.cat((y[rows, :end], y[:, end:]), 1) for y in (x, pos, keep))
        counted = Layout.from_keep(keep)
        if position != "none":  # negative control: positions that count are others
            other = counted.give(stack(counted.take(x, keep), counted), keep)
            assert (other - expected).abs().max() > 1e-3 or position in TWO_AXES


def test_positions_are_given_for_all_tokens_or_for_none() -> None:
    stack, x = build(BASE.replace(position=Rotary())), torch.randn(2, 24)
    given, counted = Cache(stack, 2, 4), Cache(stack, 2, 4)
    pos = torch.tensor([[3], [5]])
    with pytest.raises(ValueError, match="expected"):
        stack(x[:, :5], counted.next(pos=pos), cache=counted)  # which leaves nothing behind
    stack(x, given.next(pos=pos), cache=given)
    stack(x, counted.next(), cache=counted)
    with pytest.raises(ValueError, match=r"tokens held were given positions of their own \(pos\): so must the next"):
        given.next()
    with pytest.raises(ValueError, match=r"tokens held came without positions of their own"):
        counted.next(pos=pos)
    for other, said in {
        pos.int(): r"pos has axes \(\) and torch.int32, that of the tokens held \(\) and torch.int64",
        torch.zeros(2, 1, 2, dtype=torch.long): r"pos has axes \(2,\) and torch.int64, that of the tokens held \(\)",
        torch.zeros(2, dtype=torch.long): r"pos is of shape \(2,\), expected \(2, n\) or \(2, n, a\)",
        torch.zeros(3, 1, dtype=torch.long): r"pos is of shape \(3, 1\), expected",
    }.items():
        with pytest.raises(ValueError, match=said):
            given.next(pos=other)
    for other in (Layout.dense(2, 1, pos=pos), Layout.dense(2, 1, start=1)):
        with pytest.raises(ValueError, match="at positions that the cache was not told: see `next`"):
            stack(x, other, cache=given)


def test_a_cache_that_holds_no_source_needs_one() -> None:
    stack = build(BASE.replace(cross=True))
    cache, layout = Cache(stack, 2, 4), Layout.dense(2, 3)
    with pytest.raises(ValueError, match="needs a context, its states and their layout"):
        stack(torch.randn(2, 24), cache.next(), cache=cache, context_layout=layout)
    stack(torch.randn(2, 24), cache.next(), cache=cache, context=torch.randn(6, 24), context_layout=layout)
    assert stack(torch.randn(2, 24), cache.next(), cache=cache, context_layout=layout).shape == (2, 24)


def test_the_door_says_what_would_be_right() -> None:
    """What a newcomer types first: rows in place of flat tokens, tokens in place of states, half of a context."""
    stack, looking = build(BASE), build(BASE.replace(cross=True))
    rows, layout = torch.randn(2, 5, 24), Layout.dense(2, 5)
    flat = layout.take(rows, None)
    for wrong in (rows, flat[:, :16], torch.zeros(10, dtype=torch.long)):
        with pytest.raises(ValueError, match=r"expected \(10, 24\) by its layout: .*layout\.take\(rows, keep\)"):
            stack(wrong, layout)
    with pytest.raises(ValueError, match=r"context is of shape \(2, 5, 24\), expected \(10, 24\)"):
        looking(flat, layout, context=rows, context_layout=layout)
    for half in ({"context": flat}, {"context_layout": layout}):
        with pytest.raises(ValueError, match="needs a context, its states and their layout"):
            looking(flat, layout, **half)
        with pytest.raises(ValueError, match="leave it out, or set cross=True"):
            stack(flat, layout, **half)
    q = torch.randn(2, 4, 5, 6)
    for wrong in (q, flat):
        with pytest.raises(ValueError, match=r"expected \(10, heads, width\): .*layout\.by_token"):
            attend(wrong, q, q, queries=layout, keys=layout, scale=1.0)
    assert attend(layout.by_token(q), q, q, queries=layout, keys=layout, scale=1.0).shape == (10, 4, 6)
