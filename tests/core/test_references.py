"""The core against other people's code and against formulas written out. Each comparison has knobs that break it."""

import math
from dataclasses import replace

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.core.architectures import build, context
from zoo.core import (
    GRU,
    LSTM,
    RNN,
    ALiBi,
    Bias,
    EvenStretch,
    FixedScale,
    Gated,
    LayerNorm,
    Layout,
    LongStretch,
    NoNorm,
    NoStretch,
    Peaks,
    Periodic,
    Plain,
    RelativeBuckets,
    RMSNorm,
    Rotary,
    Sinusoidal,
    Skewed,
    Stack,
    StackConfig,
    attend,
)
from zoo.core.attention import SelfAttention
from zoo.core.cache import State
from zoo.core.mixer import Frame

DOUBLE = torch.float64
POST = StackConfig(dim=24, depth=2, heads=4, norm_order="post", final_norm=NoNorm(), ffn=Plain("relu", 40))
PRE = POST.replace(norm_order="pre")


# -- torch.nn ----------------------------------------------------------------------------------------------------------


def perturbed(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    return module.double().eval()


def copy_attention(ours: nn.Module, theirs: nn.MultiheadAttention) -> None:
    weight, bias = theirs.in_proj_weight, theirs.in_proj_bias
    if hasattr(ours, "to_qkv"):
        ours.to_qkv.weight.copy_(weight)
        ours.to_qkv.bias.copy_(bias)
    else:
        dim = weight.shape[1]
        ours.to_q.weight.copy_(weight[:dim])
        ours.to_q.bias.copy_(bias[:dim])
        ours.to_kv.weight.copy_(weight[dim:])
        ours.to_kv.bias.copy_(bias[dim:])
    ours.to_out.load_state_dict(theirs.out_proj.state_dict())


@torch.no_grad()
def copy_layers(stack: Stack, layers: nn.ModuleList) -> Stack:
    """The weights of torch's encoder or decoder layers into a stack."""
    pre = stack.config.norm_order == "pre"
    for block, layer in zip(stack.blocks, layers, strict=True):
        branches = [block.mixer, *([block.cross] if stack.config.cross else []), block.ffn]
        norms = [layer.norm1, layer.norm2, *([layer.norm3] if stack.config.cross else [])]
        copy_attention(block.mixer.branch, layer.self_attn)
        if stack.config.cross:
            copy_attention(block.cross.branch, layer.multihead_attn)
        block.ffn.branch.up.load_state_dict(layer.linear1.state_dict())
        block.ffn.branch.down.load_state_dict(layer.linear2.state_dict())
        for branch, norm in zip(branches, norms, strict=True):
            own = branch.before if pre else branch.after
            if isinstance(own, nn.LayerNorm):
                own.weight.copy_(norm.weight)
                own.bias.copy_(norm.bias)
    return stack


def encoder_difference(config: StackConfig, *, norm_first: bool = False, dtype: torch.dtype = DOUBLE) -> float:
    """Largest difference from torch's encoder, over real tokens of a padded batch."""
    layer = nn.TransformerEncoderLayer(24, 4, 40, 0.0, "relu", 1e-5, batch_first=True, norm_first=norm_first)
    theirs = perturbed(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)).to(dtype)
    ours = copy_layers(Stack(config).to(dtype).eval(), theirs.layers)
    keep = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
    x, layout = torch.randn(2, 6, 24, dtype=dtype), Layout.from_keep(keep)
    with torch.no_grad():
        expected = theirs(x, src_key_padding_mask=~keep)[keep]
        return float((ours(layout.take(x, keep), layout) - expected).abs().max())


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (DOUBLE, 1e-12)])
@pytest.mark.parametrize("order", ["pre", "post"])
def test_torch_encoder(order: str, dtype: torch.dtype, bound: float) -> None:
    """Outputs are of order 1 to 10, so float32's bound is 1e-6 relative."""
    assert encoder_difference(POST.replace(norm_order=order), norm_first=order == "pre", dtype=dtype) < bound


WRONG = {
    "norm order": {"norm_order": "pre"},
    "eps": {"norm": LayerNorm(eps=1e-4)},
    "norm": {"norm": RMSNorm(eps=1e-5)},
    "scale": {"scale": FixedScale(1.0)},
    "activation": {"ffn": Plain("gelu", 40)},
    "causal": {"causal": True},
    "position": {"position": Rotary()},
    "added position": {"position": Sinusoidal()},
    "embedding norm": {"embed_norm": LayerNorm()},
    "final norm": {"final_norm": RMSNorm()},
    "query-key norm": {"qk_norm": RMSNorm()},
    "heads": {"heads": 2},
    "layer scale": {"layer_scale": 0.9},
}


@pytest.mark.parametrize("knob", WRONG)
def test_torch_encoder_with_one_knob_wrong(knob: str) -> None:
    assert encoder_difference(POST.replace(**WRONG[knob])) > 1e-7


@pytest.mark.parametrize("order", ["pre", "post"])
def test_torch_decoder(order: str) -> None:
    layer = nn.TransformerDecoderLayer(24, 4, 40, 0.0, "relu", 1e-5, batch_first=True, norm_first=order == "pre")
    theirs = perturbed(nn.TransformerDecoder(layer, 2))
    config = POST.replace(norm_order=order, causal=True, cross=True)
    ours = copy_layers(Stack(config).double().eval(), theirs.layers)
    keep = torch.tensor([[True] * 5, [True] * 4 + [False]])
    source = torch.tensor([[True] * 2 + [False] * 2, [True] * 4])
    x, states = torch.randn(2, 5, 24, dtype=DOUBLE), torch.randn(2, 4, 24, dtype=DOUBLE)
    layout, other = Layout.from_keep(keep), Layout.from_keep(source)
    with torch.no_grad():
        expected = theirs(
            x,
            states,
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(5, dtype=DOUBLE),
            tgt_key_padding_mask=torch.zeros(2, 5, dtype=DOUBLE).masked_fill(~keep, -math.inf),
            memory_key_padding_mask=~source,
        )[keep]
        out = ours(layout.take(x, keep), layout, context=other.take(states, source), context_layout=other)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def recurrent_difference(mixer, theirs: nn.RNNBase, causal: bool) -> float:
    """Largest difference of a mixer from torch's own module, sequence by sequence, and of its gradients."""
    block = Stack(StackConfig(dim=12, depth=1, heads=2, mixer=mixer, causal=causal)).double().blocks[0].mixer.branch
    block.cells.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        block.to_out.weight.copy_(torch.eye(12))
        block.to_out.bias.zero_()
    lengths = torch.tensor([2, 5, 1])
    layout = Layout.packed_from(lengths)
    x = torch.randn(layout.tokens, 12, dtype=DOUBLE, requires_grad=True)
    out, _ = block.run_packed(x, layout, None)
    expected = torch.cat([theirs(part.unsqueeze(0))[0][0] for part in x.split(lengths.tolist())])
    grads = [torch.autograd.grad(y.square().sum(), x)[0] for y in (block.to_out(out), expected)]
    return float(max((out - expected).abs().max(), (grads[0] - grads[1]).abs().max()))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("mixer", "kind"), [(LSTM(), nn.LSTM), (GRU(), nn.GRU), (RNN(), nn.RNN)])
def test_torch_recurrence(mixer, kind: type[nn.RNNBase], causal: bool) -> None:
    theirs = kind(12, 12 if causal else 6, batch_first=True, bidirectional=not causal).double()
    assert recurrent_difference(mixer, theirs, causal) < 1e-12


# -- attention ---------------------------------------------------------------------------------------------------------


def plain_attention(q, k, v, lengths, key_lengths, causal, bias, scale) -> Tensor:
    """Query by query, key by key, in float64: "t h e" over sequences one after the other."""
    out = torch.zeros_like(q)
    heads, groups = q.shape[1], k.shape[1]
    begin = key_begin = 0
    for b, (n, m) in enumerate(zip(lengths, key_lengths, strict=True)):
        for h in range(heads):
            g = h // (heads // groups)
            for i in range(n):
                allowed = range(m - n + i + 1) if causal else range(m)
                scores = [float(q[begin + i, h] @ k[key_begin + j, g]) * scale for j in allowed]
                if bias is not None:
                    scores = [s + float(bias[b % len(bias), h, i, j]) for s, j in zip(scores, allowed, strict=True)]
                top = max(scores)
                weights = [math.exp(s - top) for s in scores]
                for w, j in zip(weights, allowed, strict=True):
                    out[begin + i, h] += w / sum(weights) * v[key_begin + j, g]
        begin, key_begin = begin + n, key_begin + m
    return out


@pytest.mark.parametrize("with_bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("groups", [4, 2, 1])
@pytest.mark.parametrize("shape", ["dense", "packed", "cross"])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("kernel", ["explicit", "fused", "float32"])
def test_attention_written_out(kernel: str, causal: bool, shape: str, groups: int, with_bias: bool) -> None:
    lengths = [4, 4] if shape == "dense" else [5, 2]
    key_lengths = [3, 6] if shape == "cross" else lengths
    if shape == "cross" and causal:
        key_lengths = [7, 4]  # the last query sees the last key
    queries = Layout.packed_from(torch.tensor(lengths))
    keys = queries if key_lengths == lengths else Layout.packed_from(torch.tensor(key_lengths))
    q = torch.randn(sum(lengths), 4, 6, dtype=DOUBLE)
    k, v = (torch.randn(sum(key_lengths), groups, 6, dtype=DOUBLE) for _ in range(2))
    bias = torch.randn(2, 4, max(lengths), max(key_lengths), dtype=DOUBLE) if with_bias else None
    out = attend(q, k, v, queries=queries, keys=keys, causal=causal, bias=bias, scale=0.3, kernel=kernel)
    expected = plain_attention(q, k, v, lengths, key_lengths, causal, bias, 0.3)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6 if kernel == "float32" else 1e-12)
    wrong = attend(q, k, v, queries=queries, keys=keys, causal=causal, bias=bias, scale=0.31, kernel=kernel)
    assert (wrong - expected).abs().max() > 1e-4


# -- positions ---------------------------------------------------------------------------------------------------------


def added(order: str, tokens: int = 30, dim: int = 8) -> Tensor:
    module = Sinusoidal(order).build(StackConfig(dim=dim, depth=1, heads=2))
    return module.embed(torch.zeros(tokens, dim), Layout.dense(1, tokens))


def test_sinusoids_of_the_paper() -> None:
    """Vaswani et al. 2017, section 3.5."""
    table = added("interleaved")
    for pos in (0, 1, 17):
        for i in range(4):
            angle = pos / 10_000 ** (2 * i / 8)
            assert table[pos, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[pos, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_sinusoids_in_halves_hold_the_same_channels() -> None:
    mixed, halves = added("interleaved"), added("halves")
    assert torch.equal(halves, torch.cat((mixed[:, 0::2], mixed[:, 1::2]), -1))


def test_sinusoids_cosine_first() -> None:
    table = added("cosine_first")
    for pos in (0, 3, 29):
        for i in range(4):
            angle = pos * 10_000 ** (-i / 3)
            assert table[pos, i].item() == pytest.approx(math.cos(angle), abs=1e-6)
            assert table[pos, 4 + i].item() == pytest.approx(math.sin(angle), abs=1e-6)


def test_sinusoids_are_the_same_looked_up_and_computed() -> None:
    module = Sinusoidal().build(StackConfig(dim=8, depth=1, heads=2))
    x = torch.zeros(12, 8)
    many = module.embed(x, Layout.dense(4, 3))
    few = module.embed(x[:3], Layout.dense(1, 3))
    assert torch.equal(many[:3], few)
    assert torch.equal(many[9:], few)


def test_a_cycle_goes_on_wherever_a_sequence_is() -> None:
    module = Periodic(4).build(StackConfig(dim=8, depth=1, heads=2))
    pos = torch.tensor([[6, 7, 8, 9], [0, 1, 2, -1]])  # a sequence that goes on, and one with a token of no place
    added = module.embed(torch.zeros(8, 8), Layout.dense(2, 4, pos=pos))
    expected = module.table.weight[[2, 3, 0, 1, 0, 1, 2]]
    assert torch.equal(added, torch.cat((expected, torch.zeros(1, 8))))


def rotated(theta: float, pos: Tensor, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    module = Rotary(theta).build(StackConfig(dim=8, depth=1, heads=1))
    layout = Layout.dense(1, len(pos), pos=pos.unsqueeze(0))
    return module.rotate(q, k, module.prepare(layout, layout))


def test_rotary_is_a_complex_turn() -> None:
    pos = torch.tensor([0, 1, 5, 40])
    q, k = torch.randn(4, 1, 8), torch.randn(4, 1, 8)
    turned, _ = rotated(100.0, pos, q, k)
    turn = torch.polar(torch.ones(4, 4), pos.unsqueeze(-1) * 100.0 ** (-torch.arange(4) / 4)).unsqueeze(1)
    expected = torch.complex(q[..., :4], q[..., 4:]) * turn
    torch.testing.assert_close(turned, torch.cat((expected.real, expected.imag), -1), rtol=0, atol=1e-5)
    assert not torch.allclose(rotated(101.0, pos, q, k)[0], turned, atol=1e-4)


@pytest.mark.parametrize(("width", "tokens"), [(16, 9), (16, 40), (64, 40)])
def test_a_turn_of_half_precision_is_near_the_exact_one(width: int, tokens: int) -> None:
    """There and back, for halves of a head that fill a register and for those that do not, of few tokens and many."""
    position = Rotary().build(StackConfig(dim=3 * width, depth=1, heads=3))
    layout = Layout.dense(2, tokens)
    x, back = torch.randn(2, layout.tokens, 3, width, dtype=torch.bfloat16)
    found = {}
    for dtype in (torch.bfloat16, torch.float64):
        q = x.to(dtype).requires_grad_()
        turned, _ = position.rotate(q, q, position.prepare(layout, layout))
        found[dtype] = (turned, *torch.autograd.grad(turned, q, back.to(dtype)))
    for near, exact in zip(found[torch.bfloat16], found[torch.float64], strict=True):
        torch.testing.assert_close(near.double(), exact, rtol=0.02, atol=0.03)


def test_rotary_scores_depend_on_distance_alone() -> None:
    q, k = torch.randn(1, 1, 8).expand(9, -1, -1), torch.randn(1, 1, 8).expand(9, -1, -1)
    a, b = rotated(50.0, torch.arange(9), q, k)
    scores = a[:, 0] @ b[:, 0].T
    for shift in range(1, 6):
        diagonal = scores.diagonal(shift)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)


def paper_bucket(distance: int, both: bool, buckets: int, far: int) -> int:
    """Raffel et al. 2020's code in words: exact buckets for the near, logarithmic ones for the far."""
    bucket = 0
    if both:
        buckets //= 2
        bucket = buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    near = buckets // 2
    if distance < near:
        return bucket + distance
    grown = near + int(math.log(distance / near) / math.log(far / near) * (buckets - near))
    return bucket + min(grown, buckets - 1)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(("buckets", "far"), [(32, 128), (8, 20)])
def test_t5_buckets(both: bool, buckets: int, far: int) -> None:
    module = RelativeBuckets(buckets, far).build(StackConfig(dim=8, depth=1, heads=2, causal=not both))
    distances = list(range(-200, 201))
    got = module.bucket(torch.tensor(distances)).tolist()
    expected = [paper_bucket(d, both, buckets, far) for d in distances]
    # at powers where the logarithm is a whole number float32 may fall to either side
    assert sum(a != b for a, b in zip(got, expected, strict=True)) <= 4
    assert max(abs(a - b) for a, b in zip(got, expected, strict=True)) <= 1


@pytest.mark.parametrize(
    "scheme", [RelativeBuckets(8, 20), ALiBi(), Peaks((0, -2), (1.0, 0.1))], ids=lambda s: type(s).__name__
)
def test_static_bias_by_diagonals_is_the_bias_pair_by_pair(scheme) -> None:
    module = scheme.build(StackConfig(dim=8, depth=1, heads=2, causal=True))
    even = module.prepare(Layout.dense(2, 5, start=3), Layout.dense(2, 8))
    pos = torch.arange(3, 8).expand(2, -1)
    odd = module.prepare(Layout.dense(2, 5, pos=pos), Layout.dense(2, 8))
    assert even.shape == (2, 5, 8)
    assert torch.equal(odd, even.expand(2, -1, -1, -1))


def test_alibi_slopes() -> None:
    """Press et al. 2022, section 3: 1/2, 1/4 ... 1/256 for eight heads."""
    module = ALiBi().build(StackConfig(dim=8, depth=1, heads=8))
    assert module.slopes == [2.0**-i for i in range(1, 9)]
    twelve = ALiBi().build(StackConfig(dim=12, depth=1, heads=12)).slopes
    assert twelve[:8] == module.slopes
    assert twelve[8:] == pytest.approx([2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])


def test_steep_peaks_are_the_taps_of_a_convolution() -> None:
    """Cordonnier et al. 2020, section 3: with queries of zero, head i reads the token at distances[i] and no other."""
    distances = (-1, 0, 1)
    config = StackConfig(dim=6, depth=1, heads=3, position=Peaks(distances, slopes=(200.0,) * 3))
    mixer, position = config.mixer.build(config, 0).double(), config.position.build(config)
    assert isinstance(mixer, SelfAttention)
    with torch.no_grad():
        mixer.to_qkv.weight[:6] = 0
        mixer.to_qkv.bias[:6] = 0
    layout = Layout.from_keep(torch.arange(9) < torch.tensor([[9], [5]]))
    x = torch.randn(14, 6, dtype=DOUBLE)
    frame = Frame(layout=layout, keys=layout, position=position, prepared=position.prepare(layout, layout))
    found = layout.pad(mixer(x, frame, State()))
    values = rearrange(mixer.to_qkv.weight[12:], "(h e) d -> h e d", h=3)
    out = rearrange(mixer.to_out.weight, "d (h e) -> h d e", h=3)
    kernel = rearrange(out @ values, "h o i -> o i h")
    bias = mixer.to_out(mixer.to_qkv.bias[12:])
    expected = nn.functional.conv1d(rearrange(layout.pad(x), "b n d -> b d n"), kernel, bias, padding=1)
    for row, length in enumerate((9, 5)):  # a convolution reads zeros beyond the ends, a head the last token there is
        inner = slice(1, length - 1)
        torch.testing.assert_close(found[row, inner], expected[row, :, inner].T)


def test_a_rotation_is_its_formula_and_turns_gradients_back() -> None:
    """Su et al. 2021, equation 34, in halves: against the matrix, to the second derivative."""
    module = Rotary(theta=7.0).build(StackConfig(dim=12, depth=1, heads=2)).double()
    layout = Layout.dense(2, 5, start=3)
    cos, sin = (table.double() for table in module.prepare(layout, layout))
    q, k = (torch.randn(10, h, 6, dtype=DOUBLE, requires_grad=True) for h in (2, 1))
    angle = torch.tensor([(3 + t % 5) * 7.0 ** (-i / 3) for t in range(10) for i in range(3)], dtype=DOUBLE).view(
        10, 1, 3
    )
    left, right = q[..., :3], q[..., 3:]
    turned = (left * angle.cos() - right * angle.sin(), right * angle.cos() + left * angle.sin())
    torch.testing.assert_close(module.rotate(q, k, (cos, sin))[0], torch.cat(turned, -1), rtol=0, atol=1e-5)
    assert torch.autograd.gradgradcheck(lambda *parts: module.rotate(*parts, (cos, sin)), (q, k))
    assert torch.autograd.gradcheck(lambda *parts: module.rotate(*parts, (cos, sin)), (q, k))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("start", "n"), [(0, 7), (4, 3), (6, 1)])
def test_skewed_products_against_brute_force(causal: bool, start: int, n: int) -> None:
    """Huang et al. 2019, equation 3: the score of (i, j) gains q_i . r_(j - i)."""
    config = StackConfig(dim=8, depth=2, heads=2, causal=causal, position=Skewed(4))
    module = config.position.build(config).double()
    m = start + n if causal else 9
    queries, keys = Layout.dense(3, n, start=start), Layout.dense(3, m)
    q = torch.randn(3 * n, 2, 4, dtype=DOUBLE)
    relative = module.score(q, module.prepare(queries, keys), layer=1)
    bias = relative.written_out(queries.by_head(q) * 4**-0.5, m, causal=causal and start == 0)
    rows = module.table[1]
    far = 3
    for b in range(3):
        for h in range(2):
            for i in range(n):
                for j in range(m):
                    distance = j - (start + i)
                    if causal and distance > 0:
                        continue
                    row = rows[h, max(-far, min(far, distance)) + far]
                    expected = float(q[b * n + i, h] @ row) * 4**-0.5
                    assert bias[b, h, i, j].item() == pytest.approx(expected, abs=1e-12)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, Tensor):
                self.numbers = max(self.numbers, x.numel())
        return out


@pytest.mark.parametrize("position", [Skewed(96), RelativeBuckets(), Rotary()], ids=lambda p: type(p).__name__)
def test_no_tensor_has_a_vector_for_every_pair(position) -> None:
    n, width = 96, 32
    stack = Stack(StackConfig(dim=width, depth=1, heads=1, causal=True, position=position, ffn=Plain(dim=32)))
    with Largest() as seen:
        stack(torch.randn(n, width), Layout.dense(1, n)).sum().backward()
    assert seen.numbers < n * n * width / 8
    with Largest() as seen:  # negative control: the tensor that must not exist would be seen
        torch.zeros(n, n, width)
    assert seen.numbers == n * n * width


# -- norms and feed-forwards -------------------------------------------------------------------------------------------


def test_rms_norm_is_its_formula() -> None:
    norm = RMSNorm(eps=1e-3).build(10).double()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
    x = torch.randn(5, 3, 10, dtype=DOUBLE, requires_grad=True)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * norm.weight
    torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-14)
    assert torch.autograd.gradcheck(
        lambda x, w: torch.func.functional_call(norm, {"weight": w}, (x,)), (x, norm.weight)
    )
    with torch.no_grad():
        assert torch.equal(norm(x), norm(x.detach().requires_grad_()))
    assert torch.autograd.gradgradcheck(
        lambda x, w: torch.func.functional_call(norm, {"weight": w}, (x,)), (x, norm.weight)
    )


def test_rms_norm_in_bfloat16_rounds_once(device: torch.device) -> None:
    norm, x = RMSNorm().build(64).to(device), torch.randn(7, 64, device=device)
    half = RMSNorm().build(64).bfloat16().to(device)
    out = half(x.bfloat16().requires_grad_())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), norm(x.bfloat16().float()), rtol=2**-8, atol=0)


@pytest.mark.parametrize("name", ["relu", "gelu", "gelu_tanh", "silu"])
def test_feed_forwards_are_their_formulas(name: str) -> None:
    formulas = {
        "relu": lambda x: x.clamp(min=0),
        "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
        "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "silu": lambda x: x / (1 + torch.exp(-x)),
    }
    config = StackConfig(dim=6, depth=1, heads=1)
    x = torch.randn(9, 6, dtype=DOUBLE)
    plain = Plain(name, 10).build(config).double()
    torch.testing.assert_close(plain(x), plain.down(formulas[name](plain.up(x))), rtol=0, atol=1e-12)
    gated = Gated(name, 10).build(config).double()
    gate, up = gated.gate_up(x)[:, :10], gated.gate_up(x)[:, 10:]
    torch.testing.assert_close(gated(x), gated.down(formulas[name](gate) * up), rtol=0, atol=1e-12)
    assert (plain(x) - plain.down(formulas["relu" if name != "relu" else "silu"](plain.up(x)))).abs().max() > 1e-4


def test_grouped_heads_are_repeated_heads() -> None:
    """A stack with 2 key heads equals one with 4 whose key and value maps hold each of them twice."""
    few = StackConfig(dim=24, depth=1, heads=4, kv_heads=2, bias=Bias(qkv=False), position=Rotary())
    a, b = Stack(few).double(), Stack(replace(few, kv_heads=None)).double()
    state = a.state_dict()
    q, k, v = state["blocks.0.mixer.branch.to_qkv.weight"].split([24, 12, 12])
    twice = [rearrange(x, "(g e) d -> g 1 e d", g=2).expand(-1, 2, -1, -1).reshape(24, 24) for x in (k, v)]
    state["blocks.0.mixer.branch.to_qkv.weight"] = torch.cat((q, *twice))
    b.load_state_dict(state)
    x, layout = torch.randn(10, 24, dtype=DOUBLE), Layout.dense(2, 5)
    torch.testing.assert_close(a(x, layout), b(x, layout), rtol=0, atol=1e-12)


def test_norms_of_heads_take_away_how_long_queries_and_keys_are() -> None:
    """In self and in cross attention; values keep their length."""
    stack = build(StackConfig(dim=24, depth=1, heads=4, causal=True, cross=True, qk_norm=RMSNorm(eps=0.0)), DOUBLE)
    x, given = torch.randn(5, 24, dtype=DOUBLE), context(stack.config, 1, DOUBLE)
    before = stack(x, Layout.dense(1, 5), **given)
    own, other = stack.blocks[0].mixer.branch, stack.blocks[0].cross.branch
    for linear, rows in ((own.to_qkv, slice(48)), (other.to_q, slice(24)), (other.to_kv, slice(24))):
        for part in (linear.weight, linear.bias):
            part.data[rows] *= 3
    torch.testing.assert_close(stack(x, Layout.dense(1, 5), **given), before, rtol=0, atol=1e-12)
    other.to_kv.weight.data[24:] *= 3
    assert (stack(x, Layout.dense(1, 5), **given) - before).abs().max() > 1e-3


# -- rotary wavelengths, stretched -------------------------------------------------------------------------------------


def test_an_even_stretch_is_a_finer_position() -> None:
    """Position 3 p of wavelengths three times as long is position p."""
    config = StackConfig(dim=16, depth=1, heads=2, position=Rotary(), causal=True)
    plain, even = (Rotary(stretch=s).build(config) for s in (NoStretch(), EvenStretch(3.0)))
    near = plain.prepare(*[Layout.dense(1, 5)] * 2)
    far = even.prepare(*[Layout.dense(1, 5, pos=3 * torch.arange(5).unsqueeze(0))] * 2)
    for a, b in zip(near, far, strict=True):
        torch.testing.assert_close(a, b)


def test_a_long_stretch_leaves_short_wavelengths() -> None:
    stretch = LongStretch(factor=8.0, low=1.0, high=4.0, length=1000)
    rates = 2 * math.pi * torch.tensor([1 / 10, 1 / 250, 1 / 400, 1 / 1000, 1 / 9000])
    share = stretch.rates(rates) / rates
    # 100 and 4 waves in 1,000 tokens stay, 1 and fewer are eight times as long, 2.5 is half way between the two
    torch.testing.assert_close(share, torch.tensor([1.0, 1.0, 0.5 + 0.5 / 8, 1 / 8, 1 / 8]))


@pytest.mark.parametrize("numbers", [(0.0, 1.0, 4.0), (8.0, 4.0, 4.0), (8.0, 0.0, 4.0)])
def test_a_stretch_that_makes_no_sense(numbers: tuple[float, float, float]) -> None:
    factor, low, high = numbers
    with pytest.raises(ValueError, match="must be above"):
        LongStretch(factor=factor, low=low, high=high, length=8)
