"""No token sees what it must not: the future where causal, padding, other sequences."""

import pytest
import torch

from tests.core.architectures import ALL, build, context, one_context
from zoo.core import Layout

KEEPS = {
    "right": [[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]],
    "left": [[1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1]],
    "between": [[1, 0, 1, 0, 1, 1, 0], [0, 1, 1, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1, 1]],
}


def keep_of(name: str) -> torch.Tensor:
    return torch.tensor(KEEPS[name], dtype=torch.bool)


def influence(config, tokens: int = 6) -> torch.Tensor:
    """ "n n": how much output i depends on input j."""
    stack = build(config, torch.float64)
    x = torch.randn(tokens, config.dim, dtype=torch.float64, requires_grad=True)
    y = stack(x, Layout.dense(1, tokens), **context(config, 1, torch.float64))
    rows = []
    for i in range(tokens):
        (g,) = torch.autograd.grad((y[i] * torch.randn(config.dim, dtype=torch.float64)).sum(), x, retain_graph=True)
        rows.append(g.abs().sum(-1))
    return torch.stack(rows)


@pytest.mark.parametrize("name", ALL)
def test_the_future_is_seen_exactly_when_not_causal(name: str) -> None:
    config = ALL[name]
    future = influence(config).triu(1)
    if config.causal:
        assert future.abs().max() == 0
    else:
        assert (future[torch.ones(6, 6).triu(1).bool()] > 0).all()


@pytest.mark.parametrize("name", ALL)
def test_the_past_is_always_seen(name: str) -> None:
    seen = influence(ALL[name])
    assert (seen[torch.ones(6, 6).tril().bool()] > 0).all()


@pytest.mark.parametrize("side", KEEPS)
@pytest.mark.parametrize("name", ALL)
def test_padding_has_no_gradient_and_its_values_change_no_bit(name: str, side: str) -> None:
    config, keep = ALL[name], keep_of(side)
    stack, given = build(config), context(config, 3)
    layout = Layout.from_keep(keep)
    x = torch.randn(*keep.shape, config.dim, requires_grad=True)
    y = stack(layout.take(x, keep), layout, **given)
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    assert gradient[~keep].abs().max() == 0
    assert (gradient[keep].abs().sum(-1) > 0).all()
    for poison in (float("nan"), 1e30):
        spoiled = x.detach().masked_fill(~keep.unsqueeze(-1), poison)
        assert torch.equal(stack(layout.take(spoiled, keep), layout, **given), y)


@pytest.mark.parametrize("side", KEEPS)
@pytest.mark.parametrize("name", ALL)
def test_packed_is_one_by_one(name: str, side: str) -> None:
    """Float64, so that the only differences left are of the order of sums: 1e-12."""
    config, keep = ALL[name], keep_of(side)
    stack, given = build(config, torch.float64), context(config, 3, torch.float64)
    layout = Layout.from_keep(keep)
    x = torch.randn(*keep.shape, config.dim, dtype=torch.float64)
    together = layout.give(stack(layout.take(x, keep), layout, **given), keep)
    assert together[~keep].abs().sum() == 0
    for row in range(3):
        alone = x[row][keep[row]]
        out = stack(alone, Layout.dense(1, len(alone)), **one_context(given, row))
        torch.testing.assert_close(together[row][keep[row]], out, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_the_amount_of_padding_changes_little(name: str) -> None:
    """Other kernels may serve another width: float32 outputs of order 1 agree to 2e-5."""
    config = ALL[name]
    stack, given = build(config), context(config, 2)
    x = torch.randn(2, 4, config.dim)
    outs = []
    for extra in (1, 9):
        keep = torch.zeros(2, 4 + extra, dtype=torch.bool)
        keep[:, :4] = True
        keep[1, 3] = False
        layout = Layout.from_keep(keep)
        rows = torch.cat((x, torch.zeros(2, extra, config.dim)), 1)
        outs.append(layout.give(stack(layout.take(rows, keep), layout, **given), keep)[:, :4])
    torch.testing.assert_close(*outs, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ALL)
def test_an_empty_sequence_is_no_accident(name: str) -> None:
    """A row without any token, and a source without any: no NaN in outputs or gradients."""
    config = ALL[name]
    keep = torch.tensor([[True] * 3, [False] * 3, [True, False, False]])
    stack = build(config)
    given = context(config, 3)
    if given:
        source = torch.tensor([[True] * 4, [True] * 4, [False] * 4])
        given = {"context": torch.randn(8, config.dim), "context_layout": Layout.from_keep(source)}
    layout = Layout.from_keep(keep)
    x = torch.randn(3, 3, config.dim, requires_grad=True)
    out = stack(layout.take(x, keep), layout, **given)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in stack.parameters())
