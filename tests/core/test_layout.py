"""The one place that knows padding: every token finds its way into the flat run and back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.core import Layout
from zoo.core.layout import gather, inverse_of, scatter

keeps = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=5)
)


@given(keeps)
def test_there_and_back(rows: list[list[bool]]) -> None:
    keep = torch.tensor(rows)
    x = torch.randn(*keep.shape, 3)
    layout = Layout.from_keep(keep)
    tokens = layout.take(x, keep)
    assert len(tokens) == layout.tokens
    assert torch.equal(layout.give(tokens, keep), x * keep.unsqueeze(-1))
    padded = layout.pad(tokens)
    assert torch.equal(layout.pack(padded), tokens)
    for row, mask in enumerate(keep):  # a sequence's tokens stand first in its row, in order, and zeros behind
        count = int(mask.sum())
        assert torch.equal(padded[row, :count], x[row][mask])
        assert padded[row, count:].abs().sum() == 0


@given(keeps)
def test_positions_count_real_tokens(rows: list[list[bool]]) -> None:
    keep = torch.tensor(rows)
    layout = Layout.from_keep(keep)
    assert layout.pos.tolist() == [i for mask in rows for i in range(sum(mask))]
    assert bool((layout.pos < layout.reach).all())
    begun = Layout.from_keep(keep, start=torch.full((len(rows),), 4))
    assert begun.pos.tolist() == [4 + i for mask in rows for i in range(sum(mask))]


@given(keeps)
def test_offsets_say_where_sequences_begin(rows: list[list[bool]]) -> None:
    layout = Layout.from_keep(torch.tensor(rows))
    if not layout.packed:
        assert all(all(mask) for mask in rows)
        return
    lengths = [sum(mask) for mask in rows]
    assert layout.lengths.tolist() == lengths
    assert layout.offsets.tolist() == [sum(lengths[:i]) for i in range(len(rows) + 1)]


@pytest.mark.parametrize("given_pos", ["b n", "b n a"])
def test_positions_of_the_callers_own(given_pos: str) -> None:
    """An image's patches have a row and a column; a patch that is masked out takes its position with it."""
    keep = torch.tensor([[True, False, True, True], [False, True, True, False]])
    pos = torch.arange(8).view(2, 4) if given_pos == "b n" else torch.arange(16).view(2, 4, 2)
    assert torch.equal(Layout.from_keep(keep, pos=pos).pos, pos[keep])
    assert torch.equal(Layout.dense(2, 4, pos=pos).pos, pos.flatten(0, 1))


def test_a_value_for_each_sequence_reaches_its_tokens() -> None:
    keep = torch.tensor([[True, True], [False, True], [False, False]])
    values = torch.tensor([[1.0], [2.0], [3.0]])
    assert Layout.from_keep(keep).spread(values).tolist() == [[1.0], [1.0], [2.0]]
    assert Layout.dense(3, 2).spread(values).flatten().tolist() == [1, 1, 2, 2, 3, 3]


def test_the_last_token_of_each_sequence() -> None:
    keep = torch.tensor([[True, True, True], [False, True, False], [False, True, True]])
    layout = Layout.from_keep(keep)
    assert layout.last(torch.arange(6.0).unsqueeze(-1)).flatten().tolist() == [2, 3, 5]
    assert Layout.dense(2, 3).last(torch.arange(6.0).unsqueeze(-1)).flatten().tolist() == [2, 5]
    nothing = Layout.from_keep(torch.zeros(2, 3, dtype=torch.bool))
    assert nothing.first(torch.empty(0, 1)).tolist() == nothing.last(torch.empty(0, 1)).tolist() == [[0], [0]]


@pytest.mark.parametrize("dim", [0, 1])
def test_the_two_moves_and_their_gradients(dim: int) -> None:
    index = torch.tensor([4, 0, 3])
    back = inverse_of(index, 6)
    assert back.tolist() == [1, 3, 3, 2, 0, 3]
    x = torch.randn(3, 3, 2, dtype=torch.float64, requires_grad=True)
    slots = scatter(x, index, back, dim)
    assert torch.equal(slots.index_select(dim, index), x)
    assert not slots.index_select(dim, torch.tensor([1, 2, 5])).any()
    assert torch.equal(gather(slots, index, back, dim), x)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda x: scatter(x, index, back, dim), (x,))
        assert check(lambda y: gather(y, index, back, dim), (slots.detach().requires_grad_(),))


def test_sources_are_shared_by_whole_groups_only() -> None:
    shared = Layout.dense(6, 1).share(2)
    assert (shared.batch, shared.length, shared.tokens) == (2, 3, 6)
    with pytest.raises(ValueError, match="6 sequences cannot share 4 sources"):
        Layout.dense(6, 1).share(4)


@pytest.mark.parametrize(
    "keep", [torch.tensor([[1, 1, 0], [1, 1, 1]]), torch.tensor([True, False]), torch.ones(1, 2, 3).bool()]
)
def test_a_mask_that_is_none_is_refused(keep: torch.Tensor) -> None:
    """Ones and zeros would be taken for the numbers of rows where tokens are taken."""
    with pytest.raises(ValueError, match=r"expected \(sequences, tokens\) of bool.*: .*keep\.bool\(\)"):
        Layout.from_keep(keep)


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_dense_positions_are_one_for_each_token(batch: int) -> None:
    layout = Layout.dense(batch, 5, start=2)
    assert layout.pos.tolist() == batch * [2, 3, 4, 5, 6]
    assert layout.tokens == batch * 5


def test_rows_that_are_none_are_refused() -> None:
    for shape in ((0, 5), (2, 0)):
        with pytest.raises(ValueError, match=rf"{shape[0]} sequences of {shape[1]} tokens came: it holds nothing"):
            Layout.of(torch.zeros(shape), None)
    with pytest.raises(ValueError, match=r"shape \(5,\) came, expected \(sequences, tokens\): .*unsqueeze\(0\)"):
        Layout.of(torch.zeros(5), None)
    with pytest.raises(ValueError, match=r"keep is of shape \(2, 4\), the batch has \(2, 5\)"):
        Layout.of(torch.zeros(2, 5), torch.ones(2, 4).bool())


@pytest.mark.parametrize("shape", [(2, 3), (1, 2), (4,), (2, 2, 1, 1)], ids=str)
def test_positions_that_are_not_one_for_each_token_are_refused(shape: tuple[int, ...]) -> None:
    pos, ragged = torch.zeros(shape, dtype=torch.long), torch.tensor([[True, False], [True, True]])
    for wrong in (
        lambda: Layout.dense(2, 2, pos=pos),
        lambda: Layout.from_keep(ragged, pos=pos),
        lambda: Layout.from_keep(ragged | True, pos=pos),
    ):
        with pytest.raises(ValueError, match=r"pos is of shape .*, expected \(2, 2\): a position for each token"):
            wrong()


@pytest.mark.parametrize("keep", [[[1, 1, 0], [1, 1, 1]], [[1, 0]], [[0, 0, 0], [0, 1, 1]], [[0, 0]], [[1, 1]]])
def test_heads_of_tokens_and_rows_both_ways_however_they_lie(keep: list[list[int]]) -> None:
    real = torch.tensor(keep, dtype=torch.bool)
    layout = Layout.from_keep(real)
    x = torch.randn(layout.tokens, 4, 5, dtype=torch.float64, requires_grad=True)
    expected = layout.pad(x).transpose(1, 2)
    wanted = torch.randn_like(expected)
    for heads_first in (False, True):
        rows = layout.by_head(x, heads_first=heads_first)
        assert torch.equal(rows, expected)
        laid = rows.transpose(0, 1)
        assert laid.is_contiguous() or not (heads_first and layout.packed)
        back = layout.by_token(rows)
        assert torch.equal(back, x)
        for out, y in ((rows, wanted), (back, wanted.transpose(1, 2).flatten(0, 1)[: layout.tokens])):
            (grad,) = torch.autograd.grad(out, x, y, retain_graph=True)
            (formula,) = torch.autograd.grad(expected, x, y, retain_graph=True) if out is rows else (y,)
            assert torch.equal(grad, formula)
