"""MusicLM: one stream and several codebooks, with and without a context, against itself and MusicGen's decoder."""

import pytest
import torch

from zoo.core import LSTM, Bias, Plain, Rotary, Sinusoidal, Skewed, StackConfig
from zoo.core.decode import Sampling
from zoo.music import MusicLM

STACK = StackConfig(dim=24, depth=2, heads=4, causal=True, position=Rotary())


def model(codebooks: int = 1, context_dim: int | None = None, **changes: object) -> MusicLM:
    torch.manual_seed(0)
    return MusicLM(STACK.replace(**changes), 11, codebooks=codebooks, context_dim=context_dim).double().eval()


def given(codebooks: int, batch: int, length: int) -> torch.Tensor:
    shape = (batch, length) if codebooks == 1 else (batch, codebooks, length)
    return torch.randint(0, 12, shape)


@pytest.mark.parametrize("codebooks", [1, 4])
def test_padding_is_not_seen(codebooks: int) -> None:
    net, ids = model(codebooks), given(codebooks, 2, 6)
    keep = torch.tensor([[True] * 6, [False, False, True, True, True, True]])
    scores = net(ids, keep)
    assert scores.shape == (*ids.shape, 11)
    assert scores[1, ..., :2, :].abs().sum() == 0
    torch.testing.assert_close(scores[1:, ..., 2:, :], net(ids[1:, ..., 2:]))


@pytest.mark.parametrize("codebooks", [1, 4])
@pytest.mark.parametrize("changes", [{}, {"position": Skewed(5)}, {"position": Sinusoidal(), "mixer": LSTM()}], ids=str)
def test_what_is_written_is_what_one_pass_prefers(codebooks: int, changes: dict[str, object]) -> None:
    """From the cache, after prompts padded on the left, with and without a context of unequal lengths."""
    for context_dim in (None, 7):
        net = model(codebooks, context_dim, cross=context_dim is not None, **changes)
        ids = given(codebooks, 2, 5)
        keep = torch.tensor([[True] * 5, [False] * 3 + [True] * 2])
        more: dict[str, torch.Tensor] = {}
        if context_dim is not None:
            more = {
                "context": torch.randn(2, 4, 7).double(),
                "context_keep": torch.tensor([[True] * 4, [True] * 2 + [False] * 2]),
            }
        written = net.generate(ids, keep, length=6, **more)
        for row in range(2):
            whole = torch.cat((ids[row][..., keep[row]], written[row]), -1)[None]
            own = {name: value[row : row + 1] for name, value in more.items()}
            best = net(whole[..., :-1], **own).argmax(-1)[0][..., -6:]
            assert torch.equal(best, written[row])


def test_codebooks_know_the_past_alone() -> None:
    """Scores of a position move with codes up to it and with none after it, in every codebook."""
    net, ids = model(4), given(4, 1, 5)
    scores = net(ids)
    for k in range(4):
        other = ids.clone()
        other[0, k, 3] = (other[0, k, 3] + 1) % 12
        moved = (net(other) - scores).abs().amax((0, 3))
        assert (moved[:, :3] == 0).all()
        assert (moved[:, 3:] > 0).all()


def test_the_token_that_is_only_read_is_never_written() -> None:
    net = model(4)
    drawn = net.generate(torch.full((3, 4, 1), net.start), length=20, sampling=Sampling(temperature=50.0))
    assert drawn.max() < net.start


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stack": STACK.replace(causal=False)}, "set causal"),
        ({"codebooks": 0}, r"codebooks \(0\)"),
        ({"context_dim": 5}, "set cross"),
        ({"codebooks": 2, "end": 1}, "leave end unset"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MusicLM(**({"stack": STACK, "vocab_size": 11} | settings))  # type: ignore[arg-type]


def test_wrong_shapes_and_contexts_are_said() -> None:
    with pytest.raises(ValueError, match='tokens "b n"'):
        model()(given(4, 1, 3))
    with pytest.raises(ValueError, match='tokens "b 4 n"'):
        model(4)(given(3, 1, 3))
    with pytest.raises(ValueError, match="needs a context"):
        model(cross=True).generate(given(1, 1, 3), length=2)
    with pytest.raises(ValueError, match="a stack without cross attention looks at no context"):
        model().generate(given(1, 1, 3), length=2, context=torch.zeros(1, 2, 24).double())


def test_plain_values_make_it_again() -> None:
    net = model(4, 7, cross=True)
    again = MusicLM.from_plain(net.to_plain()).double().eval()
    again.load_state_dict(net.state_dict())
    ids, context = given(4, 1, 3), torch.randn(1, 2, 7).double()
    assert torch.equal(net(ids, context=context), again(ids, context=context))


@torch.no_grad()
def test_musicgen_decoder_is_settings_of_it() -> None:
    """Same weights, same scores; 1e-6, since the reference keeps its sines in float32."""
    transformers = pytest.importorskip("transformers")
    config = transformers.MusicgenDecoderConfig(
        vocab_size=11, hidden_size=24, num_hidden_layers=2, ffn_dim=20, num_attention_heads=4, num_codebooks=4,
        pad_token_id=11, bos_token_id=11, activation_function="gelu",
    )  # fmt: skip
    theirs = transformers.MusicgenForCausalLM(config).double().eval()
    for parameter in theirs.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    bias = Bias(qkv=False, out=False, ffn=False)
    ours = model(4, cross=True, position=Sinusoidal("cosine_first"), bias=bias, ffn=Plain("gelu", 20))
    state = theirs.state_dict()
    names = {
        "mixer.branch.to_qkv": [f"self_attn.{n}_proj" for n in "qkv"],
        "mixer.branch.to_out": ["self_attn.out_proj"],
        "cross.branch.to_q": ["encoder_attn.q_proj"],
        "cross.branch.to_kv": [f"encoder_attn.{n}_proj" for n in "kv"],
        "cross.branch.to_out": ["encoder_attn.out_proj"],
        "ffn.branch.up": ["fc1"],
        "ffn.branch.down": ["fc2"],
        "mixer.before": ["self_attn_layer_norm"],
        "cross.before": ["encoder_attn_layer_norm"],
        "ffn.before": ["final_layer_norm"],
    }
    taken = {
        "embedding.weight": torch.cat([state[f"model.decoder.embed_tokens.{k}.weight"] for k in range(4)]),
        "head.weight": torch.cat([state[f"lm_heads.{k}.weight"] for k in range(4)]),
        "stack.final_norm.weight": state["model.decoder.layer_norm.weight"],
        "stack.final_norm.bias": state["model.decoder.layer_norm.bias"],
    }
    for name in ours.state_dict():
        if name.startswith("stack.blocks"):
            _, _, layer, *rest, kind = name.split(".")
            parts = [f"model.decoder.layers.{layer}.{part}.{kind}" for part in names[".".join(rest)]]
            taken[name] = torch.cat([state[part] for part in parts])
    ours.load_state_dict(taken)
    codes, context = given(4, 2, 7), torch.randn(2, 5, 24).double()
    keep = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    reference = theirs(
        codes.flatten(0, 1), encoder_hidden_states=context, encoder_attention_mask=keep.long()
    ).logits.unflatten(0, (2, 4))
    torch.testing.assert_close(ours(codes, context=context, context_keep=keep), reference, atol=1e-6, rtol=0)
    ours.stack.blocks[0].cross.branch.to_kv.weight[0] += 1.0  # the comparison sees one wrong row
    assert (ours(codes, context=context, context_keep=keep) - reference).abs().max() > 1e-4


@pytest.mark.parametrize("codebooks", [1, 4])
def test_weights_are_all_that_a_network_made_without_memory_lacks(codebooks: int) -> None:
    net, ids = model(codebooks), given(codebooks, 2, 6)
    with torch.device("meta"):
        other = model(codebooks)
    other.load_state_dict(net.state_dict(), assign=True)
    assert torch.equal(other(ids), net(ids))
