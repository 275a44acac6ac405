"""Attention maps: those that the model used, which the recorder proves, and the proof can fail."""

import pytest
import torch

import zoo.core.record as recorder
from tests.core.architectures import ALL, build, context
from zoo.core import Cache, Layout, Rotary, StackConfig
from zoo.core.attention import SelfAttention
from zoo.core.record import record

ATTENDING = {name: config for name, config in ALL.items() if type(config.mixer).__name__ == "Attention"}
KEEP = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [False] * 5 + [True]])
BASE = StackConfig(dim=24, depth=3, heads=4, position=Rotary(), causal=True)


@pytest.mark.parametrize("chunk", [2, 256])
@pytest.mark.parametrize("name", ATTENDING)
def test_maps_are_the_ones_the_model_used(name: str, chunk: int) -> None:
    config = ATTENDING[name]
    stack, given = build(config), context(config, 3)
    layout = Layout.from_keep(KEEP)
    x = torch.randn(layout.tokens, config.dim)
    expected = stack(x, layout, **given)
    for which in ("self", "cross") if config.cross else ("self",):
        with record(stack, which=which, chunk=chunk) as maps:
            assert torch.equal(stack(x, layout, **given), expected)
        assert len(maps) == config.depth
        for found in maps:
            assert found.error < 1e-5
            keys = layout if which == "self" else given["context_layout"]
            assert found.weights.shape == (3, config.heads, layout.length, keys.length)
            rows = found.weights.sum(-1)
            torch.testing.assert_close(rows, layout.keep.float()[:, None].expand_as(rows))
            hidden = found.weights.masked_select(~keys.keep[:, None, None].expand_as(found.weights))
            assert hidden.abs().sum() == 0
            if which == "self" and config.causal:
                assert found.weights.triu(1).abs().sum() == 0


def test_another_kernel_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: maps that are not the kernel's have a large error."""
    stack, layout = build(BASE), Layout.dense(2, 5)
    real = recorder.attend
    monkeypatch.setattr(recorder, "attend", lambda *a, **k: real(*a, **(k | {"scale": 2 * k["scale"]})))
    with record(stack) as maps:
        stack(torch.randn(10, 24), layout)
    assert min(found.error for found in maps) > 1e-3


def test_layers_are_chosen_from_both_ends_and_named() -> None:
    stack = build(BASE)
    with record(stack, layers=[0, -1]) as maps:
        stack(torch.randn(4, 24), Layout.dense(1, 4))
    assert [found.name for found in maps] == ["blocks.0.mixer.branch", "blocks.2.mixer.branch"]
    with pytest.raises(ValueError, match="layer 3 does not exist: the model has 3 self attentions"), record(stack, [3]):
        pass


def test_every_step_of_a_decoding_loop_is_seen() -> None:
    stack = build(BASE)
    x = torch.randn(2, 4, 24)
    with record(stack, [0]) as whole, torch.no_grad():
        stack(x.flatten(0, 1), Layout.dense(2, 4))
    cache = Cache(stack, 2, 4)
    with record(stack, [0]) as steps, torch.no_grad():
        for i in range(4):
            stack(x[:, i], cache.next(), cache=cache)
    for i, step in enumerate(steps):
        torch.testing.assert_close(step.weights[:, :, 0], whole[0].weights[:, :, i, : i + 1])


def test_nothing_stays_behind() -> None:
    stack = build(BASE)
    with pytest.raises(RuntimeError, match="on purpose"), record(stack):
        raise RuntimeError("on purpose")
    assert all("attend" not in part.__dict__ for part in stack.modules() if isinstance(part, SelfAttention))
