import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.train.losses import check_consistency, token_loss


def plain(x: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None, smoothing: float, z_loss: float) -> Tensor:
    logits = F.linear(x, weight, bias)
    real = target != -100
    loss = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="sum")
    return loss + z_loss * logits[real].logsumexp(-1).square().sum()


def inputs(
    t: int, d: int, v: int, *, bias: bool, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> tuple[Tensor, ...]:
    x = torch.randn(t, d, dtype=dtype, device=device, requires_grad=True)
    weight = torch.randn(v, d, dtype=dtype, device=device, requires_grad=True)
    target = torch.randint(v, (t,), device=device)
    return x, weight, target, torch.randn(v, dtype=dtype, device=device, requires_grad=True) if bias else None


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize(("chunk", "cached"), [(1, 2**21), (3, 2**21), (7, 2**21), (7, 25), (100, 25), (100, 1)])
def test_equals_head_and_cross_entropy(
    bias: bool,
    smoothing: float,
    z_loss: float,
    ignored: bool,
    chunk: int,
    cached: int,
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`cached`: logits that are passed over together, of 11 for each token."""
    monkeypatch.setattr("zoo.train.losses.CACHED", cached)
    x, weight, target, b = inputs(7, 5, 11, bias=bias, device=device)
    if ignored:
        target[[0, 4]] = -100
    leaves = [leaf for leaf in (x, weight, b) if leaf is not None]
    upstream = torch.tensor(0.37, dtype=torch.float64, device=device)
    expected = plain(x, weight, target, b, smoothing, z_loss)
    wanted = torch.autograd.grad(expected, leaves, upstream)
    loss = token_loss(x, weight, target, b, label_smoothing=smoothing, z_loss=z_loss, chunk=chunk).loss
    got = torch.autograd.grad(loss, leaves, upstream)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize(("chunk", "cached"), [(1, 2**21), (3, 2**21), (7, 200), (100, 300)])
def test_pairs_of_rows_are_held_to_say_the_same(
    bias: bool,
    z_loss: float,
    ignored: bool,
    chunk: int,
    cached: int,
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mean of the divergences from one row of a pair to the other and back, beside the cross entropy of both."""
    monkeypatch.setattr("zoo.train.losses.CACHED", cached)
    x, weight, target, b = inputs(14, 5, 11, bias=bias, device=device)
    target = target[:7].repeat(2)
    if ignored:
        target[[0, 4, 7, 11]] = -100
    p, q = F.linear(x, weight, b)[target != -100].log_softmax(-1).chunk(2)
    apart = [F.kl_div(a, b, reduction="sum", log_target=True) for a, b in ((p, q), (q, p))]
    expected = plain(x, weight, target, b, 0.1, z_loss) + 3 * sum(apart) / 2
    loss = token_loss(x, weight, target, b, label_smoothing=0.1, z_loss=z_loss, consistency=3.0, chunk=chunk).loss
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    leaves = [leaf for leaf in (x, weight, b) if leaf is not None]
    got, wanted = torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_pairs_in_half_precision_are_near_the_exact_ones() -> None:
    x, weight, target, bias = inputs(400, 16, 300, bias=True)
    target = target[:200].repeat(2)
    found = []
    for half in (False, True):
        leaves = [leaf.detach().to(torch.float32 if half else torch.float64).requires_grad_() for leaf in (x, weight)]
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = token_loss(*leaves, target, bias.to(leaves[0].dtype), consistency=2.0, chunk=100).loss
            with torch.no_grad():
                again = token_loss(*leaves, target, bias.to(leaves[0].dtype), consistency=2.0, chunk=100).loss
        assert torch.equal(loss, again)
        found.append((loss, *torch.autograd.grad(loss, leaves)))
    for exact, near in zip(*found, strict=True):
        assert (near.double() - exact).norm() < 0.02 * exact.norm()


def test_rows_that_are_no_pairs_are_refused() -> None:
    x, weight, _, _ = inputs(4, 4, 9, bias=False)
    for target in ([1, 2, 1, 3], [1, -100, 1, 2], [1, 1, 2, 2]):
        with pytest.raises(ValueError, match="must have the same targets"):
            token_loss(x, weight, torch.tensor(target), consistency=1.0)
    with pytest.raises(ValueError, match="must have the same targets"):
        token_loss(x[:3], weight, torch.tensor([1, 1, 1]), consistency=1.0)
    for t in (0, 4):
        nothing = token_loss(x[:t], weight, torch.full((t,), -100), consistency=1.0)
        assert nothing.loss == 0
        assert nothing.tokens == 0


def test_the_weight_of_a_penalty_is_no_less_than_nothing() -> None:
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"consistency \(.*\) must be a number from 0 on"):
            check_consistency(weight)


def test_pieces_of_halves_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, target, bias = inputs(50, 8, 11, bias=True, dtype=torch.float32)
    found = []
    for cached in (2**21, 40):
        monkeypatch.setattr("zoo.train.losses.CACHED", cached)
        with torch.autocast("cpu", torch.bfloat16):
            loss = token_loss(x, weight, target, bias, label_smoothing=0.1, chunk=20).loss
        found.append((loss, *torch.autograd.grad(loss, [x, weight, bias])))
    for pieces, whole in zip(*found, strict=True):
        torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=1e-5)


def test_gradcheck() -> None:
    x, weight, target, bias = inputs(5, 3, 7, bias=True)
    assert torch.autograd.gradcheck(
        lambda x, w, b: token_loss(x, w, target, b, label_smoothing=0.2, z_loss=0.05, chunk=2).loss,
        (x, weight, bias),
    )


def test_what_is_logged_beside_the_loss(device: torch.device) -> None:
    x, weight, target, bias = inputs(20, 5, 11, bias=True, device=device)
    target[3] = -100
    got = token_loss(x, weight, target, bias, label_smoothing=0.3, z_loss=0.1, chunk=8)
    logits, real = F.linear(x, weight, bias), target != -100
    torch.testing.assert_close(got.nll, F.cross_entropy(logits, target, reduction="sum"))
    assert got.correct == (logits.argmax(-1) == target)[real].sum()
    assert got.tokens == 19
    assert got.loss.requires_grad
    assert not got.nll.requires_grad


def test_a_tied_weight_gets_both_gradients() -> None:
    table, ids = nn.Embedding(11, 4, dtype=torch.float64), torch.randint(11, (6,))
    loss = token_loss(table(ids), table.weight, ids, chunk=4).loss
    (got,) = torch.autograd.grad(loss, [table.weight])
    (wanted,) = torch.autograd.grad(plain(table(ids), table.weight, ids, None, 0, 0), [table.weight])
    torch.testing.assert_close(got, wanted)


def test_backward_twice_gives_the_same() -> None:
    x, weight, target, _ = inputs(6, 4, 9, bias=False)
    loss = token_loss(x, weight, target, chunk=4).loss
    first = torch.autograd.grad(loss, [x, weight], torch.tensor(2.0), retain_graph=True)
    second = torch.autograd.grad(loss, [x, weight], torch.tensor(2.0))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_under_autocast_products_are_bf16_and_sums_are_float32(device: torch.device) -> None:
    x, weight, target, bias = inputs(64, 32, 50, bias=True, dtype=torch.float32, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        loss = token_loss(x, weight, target, bias, label_smoothing=0.1, chunk=16).loss
    got = torch.autograd.grad(loss, [x, weight, bias])
    expected = plain(x, weight, target, bias, 0.1, 0.0)
    wanted = torch.autograd.grad(expected, [x, weight, bias])
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=2e-3, atol=0)
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 1e-2 * theirs.norm()
        assert (ours - theirs).norm() > 0  # bf16 was used at all


def test_all_ignored_is_zero_and_has_zero_gradients(device: torch.device) -> None:
    x, weight, _, _ = inputs(3, 4, 5, bias=False, device=device)
    loss = token_loss(x, weight, torch.full((3,), -100, device=device), label_smoothing=0.1).loss
    assert loss == 0
    assert all(not g.any() for g in torch.autograd.grad(loss, [x, weight]))


class LargestTensor(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation makes, forward and backward."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for part in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(part, Tensor):
                self.largest = max(self.largest, part.numel())
        return out


def test_logits_of_the_batch_never_exist() -> None:
    t, d, v, chunk = 256, 8, 300, 32
    x, weight, target, bias = inputs(t, d, v, bias=True, dtype=torch.float32)
    with LargestTensor() as ours:
        token_loss(x, weight, target, bias, label_smoothing=0.1, chunk=chunk).loss.backward()
    with LargestTensor() as theirs:
        plain(x, weight, target, bias, 0.1, 0.0).backward()
    assert ours.largest == chunk * v
    assert theirs.largest == t * v


@pytest.mark.parametrize(("t", "rows"), [(32, 32), (47, 47), (49, 25), (80, 40), (81, 27)])
def test_chunks_are_equal_and_at_most_half_longer_than_asked(t: int, rows: int) -> None:
    x, weight, target, _ = inputs(t, 8, 300, bias=False, dtype=torch.float32)
    with LargestTensor() as ours:
        token_loss(x, weight, target, chunk=32).loss.backward()
    assert ours.largest == rows * 300


def test_without_gradient_nothing_is_kept() -> None:
    x, weight, target, _ = inputs(6, 4, 9, bias=False)
    with torch.no_grad():
        loss = token_loss(x, weight, target).loss
    assert not loss.requires_grad
    torch.testing.assert_close(loss, plain(x, weight, target, None, 0.0, 0.0).detach())


def test_smoothing_out_of_range_is_refused() -> None:
    x, weight, target, _ = inputs(2, 2, 3, bias=False)
    with pytest.raises(ValueError, match=r"label_smoothing \(1.0\) must be in \[0, 1\)"):
        token_loss(x, weight, target, label_smoothing=1.0)


def test_a_compiled_loss_has_the_same_gradients_for_any_number_of_tokens() -> None:
    """Under autocast, where torch's compiler fails unless the loss is left out of the graph."""
    torch._dynamo.reset()
    _, weight, _, _ = inputs(1, 5, 11, bias=False)

    def loss(x: Tensor, target: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return token_loss(x.tanh() * weight[0], weight, target, chunk=8).loss

    compiled = torch.compile(loss, backend="aot_eager")
    for t in (20, 13, 17):
        x, _, target, _ = inputs(t, 5, 11, bias=False)
        got, wanted = (torch.autograd.grad(made(x, target), [x, weight]) for made in (compiled, loss))
        torch.testing.assert_close(got, wanted)


def test_second_derivatives_are_refused() -> None:
    x, weight = torch.randn(4, 8, requires_grad=True), torch.randn(5, 8, requires_grad=True)
    loss = token_loss(x, weight, torch.tensor([0, 1, 2, 3])).loss
    with pytest.raises(RuntimeError, match="LinearCrossEntropy has no second derivative"):
        torch.autograd.grad(loss, [x, weight], create_graph=True)
