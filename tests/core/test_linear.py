"""Who multiplies: oneDNN gives what torch gives, in values and all derivatives, and gives way where it cannot serve."""

import copy
import sys
from collections.abc import Callable
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests.core.architectures import ALL, build, context
from zoo.core import Layout
from zoo.core.kernels import Library
from zoo.core.linear import Linear, _served, add_product, product, product_into
from zoo.train.losses import token_loss

SEAM = sys.modules["zoo.core.linear"]
pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="a torch without oneDNN")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """oneDNN multiplies all that it can, however small; the shapes of what it was given."""
    found: list[tuple[int, ...]] = []
    own = SEAM._onednn

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        found.append(tuple(x.shape))
        return own(x, weight, bias)

    monkeypatch.setattr(SEAM, "_onednn", counted)
    monkeypatch.setattr(SEAM, "_products", "onednn")
    monkeypatch.setattr(SEAM, "LEAST", 0)
    monkeypatch.setattr(SEAM, "LEAST_ROW", 0)
    return found


def given(*shape: int) -> Tensor:
    return torch.randn(*shape, requires_grad=True)


LAYOUTS: dict[str, Callable[[int, int], Tensor]] = {
    "whole": lambda n, i: torch.randn(n, i),
    "transposed": lambda n, i: torch.randn(i, n).t(),
    "every other column": lambda n, i: torch.randn(n, 2 * i)[:, ::2],
    "every other row": lambda n, i: torch.randn(2 * n, i)[::2],
    "one row repeated": lambda n, i: torch.randn(1, i).expand(n, i),
    "with an offset": lambda n, i: torch.randn(n + 1, i + 3)[1:, 3:],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 7, 3), (5, 16, 8), (16, 8, 12), (29, 8, 4), (40, 33, 65)], ids=str)
def test_values_and_gradients_are_torchs(
    calls: list[tuple[int, ...]], shape: tuple[int, int, int], bias: bool, layout: str
) -> None:
    n, i, o = shape
    x, weight, b = LAYOUTS[layout](n, i).requires_grad_(), given(o, i), given(o) if bias else None
    inputs = [x, weight, b] if b is not None else [x, weight]
    wanted = torch.randn(n, o)
    found = []
    for by in get_args(Library):
        out = product(x, weight, b, by=by)
        found.append((out, *torch.autograd.grad(out, inputs, wanted)))
    assert calls
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)


def test_weights_may_be_transposed_and_strange_ones_go_to_torch(calls: list[tuple[int, ...]]) -> None:
    x = torch.randn(8, 6)
    for weight, served in ((torch.randn(6, 4).t(), True), (torch.randn(4, 12)[:, ::2], False)):
        calls.clear()
        torch.testing.assert_close(product(x, weight), x @ weight.t())
        assert bool(calls) == served


def test_what_does_not_fit_is_torchs_to_take_or_to_refuse(calls: list[tuple[int, ...]]) -> None:
    x, weight = torch.randn(4, 8), torch.randn(3, 8)
    for bias in (torch.randn(1), torch.randn(6)[::2]):
        torch.testing.assert_close(product(x, weight, bias), F.linear(x, weight, bias))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        product(x, torch.randn(3, 7))
    assert not _served(x, torch.randn(3, 8, device="meta"), None, "onednn")
    with torch.backends.mkldnn.flags(enabled=False):
        product(x, weight)
    assert not calls


def test_frozen_weights_keep_no_input(calls: list[tuple[int, ...]]) -> None:
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        product(given(4, 8), torch.randn(3, 8))
    assert [tuple(x.shape) for x in kept] == [(3, 8)]


def test_axes_before_the_last_are_kept(calls: list[tuple[int, ...]]) -> None:
    x, weight, bias = given(2, 3, 5, 8), given(4, 8), given(4)
    out = product(x, weight, bias)
    torch.testing.assert_close(out, F.linear(x, weight, bias))
    assert calls == [(30, 8)]
    ours, theirs = (torch.autograd.grad(y.square().sum(), [x, weight, bias]) for y in (out, F.linear(x, weight, bias)))
    torch.testing.assert_close(ours, theirs)
    assert product(torch.randn(0, 8), weight).shape == (0, 4)
    assert product(torch.randn(2, 0, 8), weight).shape == (2, 0, 4)
    assert product(torch.randn(8), weight).shape == (4,)


def test_second_derivatives(calls: list[tuple[int, ...]]) -> None:
    x, weight, bias = given(4, 6), given(3, 6), given(3)

    def penalty(by: Library) -> tuple[Tensor, ...]:
        out = product(x, weight, bias, by=by).tanh()
        (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), [x, weight, bias])

    for ours, theirs in zip(penalty("onednn"), penalty("torch"), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert len(calls) > 3


def test_transforms_and_forward_derivatives_go_through(calls: list[tuple[int, ...]]) -> None:
    layer = Linear(6, 3)
    x, tangent = torch.randn(4, 6), torch.randn(4, 6)
    weights = dict(layer.named_parameters())

    def loss(weights: dict[str, Tensor], row: Tensor) -> Tensor:
        return torch.func.functional_call(layer, weights, (row.unsqueeze(0),)).square().sum()

    every = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, x)
    own = [torch.autograd.grad(loss(weights, row), list(weights.values())) for row in x]
    for name, parts in zip(every, zip(*own, strict=True), strict=True):
        torch.testing.assert_close(every[name], torch.stack(parts))
    for learns in (True, False):
        layer.requires_grad_(learns)
        with torch.autograd.forward_ad.dual_level():
            out = layer(torch.autograd.forward_ad.make_dual(x, tangent))
            found = torch.autograd.forward_ad.unpack_dual(out).tangent
        torch.testing.assert_close(found, tangent @ layer.weight.t())
    wanted = torch.randn(5, 4, 3)
    calls.clear()
    (batched,) = torch.autograd.grad(layer(x.requires_grad_()), x, wanted, is_grads_batched=True)
    assert calls
    torch.testing.assert_close(batched, wanted @ layer.weight)


@pytest.mark.parametrize("case", ["float64", "autocast", "counted", "compiled", "one row", "little", "torch"])
def test_others_multiply_what_onednn_does_not(
    calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    layer, x = Linear(8, 4), torch.randn(5, 8)
    expected = F.linear(x, layer.weight, layer.bias)
    layer(x)
    assert calls  # it would have
    calls.clear()
    if case == "float64":
        layer.double()(x.double())
    elif case == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
    elif case == "counted":
        with FlopCounterMode(display=False) as counter:
            layer(x)
        assert counter.get_total_flops() == 2 * 5 * 8 * 4
    elif case == "compiled":
        torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), expected)
    elif case == "one row":
        monkeypatch.setattr(SEAM, "LEAST_ROW", 33)
        layer(x[:1])
    elif case == "little":
        monkeypatch.setattr(SEAM, "LEAST", 161)
        torch.testing.assert_close(layer(x), expected)
    else:
        monkeypatch.setattr(SEAM, "_products", "torch")
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=0)
    assert not calls


def test_a_layer_is_torchs_in_all_else(calls: list[tuple[int, ...]]) -> None:
    layer = Linear(8, 4)
    assert isinstance(layer, nn.Linear)
    other = nn.Linear(8, 4)
    other.load_state_dict(layer.state_dict())
    twin, x = copy.deepcopy(layer), torch.randn(6, 8)
    torch.testing.assert_close(twin(x), other(x))
    assert Linear(8, 4, device="meta")(torch.empty(3, 8, device="meta")).shape == (3, 4)
    assert str(layer) == str(other)


def test_products_into_memory_that_is_there(calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = torch.randn(5, 8), torch.randn(4, 8), torch.randn(4)
    for library in ("onednn", "torch"):
        monkeypatch.setattr(SEAM, "_products", library)
        for b in (bias, None):
            torch.testing.assert_close(
                product_into(torch.empty(5, 4), x, weight, b), F.linear(x, weight, b), rtol=1e-5, atol=1e-5
            )
        for dtype in (torch.float32, torch.float64):
            total = torch.ones(5, 4, dtype=dtype)
            add_product(total, x, weight)
            torch.testing.assert_close(total, 1 + (x @ weight.t()).to(dtype), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_networks_are_the_same(calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Values and gradients of every architecture, and of the loss behind it."""
    config = ALL[name]
    stack = build(config)
    layout = Layout.packed_from(torch.tensor([7, 4, 9]))
    x, weight, target = torch.randn(20, config.dim), given(11, config.dim), torch.randint(11, (20,))
    found = []
    for library in ("torch", "onednn"):
        monkeypatch.setattr(SEAM, "_products", library)
        loss = token_loss(stack(x, layout, **context(config, 3)), weight, target, chunk=8).loss
        found.append((loss, *torch.autograd.grad(loss, [weight, *stack.parameters()])))
    assert calls
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
