"""Attention maps: those that the model used, which the recorder proves, and the proof can fail."""

import sys

import pytest
import torch

from tests.core.architectures import ALL, build, context
from zoo.core import Cache, Layout, Rotary, StackConfig
from zoo.core.attention import MultiHead, SelfAttention
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
    real = MultiHead.attend
    other = staticmethod(lambda *a, **k: real(*a, **(k | {"scale": 2 * k["scale"]})))
    monkeypatch.setattr(MultiHead, "attend", other)
    with record(stack) as maps:
        stack(torch.randn(10, 24), layout)
    assert min(found.error for found in maps) > 1e-3


def test_blocks_that_are_computed_twice_have_one_map() -> None:
    stack, x, layout = build(BASE).train(), torch.randn(10, 24), Layout.dense(2, 5)
    for block in stack.blocks:
        block.checkpointed = True
    with record(stack, gradients=True) as maps:
        stack(x, layout).square().sum().backward()
    assert len(maps) == 3
    assert all(found.gradient is not None for found in maps)
    assert all(block.checkpointed for block in stack.blocks)


def test_a_record_within_another_takes_nothing_from_it() -> None:
    stack, x, layout = build(BASE), torch.randn(10, 24), Layout.dense(2, 5)
    with record(stack) as outer:
        stack(x, layout)
        with record(stack, layers=[1]) as inner:
            stack(x, layout)
        stack(x, layout)
    assert (len(outer), len(inner)) == (9, 1)
    stack(x, layout)
    assert len(outer) == 9


def test_layers_are_chosen_from_both_ends_and_named() -> None:
    stack = build(BASE)
    with record(stack, layers=[0, -1]) as maps:
        stack(torch.randn(4, 24), Layout.dense(1, 4))
    assert [found.name for found in maps] == ["blocks.0.mixer.branch", "blocks.2.mixer.branch"]
    with pytest.raises(ValueError, match="layer 3 does not exist: the model has 3 self attentions"), record(stack, [3]):
        pass


def test_a_kind_of_attention_that_does_not_exist_is_refused() -> None:
    with (
        pytest.raises(ValueError, match="which: 'croos' is not one of 'self', 'cross'"),
        record(build(BASE), which="croos"),
    ):
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


class Explicit:
    """While open, attention is the formula written out, and every map keeps its gradient."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        seam = sys.modules["zoo.core.attend"]  # its function has the same name
        self.kept: list[torch.Tensor] = []
        self.real = seam.attention_weights
        monkeypatch.setattr(seam, "attention_weights", self.keep)
        monkeypatch.setattr(seam, "choose", lambda *args, **options: "explicit")

    def keep(self, *args: object) -> torch.Tensor:
        self.kept.append(self.real(*args))
        self.kept[-1].retain_grad()
        return self.kept[-1]


@pytest.mark.parametrize("name", ATTENDING)
def test_gradients_of_maps_are_those_of_the_formula_written_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ATTENDING[name]
    stack, given = build(config).double(), context(config, 3, torch.float64)
    layout = Layout.from_keep(KEEP)
    x, direction = (torch.randn(layout.tokens, config.dim, dtype=torch.float64) for _ in range(2))
    for which in ("self", "cross") if config.cross else ("self",):
        with record(stack, which=which, gradients=True) as maps:
            (stack(x, layout, **given) * direction).sum().backward()
        with monkeypatch.context() as patch:
            explicit = Explicit(patch)
            (stack(x, layout, **given) * direction).sum().backward()
        every = 2 if config.cross else 1  # self and cross attention take turns
        expected = explicit.kept[int(which == "cross") :: every]
        assert len(maps) == len(expected) == config.depth
        real = layout.keep[:, None, :, None]
        for found, weights in zip(maps, expected, strict=True):
            mask = real & (found.weights > 0)
            torch.testing.assert_close(found.gradient * mask, weights.grad * mask, rtol=1e-6, atol=1e-9)
            assert (found.gradient * mask).abs().sum() > 0


def test_rollout_of_two_layers_by_hand() -> None:
    from zoo.core.record import Map
    from zoo.core.rollout import rollout, weighted_rollout

    first, second = (torch.rand(2, 3, 4, 4).softmax(-1) for _ in range(2))
    maps = [Map("a", first, 0.0), Map("b", second, 0.0)]
    same = torch.eye(4)
    expected = (second.mean(1) / 2 + same / 2) @ (first.mean(1) / 2 + same / 2)
    torch.testing.assert_close(rollout(maps), expected)
    torch.testing.assert_close(rollout(maps).sum(-1), torch.ones(2, 4))
    with pytest.raises(ValueError, match="a has no gradient"):
        weighted_rollout(maps)
    for found in maps:
        found.gradient = torch.randn(2, 3, 4, 4)
    one, two = ((found.gradient * found.weights).clamp(min=0).mean(1) for found in maps)
    torch.testing.assert_close(weighted_rollout(maps), same + one + two + two @ one)
