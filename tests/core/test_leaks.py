"""No token sees what it must not: the future where causal, padding, other sequences."""

import pytest
import torch

import zoo.core.attend
from tests.core.architectures import ALL, build, context
from zoo.check import promises
from zoo.core import Layout, Stack

AHEAD = torch.ones(6, 6).triu(1).bool()


@pytest.mark.parametrize("name", ALL)
def test_the_future_is_seen_exactly_when_not_causal_and_the_past_always(name: str, device: torch.device) -> None:
    config = ALL[name]
    seen = promises.influence(config, device=device).cpu()
    assert (seen[~AHEAD] > 0).all()
    if config.causal:
        assert seen[AHEAD].max() == 0
    else:
        assert (seen[AHEAD] > 0).all()


@pytest.mark.parametrize("side", promises.PADDINGS)
@pytest.mark.parametrize("name", ALL)
def test_padding_has_no_gradient_and_its_values_change_no_bit(name: str, side: str, device: torch.device) -> None:
    of_padding, of_tokens, changed = promises.padding(ALL[name], side, device)
    assert of_padding == 0
    assert of_tokens > 0
    assert changed == 0


@pytest.mark.parametrize("side", promises.PADDINGS)
@pytest.mark.parametrize("name", ALL)
def test_packed_is_one_by_one(name: str, side: str, device: torch.device) -> None:
    assert promises.packed(ALL[name], side, device) < 1e-12


@pytest.mark.parametrize("name", ALL)
def test_the_amount_of_padding_changes_little(name: str, device: torch.device) -> None:
    assert promises.amount(ALL[name], device) < 2e-5


def test_a_leak_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a seam that forgets the causal flag, and a layout that forgets the padding."""
    config = ALL["gpt2_small/stack"]
    real = Stack.forward

    def packed_as_one(self: Stack, x: torch.Tensor, layout: Layout, **others: object) -> torch.Tensor:
        return real(self, x, Layout.dense(1, len(x)), **others)

    with monkeypatch.context() as patch:
        patch.setattr(Stack, "forward", packed_as_one)
        assert promises.packed(config, "left") > 1e-3
    visible = zoo.core.attend.__globals__["visible"]
    monkeypatch.setitem(zoo.core.attend.__globals__, "visible", lambda q, k, *, causal: visible(q, k, causal=False))
    assert promises.influence(config)[AHEAD].max() > 1e-3
    assert promises.cached(config, (4, 1, 1), ragged=False) > 1e-3


@pytest.mark.parametrize("name", ALL)
def test_an_empty_sequence_is_no_accident(name: str, device: torch.device) -> None:
    """A row without any token, and a source without any: no NaN in outputs or gradients."""
    config = ALL[name]
    keep = torch.tensor([[True] * 3, [False] * 3, [True, False, False]], device=device)
    stack = build(config, device=device)
    given = context(config, 3)
    if given:
        source = torch.tensor([[True] * 4, [True] * 4, [False] * 4], device=device)
        given = {"context": torch.randn(8, config.dim, device=device), "context_layout": Layout.from_keep(source)}
    layout = Layout.from_keep(keep)
    x = torch.randn(3, 3, config.dim, device=device, requires_grad=True)
    out = stack(layout.take(x, keep), layout, **given)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in stack.parameters())
