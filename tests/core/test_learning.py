"""What a stack learns with: every parameter has a gradient, counts are known before building, bfloat16 stays finite."""

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from tests.core.architectures import ALL, FULL_SIZE, build, context
from zoo.bench.harness import peak_bytes
from zoo.check import promises
from zoo.core import (
    LSTM,
    Cache,
    FixedScale,
    LayerNorm,
    Layout,
    Plain,
    RelativeBuckets,
    RMSNorm,
    Rotary,
    Stack,
    StackConfig,
)
from zoo.core.block import DropPath
from zoo.core.dropout import dropout
from zoo.core.init import Scheme, Undrawn, initialise


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_gets_a_gradient(name: str, device: torch.device) -> None:
    assert promises.unused(ALL[name], device) == []


@pytest.mark.parametrize("name", [*ALL, *(f"full size {name}" for name in FULL_SIZE)])
def test_parameters_are_counted_before_they_are_made(name: str) -> None:
    assert promises.uncounted(FULL_SIZE.get(name.removeprefix("full size "), ALL.get(name))) == 0


@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "weights"])
@pytest.mark.parametrize("name", ALL)
def test_bfloat16_stays_finite(name: str, autocast: bool, device: torch.device) -> None:
    assert promises.halves(ALL[name], autocast=autocast, device=device)


def test_what_cannot_be_kept_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a parameter that nothing reads, and a sum that overflows."""
    config = ALL["gpt2_small/stack"]
    real = Stack.__init__

    def with_a_spare(self: Stack, config: StackConfig) -> None:
        real(self, config)
        self.spare = torch.nn.Parameter(torch.ones(3))

    with monkeypatch.context() as patch:
        patch.setattr(Stack, "__init__", with_a_spare)
        assert promises.unused(config) == ["spare"]
        assert promises.uncounted(config) == -3
    monkeypatch.setattr(torch.nn.LayerNorm, "forward", lambda self, x: x * 1e38 * 10)
    assert not promises.halves(config, autocast=False)


def test_drop_path_leaves_out_branches_of_whole_sequences() -> None:
    drop = DropPath(0.4).train()
    layout = Layout.from_keep(torch.rand(2000, 5) < 0.7)
    out = layout.pad(drop(torch.ones(layout.tokens, 1), layout)).squeeze(-1)
    kept = out.amax(-1)[layout.lengths > 0]
    assert sorted(set(kept.tolist())) == pytest.approx([0, 1 / 0.6])
    assert kept.mean() == pytest.approx(1, abs=0.06)  # the expectation is the branch itself; 2.9 standard errors
    for row, length in zip(out, layout.lengths, strict=True):
        assert len(set(row[:length].tolist())) <= 1
    x = torch.ones(layout.tokens, 1)
    assert torch.equal(drop.eval()(x, layout), x)


@pytest.mark.parametrize("name", ALL)
def test_checkpointed_blocks_learn_the_same(name: str, device: torch.device) -> None:
    """With draws of dropout, which come out again the second time."""
    config = ALL[name].replace(dropout=0.1, drop_path=0.2)
    stack = build(config, device=device).train()
    layout = Layout.packed_from(torch.tensor([6, 4, 1], device=device))
    given = context(config, 3, device=device)
    x = torch.randn(layout.tokens, config.dim, device=device, requires_grad=True)
    runs: list[nn.Module] = []  # of the last block's mixer, each time it begins
    stack.blocks[-1].mixer.register_forward_pre_hook(lambda module, args: runs.append(module))
    found = []
    for checkpointed in (False, True):
        for block in stack.blocks:
            block.checkpointed = checkpointed
        torch.manual_seed(5)
        out = stack(x, layout, **given)
        found.append((out.detach(), *torch.autograd.grad(out.square().sum(), [x, *stack.parameters()])))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert len(runs) == 3  # once, and twice
    stack(x, layout, **given)
    stack.eval()(x, layout, **given)
    with torch.no_grad():
        stack.train()(x, layout, **given)
    assert len(runs) == 6  # nothing goes back: once each


def test_checkpointed_blocks_give_way_to_transforms() -> None:
    stack, x = Stack(StackConfig(dim=8, depth=2, heads=2)), torch.randn(3, 8)
    layout = Layout.dense(1, 3)
    found = []
    for checkpointed in (False, True):
        for block in stack.blocks:
            block.checkpointed = checkpointed
        found.append(torch.func.grad(lambda x: stack(x, layout).square().sum())(x))
    assert torch.equal(*found)


def test_checkpointed_blocks_keep_their_inputs_alone() -> None:
    stack = Stack(StackConfig(dim=32, depth=8, heads=4, causal=True))
    layout, x = Layout.dense(1, 256), torch.randn(256, 32)

    def peak() -> int:
        return peak_bytes(lambda: stack(x, layout).sum().backward(), torch.device("cpu"))

    plain = peak()
    for block in stack.blocks:
        block.checkpointed = True
    assert peak() < plain / 3


def test_drop_path_grows_with_depth() -> None:
    stack = Stack(StackConfig(dim=8, depth=5, heads=2, drop_path=0.2))
    shares = [getattr(block.ffn.drop_path, "share", 0.0) for block in stack.blocks]
    assert shares == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_layer_scale_begins_where_it_is_told() -> None:
    config = StackConfig(dim=8, depth=2, heads=2, layer_scale=0.0, position=Rotary())
    stack, x = Stack(config), torch.randn(4, 8)
    expected = stack.final_norm(x)
    torch.testing.assert_close(stack(x, Layout.dense(1, 4)), expected)  # branches begin at nothing
    gains = [p for n, p in stack.named_parameters() if ".gain." in n]
    assert len(gains) == 4
    assert all(p.shape == (8,) for p in gains)


@pytest.mark.parametrize("setting", ["dropout", "attention_dropout", "drop_path"])
def test_dropout_acts_in_training_alone(setting: str) -> None:
    config = StackConfig(dim=8, depth=2, heads=2).replace(**{setting: 0.5})
    stack, x, layout = build(config), torch.randn(6, 8), Layout.dense(2, 3)
    assert torch.equal(stack(x, layout), stack(x, layout))
    stack.train()
    assert any(not torch.equal(stack(x, layout), stack(x, layout)) for _ in range(8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("share", [0.1, 0.25, 0.9])
def test_dropout_keeps_the_mean_and_is_torchs_in_law(share: float, dtype: torch.dtype) -> None:
    """An odd count, since a draw serves four: both values, how often, and independently of neighbours."""
    torch.manual_seed(0)
    x = torch.ones(333, 1001, dtype=dtype, requires_grad=True)
    out = dropout(x, share)
    dropped = (out == 0).double()
    assert set(out.unique().tolist()) <= {
        0.0,
        *torch.tensor([1 / (1 - round(share * 2**16) / 2**16)], dtype=dtype).tolist(),
    }
    assert float(dropped.mean()) == pytest.approx(share, abs=0.004)
    for apart in (1, 2, 4):
        both = dropped.flatten()[apart:] * dropped.flatten()[:-apart]
        assert float(both.mean()) == pytest.approx(share**2, abs=0.004)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(grad, out.detach())
    torch.manual_seed(0)
    assert torch.equal(dropout(x, share), out)
    assert not torch.equal(dropout(x, share), out)


def test_dropout_of_nothing_of_all_and_in_evaluation() -> None:
    x = torch.randn(3, 5)
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0) is x
    assert torch.equal(dropout(x, 1.0), torch.zeros(3, 5))
    assert dropout(torch.empty(0, 4), 0.5).shape == (0, 4)


def test_initialising_anew_sets_norms_to_one() -> None:
    stack = Stack(StackConfig(dim=8, depth=1, heads=2, norm=RMSNorm(), final_norm=LayerNorm()))
    with torch.no_grad():
        for p in stack.parameters():
            p.fill_(7.0)
    initialise(stack, "normal")
    assert torch.equal(stack.blocks[0].mixer.before.weight, torch.ones(8))
    assert torch.equal(stack.final_norm.weight, torch.ones(8))
    assert not any((p == 7.0).any() for p in stack.parameters())


@pytest.mark.parametrize(
    ("scheme", "spread", "last", "queries"),
    [
        ("normal", 0.02, 1, 1),
        ("depth_scaled", 0.02, 4**-0.5, 1),  # two blocks of two branches
        ("truncated", 0.02 * 0.8796, 1, 1),  # what is left of a normal that is cut at two deviations
        ("fan_in", 256**-0.5, 1, 64**-0.5),
        ("xavier", (2 / (256 + 256)) ** 0.5, 1, 1),
    ],
)
def test_schemes_draw_as_widely_as_they_say(scheme: Scheme, spread: float, last: float, queries: float) -> None:
    """Maps inside a fused projection, a branch's last map, and the queries of a stack that does not scale scores."""
    stack = Stack(StackConfig(dim=256, depth=2, heads=4, scale=FixedScale(), ffn=Plain(dim=256)))
    initialise(stack, scheme)
    block = stack.blocks[1]
    q, k, v = block.mixer.branch.to_qkv.weight.split(256)
    wanted = {q: queries, k: 1, v: 1, block.mixer.branch.to_out.weight: last, block.ffn.branch.up.weight: 1}
    for weight, share in (wanted | {block.ffn.branch.down.weight: last}).items():
        assert weight.std().item() == pytest.approx(spread * share, rel=0.02)
    bound = {"truncated": 2 * 0.02, "xavier": (6 / (256 + 256)) ** 0.5}.get(scheme)
    assert bound is None or 0.99 * bound < k.abs().max() <= bound


@torch.no_grad()
def test_forget_gates_of_an_lstm_are_open_at_first() -> None:
    """Jozefowicz et al. 2015: where nothing is read, sigmoid(1) of a state is kept."""
    stack = Stack(StackConfig(dim=8, depth=1, heads=2, causal=True, mixer=LSTM()))
    initialise(stack, "normal")
    cells = stack.blocks[0].mixer.branch.cells
    for part in (cells.weight_ih_l0, cells.weight_hh_l0, cells.bias_hh_l0):
        part.zero_()
    nothing = torch.zeros(1, 1, 8)
    full, empty = (cells(nothing, (nothing, held))[1][1] for held in (nothing + 1, nothing))
    torch.testing.assert_close(full - empty, torch.ones(1, 1, 8).sigmoid())


def test_a_branch_without_a_last_map_is_named() -> None:
    stack = Stack(StackConfig(dim=8, depth=1, heads=2))
    stack.blocks[0].ffn.branch = nn.Identity()
    with pytest.raises(ValueError, match="Identity must have it as `to_out` or `down`"):
        initialise(stack, "depth_scaled")


def test_gradients_of_single_sequences() -> None:
    """torch.func follows a stack, with what the core does by functions of its own: RMSNorm, moving padded tokens."""
    stack = Stack(
        StackConfig(dim=8, depth=1, heads=2, norm=RMSNorm(), final_norm=RMSNorm(), position=RelativeBuckets())
    )
    weights = {name: p.detach() for name, p in stack.named_parameters()}
    x, keep = torch.randn(3, 4, 8), torch.ones(3, 4, dtype=torch.bool)

    def loss(weights: dict[str, torch.Tensor], x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        layout = Layout.from_keep(keep)
        return torch.func.functional_call(stack, weights, (layout.take(x, keep), layout)).square().sum()

    each = torch.func.vmap(torch.func.grad(lambda w, x: loss(w, x.unsqueeze(0), keep[:1])), in_dims=(None, 0))(
        weights, x
    )
    keep[1, 2:] = False  # and with padding, without vmap
    for whole, expected in ((True, [each[name].sum(0) for name in weights]), (False, None)):
        given = torch.ones_like(keep) if whole else keep
        found = torch.func.grad(loss)(weights, x, given)
        stack.zero_grad()
        loss(dict(stack.named_parameters()), x, given).backward()
        for i, (name, p) in enumerate(stack.named_parameters()):
            torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-5)
            if expected is not None:
                torch.testing.assert_close(expected[i], p.grad, rtol=1e-4, atol=1e-5)


def test_wrapped_blocks_still_have_states() -> None:
    config = StackConfig(dim=8, depth=2, heads=2, causal=True)
    stack, x = Stack(config), torch.randn(3, 8)
    expected = stack(x, Layout.dense(1, 3))
    stack.blocks = nn.ModuleList(checkpoint_wrapper(block) for block in stack.blocks)
    cache = Cache(stack, 1, 3)
    with torch.no_grad():
        parts = [stack(row, cache.next(), cache=cache) for row in x.split(1)]
    torch.testing.assert_close(torch.cat(parts), expected)


def test_networks_built_undrawn_have_their_constants_and_shapes() -> None:
    """Building is all that changes: what is set to a constant is set, and draws afterwards are draws."""
    config = StackConfig(dim=8, depth=1, heads=2)
    with Undrawn():
        stack = Stack(config)
        initialise(stack, "truncated")
        buffer = torch.full((100,), 3.0).normal_()
        torch.manual_seed(7)
        nn.Linear(8, 8)
        after = torch.rand(1)
    assert {n: p.shape for n, p in stack.named_parameters()} == {
        n: p.shape for n, p in Stack(config).named_parameters()
    }
    assert torch.equal(stack.final_norm.weight, torch.ones(8))
    assert torch.equal(stack.blocks[0].ffn.branch.up.bias, torch.zeros(32))
    assert buffer.std() > 0.5  # no parameter: no weight will replace it
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(1))  # parameters, whole or their rows, took no draws
    assert torch.full((100,), 3.0).normal_().std() > 0.5
