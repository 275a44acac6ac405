"""The core on the device: here the CPU, under `-m gpu` CUDA, where other kernels serve. Held against float64."""

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.core.architectures import ALL, build, context
from tests.core.test_compile import differences
from zoo.check import promises
from zoo.core import Cache, Layout, RMSNorm, StackConfig, attend
from zoo.core.attend import KERNELS, attention_weights, choose, each_query_head, visible
from zoo.core.record import record

SEAM = sys.modules["zoo.core.attend"]  # zoo.core.attend is the function
# Sums of some terms of about 1, each rounded to the precision of the type (2**-24, 2**-8, 2**-11), as their result is.
NEAR = {torch.float32: 5e-6, torch.bfloat16: 3e-2, torch.float16: 4e-3}
LENGTHS = {"dense": [6, 6, 6], "packed": [6, 2, 5]}
HEADS, WIDTH = 4, 16


def formula(q: Tensor, k: Tensor, v: Tensor, queries: Layout, keys: Layout, causal: bool) -> Tensor:
    """softmax(q k' / 4) v in float64 on the CPU, from rows that `visible` hides."""
    q, k, v = (x.detach().cpu().double() for x in (q, k, v))
    q, k, v = queries.by_head(q), keys.by_head(k), keys.by_head(v)
    mask, past = visible(queries, keys, causal=causal)
    return queries.by_token(attention_weights(q, k, mask, past, None, 0.25) @ each_query_head(v, q))


def layouts(lengths: list[int], device: torch.device) -> tuple[Layout, Layout]:
    """A layout on the device, and the same on the CPU."""
    there, here = (Layout.packed_from(torch.tensor(lengths, device=d)) for d in (device, "cpu"))
    return there, here


def parts(layout: Layout, groups: int, dtype: torch.dtype, device: torch.device, **options: Any) -> list[Tensor]:
    return [
        torch.randn(layout.tokens, heads, WIDTH).to(device, dtype).requires_grad_(**options)
        for heads in (HEADS, groups, groups)
    ]


def kernels(dtype: torch.dtype, device: torch.device, layout: Layout, bias: Tensor | None) -> list[str | None]:
    """Every kernel that serves such inputs, and None: the one that is chosen."""
    flash = device.type == "cuda" and dtype != torch.float32 and layout.packed and bias is None
    return [None, *KERNELS, *(["varlen"] if flash else [])]


@pytest.mark.parametrize("dtype", NEAR, ids=str)
@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("shape", LENGTHS)
def test_every_kernel_is_the_formula(
    shape: str, causal: bool, groups: int, dtype: torch.dtype, device: torch.device
) -> None:
    layout, here = layouts(LENGTHS[shape], device)
    inputs = parts(layout, groups, dtype, device, requires_grad=True)
    expected = formula(*inputs, here, here, causal)
    flash = device.type == "cuda" and dtype != torch.float32 and layout.packed
    if device.type == "cuda":
        assert choose(inputs[0], layout, layout, None, 0.0, training=True) == ("varlen" if flash else "fused")
    gradients = []
    for kernel in kernels(dtype, device, layout, None):
        out = attend(*inputs, queries=layout, keys=layout, causal=causal, scale=0.25, kernel=kernel)
        assert (out.device.type, out.dtype) == (device.type, dtype)
        torch.testing.assert_close(out.detach().cpu().double(), expected, rtol=0, atol=NEAR[dtype])
        gradients.append(torch.autograd.grad(out.float().square().sum(), inputs))
    for found in gradients[1:]:
        for a, b in zip(found, gradients[0], strict=True):
            assert (a - b).norm() <= 10 * NEAR[dtype] * b.norm()


@pytest.mark.parametrize("dtype", NEAR, ids=str)
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("shape", LENGTHS)
def test_a_bias_that_learns_gets_its_gradient_from_every_kernel(
    shape: str, causal: bool, dtype: torch.dtype, device: torch.device
) -> None:
    layout, here = layouts(LENGTHS[shape], device)
    inputs = parts(layout, HEADS, dtype, device, requires_grad=False)
    bias = torch.randn(HEADS, layout.length, layout.length).to(device, dtype).requires_grad_()
    if device.type == "cuda":
        assert choose(inputs[0], layout, layout, bias, 0.0, training=True) == "fused"
    exact = bias.detach().cpu().double().requires_grad_()
    q, k, v = (here.by_head(x.cpu().double()) for x in inputs)
    mask, past = visible(here, here, causal=causal)
    expected = here.by_token(attention_weights(q, k, mask, past, exact, 0.25) @ v)
    (wanted,) = torch.autograd.grad(expected.square().sum(), exact)
    for kernel in kernels(dtype, device, layout, bias):
        out = attend(*inputs, queries=layout, keys=layout, causal=causal, bias=bias, scale=0.25, kernel=kernel)
        torch.testing.assert_close(out.detach().cpu().double(), expected.detach(), rtol=0, atol=2 * NEAR[dtype])
        (got,) = torch.autograd.grad(out.float().square().sum(), bias)
        assert (got.cpu().double() - wanted).norm() <= 10 * NEAR[dtype] * wanted.norm()


def stand_in(
    q: Tensor, k: Tensor, v: Tensor, begin: Tensor, key_begin: Tensor, most: int, key_most: int, **options: Any
) -> Tensor:
    """What flash attention over packed tokens computes, sequence by sequence, where there is no such kernel."""
    causal = options["window_size"] == (-1, 0)
    assert causal or options["window_size"] == (-1, -1)
    outs = []
    for i in range(len(begin) - 1):
        rows, columns = slice(begin[i], begin[i + 1]), slice(key_begin[i], key_begin[i + 1])
        mask = torch.ones(rows.stop - rows.start, columns.stop - columns.start, dtype=torch.bool)
        assert mask.shape[0] <= most
        assert mask.shape[1] <= key_most
        mask = mask.tril(mask.shape[1] - mask.shape[0]) if causal else mask
        heads = (x.transpose(0, 1) for x in (q[rows], k[columns], v[columns]))
        out = torch.nn.functional.scaled_dot_product_attention(*heads, attn_mask=mask, scale=options["scale"])
        outs.append(out.transpose(0, 1))
    return torch.cat(outs)


@pytest.mark.parametrize("held", ["flat", "rows"])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("keyed", [[6, 2, 5], [7, 3, 9]], ids=["self", "cross"])
def test_flash_attention_over_packed_tokens(
    keyed: list[int], causal: bool, held: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys as they come, and in the rows in which a cache holds a source; the last query sees the last key."""
    if device.type == "cpu":
        monkeypatch.setattr(SEAM, "varlen_attn", stand_in)
    (queries, here), (keys, keys_here) = (layouts(lengths, device) for lengths in ([6, 2, 5], keyed))
    q = torch.randn(queries.tokens, HEADS, WIDTH).to(device, torch.bfloat16)
    k, v = (torch.randn(keys.tokens, 2, WIDTH).to(device, torch.bfloat16) for _ in range(2))
    expected = formula(q, k, v, here, keys_here, causal)
    given = (k, v) if held == "flat" else (keys.by_head(k), keys.by_head(v))
    out = attend(q, *given, queries=queries, keys=keys, causal=causal, scale=0.25, kernel="varlen")
    torch.testing.assert_close(out.cpu().double(), expected, rtol=0, atol=NEAR[torch.bfloat16])


@pytest.mark.parametrize("precision", ["float32", "autocast"])
@pytest.mark.parametrize("name", ALL)
def test_every_architecture_is_what_it_is_in_float64(name: str, precision: str, device: torch.device) -> None:
    """Outputs and gradients; under autocast in bfloat16 within a tenth of their size, norms and rotations included."""
    config = ALL[name]
    x = torch.randn(len(promises.PADDINGS["left"]), 7, config.dim, dtype=torch.float64)
    wanted = torch.randn(x.shape, dtype=torch.float64)
    found = []
    for where, dtype in (("cpu", torch.float64), (device, torch.float32)):
        stack, keep = build(config, torch.float64, where).to(dtype).train(), promises.keep_of("left", where)
        layout, given = Layout.from_keep(keep), context(config, len(keep), torch.float64, where)
        if given:
            given["context"] = given["context"].to(dtype)
        half = where == device and precision == "autocast"
        with torch.autocast(torch.device(where).type, torch.bfloat16, enabled=half):
            out = stack(layout.take(x.to(where, dtype), keep), layout, **given)
        loss = (out.to(dtype) * layout.take(wanted.to(where, dtype), keep)).sum()
        gradients = torch.autograd.grad(loss, list(stack.parameters()))
        found.append([part.detach().cpu().double() for part in (out, torch.cat([g.flatten() for g in gradients]))])
    for exact, ours in zip(*found, strict=True):
        assert ours.isfinite().all()
        assert (ours - exact).norm() <= (1e-5 if precision == "float32" else 0.1) * exact.norm()


@pytest.mark.parametrize("dtype", NEAR, ids=str)
def test_rms_norm_is_its_formula_on_the_device(dtype: torch.dtype, device: torch.device) -> None:
    norm = RMSNorm(eps=1e-3).build(24)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
    norm = norm.to(device, dtype)
    x = torch.randn(5, 3, 24).to(device, dtype).requires_grad_()
    exact, weight = (p.detach().cpu().double().requires_grad_() for p in (x, norm.weight))
    expected = exact / (exact.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight
    out, wanted = norm(x), torch.randn(5, 3, 24)
    assert out.dtype == dtype
    torch.testing.assert_close(out.detach().cpu().double(), expected.detach(), rtol=2**-7, atol=NEAR[dtype])
    got = torch.autograd.grad(out, [x, norm.weight], wanted.to(device, dtype))
    right = torch.autograd.grad(expected, [exact, weight], wanted.double())
    for ours, theirs in zip(got, right, strict=True):
        assert (ours.cpu().double() - theirs).norm() <= 3 * NEAR[dtype] * theirs.norm()


@pytest.mark.parametrize("which", ["self", "cross"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_recorded_maps_prove_themselves_on_the_device(dtype: torch.dtype, which: str, device: torch.device) -> None:
    """Ragged, and on CUDA in halves from flash attention over packed tokens; the cached steps after it too."""
    config = StackConfig(dim=32, depth=2, heads=4, kv_heads=2, causal=True, cross=True)
    stack, keep = build(config, dtype, device), promises.keep_of("left", device)
    given = context(config, len(keep), dtype, device)
    x = torch.randn(*keep.shape, config.dim).to(device, dtype)
    with torch.no_grad():
        layout = Layout.from_keep(keep)
        whole = layout.give(stack(layout.take(x, keep), layout, **given), keep)
        with record(stack, which=which) as maps:
            again = layout.give(stack(layout.take(x, keep), layout, **given), keep)
            cache = Cache(stack, len(keep), keep.shape[1])
            steps = []
            for part in (slice(0, 5), slice(5, 6), slice(6, 7)):
                layout = cache.next(keep=keep[:, part])
                states = stack(layout.take(x[:, part], keep[:, part]), layout, cache=cache, **given)
                steps.append(layout.give(states, keep[:, part]))
    assert torch.equal(again, whole)
    assert len(maps) == 4 * config.depth
    assert max(found.error for found in maps) < 2 * NEAR[dtype]
    assert (torch.cat(steps, 1) - whole).norm() < 5 * NEAR[dtype] * whole.norm()


@pytest.mark.slow
@pytest.mark.timeout(900)  # a compiler is at work
def test_compiled_code_agrees_on_the_device(device: torch.device) -> None:
    assert max(differences(ALL["gpt2_small/stack"], "inductor", device=device)) < 2e-5
