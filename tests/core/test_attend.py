"""The seam: which kernel is chosen, that all of them agree with gradients, and that no mask is taken for another."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from tests.core.architectures import build
from zoo.core import Layout, RelativeBuckets, Rotary, Skewed, Stack, StackConfig, attend
from zoo.core.attend import KERNELS, choose, visible
from zoo.core.kernels import (
    THRESHOLDS,
    THRESHOLDS_AVX512,
    Choices,
    Threshold,
    choices_here,
    choices_of,
    load_choices,
    thresholds_file,
)
from zoo.core.position import Position
from zoo.core.processor import units, vendor
from zoo.core.query_blocks import REGISTERS, by_blocks, spare
from zoo.core.relative import Relative

PROCESSOR = sys.modules["zoo.core.processor"]
SEAM = sys.modules["zoo.core.attend"]  # zoo.core.attend is the function
CASES = [
    (causal, groups, bias, ragged) for causal in (0, 1) for groups in (1, 2, 4) for bias in (0, 1) for ragged in (0, 1)
]


@pytest.mark.parametrize(("causal", "groups", "bias", "ragged"), CASES)
def test_kernels_agree_in_values_and_gradients(causal: int, groups: int, bias: int, ragged: int) -> None:
    lengths = torch.tensor([7, 3, 5] if ragged else [7, 7, 7])
    layout = Layout.packed_from(lengths)
    parts = [torch.randn(layout.tokens, h, 8, requires_grad=True) for h in (4, groups, groups)]
    added = torch.randn(4, 7, 7, requires_grad=True) if bias else None
    wanted = torch.randn(layout.tokens, 4, 8)
    found = []
    for kernel in KERNELS:
        out = attend(*parts, queries=layout, keys=layout, causal=bool(causal), bias=added, scale=0.3, kernel=kernel)
        inputs = [*parts, added] if bias else parts
        found.append((out, *torch.autograd.grad((out * wanted).sum(), inputs)))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("ragged", [False, True], ids=["even", "ragged"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [(2, 150, 150), (3, 2, 150, 150), (1, 2, 150, 150), (2, 1, 150)], ids=str)
def test_blocks_of_queries_are_the_formula(shape: tuple[int, ...], causal: bool, ragged: bool) -> None:
    layout = Layout.packed_from(torch.tensor([150, 70, 129] if ragged else [150, 150, 150]))
    q, k, v = torch.randn(3, layout.tokens, 2, 4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    wanted = torch.randn(layout.tokens, 2, 4, dtype=torch.float64)
    found = {}
    for kernel in ("explicit", "blocks"):
        out = attend(q, k, v, queries=layout, keys=layout, causal=causal, bias=bias, scale=0.3, kernel=kernel)
        found[kernel] = (out, *torch.autograd.grad((out * wanted).sum(), [q, k, v, bias]))
    for formula, blocks in zip(*found.values(), strict=True):
        torch.testing.assert_close(blocks, formula, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ragged", [False, True], ids=["even", "ragged"])
@pytest.mark.parametrize(("causal", "queries"), [(True, 30), (False, 30), (False, 40)])
def test_rows_that_fill_a_register_up_are_the_formula(
    causal: bool, queries: int, ragged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values, gradients and theirs, where keys are added that nobody sees: here up to 16 numbers of 8 bytes."""
    monkeypatch.setitem(REGISTERS, torch.backends.cpu.get_cpu_capability(), 128)
    monkeypatch.setattr("zoo.core.query_blocks.ROWS", 16)
    keys = Layout.packed_from(torch.tensor([5, 30, 28] if ragged else [30, 30, 30]))
    layout = keys if queries == 30 else Layout.dense(3, queries)
    q = torch.randn(layout.tokens, 2, 4, dtype=torch.float64, requires_grad=True)
    k, v = torch.randn(2, keys.tokens, 2, 4, dtype=torch.float64, requires_grad=True)
    assert [spare(12, m, q) for m in (11, 12, 13, 15, 16, 17, 27, 28)] == [0, 4, 3, 1, 0, 0, 0, 4]
    assert spare(11, 13, q) == 0
    found = {}
    for kernel in ("explicit", "blocks"):
        out = attend(q, k, v, queries=layout, keys=keys, causal=causal, scale=0.3, kernel=kernel)
        first = torch.autograd.grad(out.square().sum(), [q, k, v], create_graph=True)
        second = torch.autograd.grad(sum(x.square().sum() for x in first), [q, k, v])
        found[kernel] = (out, *first, *second)
    for formula, blocks in zip(*found.values(), strict=True):
        torch.testing.assert_close(blocks, formula, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ragged", [False, True], ids=["even", "ragged"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_vectors_of_distances_are_the_bias_that_they_stand_for(groups: int, causal: bool, ragged: bool) -> None:
    """A product for each pair, written out in the plainest way, against every kernel: values and gradients."""
    n, m, scale = 150, 150, 0.3
    layout = Layout.packed_from(torch.tensor([150, 70, 129] if ragged else [150, 150, 150]))
    q = torch.randn(layout.tokens, 2, 4, dtype=torch.float64, requires_grad=True)
    k, v = torch.randn(2, layout.tokens, groups, 4, dtype=torch.float64, requires_grad=True)
    rows = torch.randn(2, n + m, 4, dtype=torch.float64, requires_grad=True)
    wanted = torch.randn(layout.tokens, 2, 4, dtype=torch.float64)
    pairs = rows[:, torch.arange(m) - torch.arange(n).unsqueeze(-1) + n - 1]  # "h n m e": what must not be in use

    def found(bias: torch.Tensor | Relative, kernel: str) -> tuple[torch.Tensor, ...]:
        out = attend(q, k, v, queries=layout, keys=layout, causal=causal, bias=bias, scale=scale, kernel=kernel)
        return (out, *torch.autograd.grad((out * wanted).sum(), [q, k, v, rows]))

    expected = found(torch.einsum("bhne, hnme -> bhnm", layout.by_head(q) * scale, pairs), "explicit")
    for kernel in KERNELS:
        for a, b in zip(found(Relative(rows), kernel), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-4 if kernel == "float32" else 1e-12)
    assert choose(q, layout, layout, Relative(rows), 0.0, training=True) == "blocks"
    assert choose(q, layout, layout, Relative(rows.detach()), 0.0, training=False) == "blocks"


def test_vectors_of_distances_are_as_many_as_there_are() -> None:
    layout, q = Layout.dense(1, 4), torch.randn(4, 2, 3)
    for count in (7, 9):
        with pytest.raises(ValueError, match=f"Relative has {count} rows, 4 queries and 4 keys need 8"):
            attend(q, q, q, queries=layout, keys=layout, bias=Relative(torch.randn(2, count, 3)), scale=1.0)


@pytest.mark.parametrize("position", [Skewed(8), RelativeBuckets(8, 6), Rotary()], ids=lambda p: type(p).__name__)
def test_a_batch_without_a_sequence_gives_none(position: Position) -> None:
    stack = Stack(StackConfig(dim=16, depth=2, heads=2, causal=True, position=position))
    for learns in (True, False):
        with torch.set_grad_enabled(learns):
            assert stack(torch.randn(0, 16), Layout.dense(0, 5)).shape == (0, 16)


@pytest.mark.parametrize("causal", [False, True])
def test_vectors_of_distances_have_second_derivatives(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.core.query_blocks.ROWS", 2)
    inputs = torch.randn(3, 3, 2, 5, 3, dtype=torch.float64, requires_grad=True)
    rows = torch.randn(2, 10, 3, dtype=torch.float64, requires_grad=True)

    def attended(rows: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
        return by_blocks(*parts, None, causal, Relative(rows), 0.3)

    assert torch.autograd.gradgradcheck(attended, (rows, *inputs))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [(2, 5, 5), (3, 2, 5, 5), (2, 1, 5)], ids=str)
def test_blocks_have_second_derivatives(
    shape: tuple[int, ...], causal: bool, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of everything that has a first one, over several blocks; numerically."""
    monkeypatch.setattr("zoo.core.query_blocks.ROWS", 2)
    mask = torch.tensor([[1, 1, 0, 1, 0], [1, 0, 0, 0, 0], [1] * 5]).bool()[:, None, None] if masked else None
    bias = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    inputs = (*torch.randn(3, 3, 2, 5, 3, dtype=torch.float64, requires_grad=True), bias)

    def attended(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return by_blocks(q, k, v, mask, causal, bias, 0.3)

    assert torch.autograd.gradgradcheck(attended, inputs)


@pytest.mark.parametrize("position", [RelativeBuckets(8, 6), Skewed(4)], ids=lambda p: type(p).__name__)
def test_transforms_of_functions_have_the_gradient_of_a_learned_bias(position: Position) -> None:
    """Within torch.func nothing says that a bias learns; both derivatives are those that autograd finds."""
    stack = build(StackConfig(dim=16, depth=2, heads=4, causal=True, position=position), torch.float64)
    layout, x = Layout.dense(2, 5), torch.randn(10, 16, dtype=torch.float64, requires_grad=True)
    weights = {name: weight.detach() for name, weight in stack.named_parameters()}

    def loss(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(stack, weights, (x, layout)).pow(3).sum()

    (once,) = torch.autograd.grad(stack(x, layout).pow(3).sum(), x, create_graph=True)
    (twice,) = torch.autograd.grad(once.pow(2).sum(), x)
    plain = x.detach()
    slope = torch.func.grad(loss, argnums=1)
    torch.testing.assert_close(slope(weights, plain), once)
    torch.testing.assert_close(torch.func.grad(lambda x: slope(weights, x).pow(2).sum())(plain), twice)
    several = torch.func.vmap(loss, in_dims=(0, None))({n: torch.stack((w, 2 * w)) for n, w in weights.items()}, plain)
    torch.testing.assert_close(several[0], loss(weights, plain))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("position", [Rotary(), RelativeBuckets(8, 6)], ids=lambda p: type(p).__name__)
def test_what_was_measured_on_cpus_is_not_used_elsewhere(position: Position, dtype: torch.dtype) -> None:
    stack = Stack(StackConfig(dim=64, depth=1, heads=1, position=position)).to("meta", dtype)
    layout, x = Layout.dense(2, 5, device=torch.device("meta")), torch.empty(10, 64, device="meta", dtype=dtype)
    bias = torch.zeros(1, 5, 5, device="meta", dtype=dtype, requires_grad=True)
    q = x.view(10, 1, 64)
    assert choose(q, layout, layout, None, 0.0, training=True) == "fused"
    assert choose(q, layout, layout, bias, 0.0, training=True) == "fused"
    assert stack(x, layout).shape == (10, 64)


def test_a_bias_that_learns_goes_where_its_gradient_is(monkeypatch: pytest.MonkeyPatch) -> None:
    q, layout = torch.randn(4, 2, 64), Layout.dense(1, 4)
    bias = torch.zeros(2, 4, 4)
    assert choose(q, layout, layout, bias, 0.0, training=False) == "fused"
    bias.requires_grad_()
    assert choose(q, layout, layout, bias, 0.0, training=True) == "blocks"
    assert choose(q, layout, layout, bias, 0.1, training=True) == "explicit"
    assert choose(q.bfloat16(), layout, layout, bias, 0.0, training=True) == "blocks"
    with torch.autocast("cpu", torch.bfloat16):
        assert choose(q.bfloat16(), layout, layout, bias, 0.0, training=True) == "blocks"
        assert choose(q, layout, layout, bias, 0.0, training=True) == "explicit"  # whose products autocast rounds
    vectors = Relative(torch.zeros(2, 8, 64))  # in evaluation, where fused kernels take a bias too
    assert choose(q, layout, layout, vectors, 0.0, training=False) == "blocks"
    monkeypatch.setattr(SEAM, "_thresholds", ())
    assert choose(q.bfloat16(), layout, layout, vectors, 0.0, training=False) == "fused"


def test_the_table_of_thresholds_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout.dense(1, 256)
    q = torch.zeros(256, 2, 64, dtype=torch.bfloat16)
    monkeypatch.setattr(SEAM, "_thresholds", THRESHOLDS)
    assert choose(q, layout, layout, None, 0.0, training=True) == "explicit"
    assert choose(q, layout, layout, None, 0.0, training=False) == "fused"
    long = Layout.dense(1, 257)
    assert choose(q, long, long, None, 0.0, training=True) == "fused"
    assert choose(q.float(), layout, layout, None, 0.0, training=True) == "fused"
    row = Threshold("float32", False, 1, 8, 4, "explicit")
    monkeypatch.setattr(SEAM, "_thresholds", (row,))
    small = Layout.dense(1, 4)
    assert choose(torch.zeros(4, 2, 8), small, small, None, 0.0, training=False) == "explicit"
    assert choose(torch.zeros(4, 2, 16), small, small, None, 0.0, training=False) == "fused"


def test_a_table_of_the_users_own_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kernels.json"
    monkeypatch.setenv("ZOO_KERNELS", str(path))
    assert thresholds_file() == path
    ours = choices_of(vendor(), units())
    assert load_choices(path) == ours  # none there yet
    row = Threshold("float32", True, 8, 64, 128, "explicit")
    path.write_text(json.dumps({"thresholds": [asdict(row)]}))
    assert load_choices(path).thresholds == (row,)
    assert load_choices(path).products == ours.products  # a table that says nothing of them
    for library in ("torch", "onednn"):
        path.write_text(json.dumps({"thresholds": [], "products": library}))
        assert load_choices(path).products == library
    faults = ({"kernel": "flash"}, {"max_length": "256"}, {"min_width": 8.0})
    for broken in (
        "{}",
        "[]",
        '{"thresholds": [], "products": "mkl"}',
        *(json.dumps({"thresholds": [asdict(row) | fault]}) for fault in faults),
    ):
        path.write_text(broken)
        with pytest.raises(ValueError, match=r"kernels\.json: not a table of kernels"):
            load_choices(path)
    said = subprocess.run([sys.executable, "-c", "import zoo.core"], capture_output=True, text=True, check=True)
    assert "not a table of kernels" in said.stderr
    assert said.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("vendor", "units", "rows", "products"),
    [
        ("GenuineIntel", {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}, THRESHOLDS, "torch"),
        ("GenuineIntel", {"avx2", "avx512f", "avx512_bf16"}, THRESHOLDS_AVX512, "torch"),
        ("AuthenticAMD", {"avx2", "avx512f", "avx512_bf16"}, THRESHOLDS_AVX512, "onednn"),
        ("AuthenticAMD", {"avx2"}, THRESHOLDS, "torch"),
        ("", set(), THRESHOLDS, "torch"),
    ],
)
def test_processors_have_their_own_choices(
    vendor: str, units: set[str], rows: tuple[Threshold, ...], products: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert choices_of(vendor, units) == Choices(rows, products)  # type: ignore[arg-type]
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert choices_of(vendor, units).products == "torch"


def test_the_processor_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512_bf16\n\nprocessor\t: 1\n")
    for found in (vendor, units):
        found.cache_clear()
    try:
        monkeypatch.setattr(PROCESSOR, "CPUINFO", told)
        assert vendor() == "AuthenticAMD"
        assert units() == {"fpu", "avx2", "avx512_bf16"}
        for found in (vendor, units):
            found.cache_clear()
        monkeypatch.setattr(PROCESSOR, "CPUINFO", tmp_path / "none")
        assert vendor() == ""
        assert units() == frozenset()
    finally:
        for found in (vendor, units):
            found.cache_clear()


def test_a_user_without_a_home_has_the_built_in_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("ZOO_KERNELS", raising=False)
    assert choices_here() == choices_of(vendor(), units())
    monkeypatch.setenv("ZOO_KERNELS", "mine.json")
    assert thresholds_file() == Path("mine.json")


def test_half_precision_is_rounded_where_the_formula_is_written_out() -> None:
    """What docs/design.md says: the kernel that holds its scores in bfloat16 is less exact, and still near."""
    layout = Layout.dense(2, 200)
    q, k, v = (x.bfloat16() for x in torch.randn(3, 400, 4, 64) * torch.tensor([4.0, 1.0, 1.0]).view(3, 1, 1, 1))
    options = {"queries": layout, "keys": layout, "causal": True, "scale": 0.125}
    exact = attend(q.double(), k.double(), v.double(), **options, kernel="explicit")
    off = {
        name: float((attend(q, k, v, **options, kernel=name).double() - exact).square().mean().sqrt())
        for name in KERNELS
    }
    assert off["float32"] <= off["fused"] * 1.1 < off["explicit"] < 8 * off["fused"]
    assert off["blocks"] < 1.1 * off["explicit"] < 0.01


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernel", ["explicit", "blocks"])
def test_gradients_in_half_precision_are_near(kernel: str, causal: bool, autocast: bool) -> None:
    """Over more than one block, whose sums are rounded in between: at most three times what torch's kernel is off."""
    layout = Layout.packed_from(torch.tensor([300, 170]))
    parts = [x.bfloat16().requires_grad_() for x in torch.randn(3, 470, 4, 32)]
    wanted = torch.randn(470, 4, 32).bfloat16()
    options = {"queries": layout, "keys": layout, "causal": causal, "scale": 32**-0.5}

    def gradients(kernel: str, parts: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        out = attend(*parts, **options, kernel=kernel)
        return torch.autograd.grad(out, parts, wanted.to(out.dtype))

    exact = gradients("explicit", [x.detach().double().requires_grad_() for x in parts])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found, fused = gradients(kernel, parts), gradients("fused", parts)
    for ours, theirs, truth in zip(found, fused, exact, strict=True):
        assert ours.dtype == torch.bfloat16
        off, their_off = (float((x.double() - truth).norm() / truth.norm()) for x in (ours, theirs))
        assert off < 3 * their_off < 0.1


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("relative", [False, True])
def test_a_learned_bias_in_half_precision_by_blocks_is_as_near_as_the_formula(relative: bool, causal: bool) -> None:
    n = 300
    layout = Layout.dense(2, n)
    parts = [x.bfloat16() for x in torch.randn(3, 2 * n, 4, 16)]
    learned = torch.randn(4, 2 * n, 16).bfloat16() if relative else torch.randn(4, n, n).bfloat16()
    wanted = torch.randn(2 * n, 4, 16).bfloat16()

    def run(kernel: str, dtype: torch.dtype) -> list[torch.Tensor]:
        given = [x.to(dtype).requires_grad_() for x in (*parts, learned)]
        bias = Relative(given[3]) if relative else given[3]
        options = {"queries": layout, "keys": layout, "causal": causal, "scale": 0.25, "bias": bias}
        out = attend(*given[:3], **options, kernel=kernel)
        return [out.detach(), *torch.autograd.grad(out, given, wanted.to(dtype))]

    exact = run("explicit", torch.float64)
    for ours, formula, truth in zip(*(run(k, torch.bfloat16) for k in ("blocks", "explicit")), exact, strict=True):
        off, its_off = (float((x.double() - truth).norm() / truth.norm()) for x in (ours, formula))
        assert off < 1.2 * its_off < 0.02


def test_blocks_give_way_to_what_they_do_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SEAM, "_thresholds", THRESHOLDS_AVX512)
    layout, one = Layout.dense(1, 64), Layout.dense(1, 1)
    q = torch.zeros(64, 2, 16, dtype=torch.bfloat16)
    alibi = torch.zeros(2, 64, 64)
    index = Relative(torch.zeros(2, 8, 16), index=torch.zeros(64, 64, dtype=torch.long))
    for training in (True, False):
        assert choose(q, layout, layout, None, 0.0, training=training) == "blocks"
        assert choose(q, layout, layout, alibi, 0.0, training=training) == "blocks"
        assert choose(q.float(), layout, layout, None, 0.0, training=training) == ("blocks" if training else "fused")
        assert choose(q, layout, layout, None, 0.1, training=training) == ("explicit" if training else "fused")
        assert choose(q, layout, layout, index, 0.0, training=training) == ("explicit" if training else "fused")
        assert choose(q[:1], one, layout, alibi[:, :1], 0.0, training=training) != "blocks"
        with torch.autograd.forward_ad.dual_level():
            assert choose(q, layout, layout, None, 0.0, training=training) != "blocks"
    with torch.autocast("cpu", torch.bfloat16):
        assert choose(q.float(), layout, layout, None, 0.0, training=True) == "fused"
        assert choose(q, layout, layout, None, 0.0, training=True) == "blocks"
    for batch, kernel in ((4, "blocks"), (5, "fused")):  # 32 MiB of weights for each sequence
        long, q = Layout.dense(batch, 2048), torch.zeros(1, 4, 16, dtype=torch.bfloat16)
        assert choose(q, long, long, None, 0.0, training=True) == kernel
        assert choose(q, long, long, None, 0.0, training=False) == "blocks"


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_may_come_in_batches_or_not_dense(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.core.query_blocks.ROWS", 4)
    layout = Layout.dense(2, 13)
    parts = [torch.randn(26, 2, 8, requires_grad=True) for _ in range(3)]
    wanted = torch.randn(3, 26, 2, 8)
    out = {
        kernel: attend(*parts, queries=layout, keys=layout, causal=causal, scale=0.3, kernel=kernel)
        for kernel in ("blocks", "explicit")
    }
    for options in (
        {"grad_outputs": wanted, "is_grads_batched": True},
        {"grad_outputs": torch.ones(1).expand(26, 2, 8)},
    ):
        ours, theirs = (torch.autograd.grad(x, parts, retain_graph=True, **options) for x in out.values())
        torch.testing.assert_close(ours, theirs)


def test_a_product_beyond_numbers_stays_with_those_who_see_it() -> None:
    """float16 ends at 65,504; a future key's product hides behind no sum."""
    layout = Layout.dense(1, 4)
    q, v = torch.full((4, 1, 8), 200.0, dtype=torch.float16), torch.ones(4, 1, 8, dtype=torch.float16)
    k = torch.zeros_like(q)
    k[3] = 200
    bias = torch.zeros(1, 4, 4, dtype=torch.float16, requires_grad=True)
    out = attend(q, k, v, queries=layout, keys=layout, causal=True, bias=bias, scale=1.0)
    assert torch.equal(out[:3], v[:3])


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_queries_give_nothing(kernel: str) -> None:
    q, k = torch.randn(0, 2, 4, requires_grad=True), torch.randn(6, 2, 4, requires_grad=True)
    out = attend(q, k, k, queries=Layout.dense(2, 0), keys=Layout.dense(2, 3), scale=1.0, kernel=kernel)
    assert out.shape == (0, 2, 4)
    assert not torch.autograd.grad(out.sum(), k)[0].any()


def test_queries_behind_their_keys_see_the_past_alone() -> None:
    """Two new tokens after three held ones: a causal flag of torch's would align them to the top left."""
    mask, flag = visible(Layout.dense(1, 2), Layout.dense(1, 5), causal=True)
    assert not flag
    assert mask.squeeze().tolist() == [[True] * 4 + [False], [True] * 5]


@pytest.mark.parametrize("kernel", KERNELS)
def test_queries_too_early_for_any_key_see_the_first(kernel: str) -> None:
    """Of four queries on two keys the last sees both, the one before one, and those before it that one too."""
    q, k, v = torch.randn(4, 1, 8), torch.randn(2, 1, 8), torch.randn(2, 1, 8)
    options = {"queries": Layout.dense(1, 4), "keys": Layout.dense(1, 2), "scale": 0.3, "kernel": kernel}
    found = attend(q, k, v, **options, causal=True)
    torch.testing.assert_close(found[:3], v[:1].expand(3, -1, -1))
    torch.testing.assert_close(found[3], attend(q, k, v, **options)[3])


def test_padding_is_not_seen_and_nothing_else_is_hidden() -> None:
    keys = Layout.packed_from(torch.tensor([3, 1]))
    mask, flag = visible(Layout.dense(2, 2), keys, causal=False)
    assert not flag
    assert mask.expand(2, 1, 2, 3)[:, 0, 0].tolist() == [[True] * 3, [True, False, False]]
    assert visible(keys, keys, causal=True) == (None, True)  # padding stands behind every real query


def test_dropout_leaves_out_weights_and_keeps_the_mean() -> None:
    layout = Layout.dense(1, 16)
    q, k = torch.zeros(16, 1, 4), torch.zeros(16, 1, 4)
    v = torch.ones(16, 1, 4)
    outs = torch.stack(
        [attend(q, k, v, queries=layout, keys=layout, scale=1.0, dropout=0.5, kernel=name) for name in KERNELS]
        + [attend(q, k, v, queries=layout, keys=layout, scale=1.0, dropout=0.5) for _ in range(400)]
    )
    assert outs.std() > 0.1
    assert outs.mean() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("causal", [False, True])
def test_second_derivatives_through_a_mask_that_is_written_in_place(causal: bool) -> None:
    layout = Layout.packed_from(torch.tensor([5, 3]))
    parts = [torch.randn(8, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def formula(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return attend(q, k, v, queries=layout, keys=layout, causal=causal, scale=0.5, kernel="explicit")

    assert torch.autograd.gradcheck(formula, parts)
    assert torch.autograd.gradgradcheck(formula, parts)
