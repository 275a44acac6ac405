"""Llama (Touvron et al. 2023) as transformers stores it: LlamaForCausalLM, LlamaForSequenceClassification."""

from typing import Any

from zoo.core import Bias, EvenStretch, Gated, LongStretch, NoStretch, RMSNorm, Rotary, StackConfig, Stretch
from zoo.core.network import Network
from zoo.weights.families import ACTIVATIONS, Family, Given, Table, joined
from zoo.weights.gpt2 import last_token_classes, under_head


def settings(given: Given, architecture: str) -> dict[str, Any]:
    norm = RMSNorm(eps=given.number("rms_norm_eps", 1e-6))
    dim, heads = given.whole("hidden_size", 4096), given.whole("num_attention_heads", 32)
    if heads < 1:
        raise given.refused("num_attention_heads", "at least one is needed")
    biased = given.flag("attention_bias", False)
    stack = StackConfig(
        dim=dim,
        depth=given.whole("num_hidden_layers", 32),
        heads=heads,
        kv_heads=given.whole("num_key_value_heads", heads),
        head_dim=given.whole("head_dim", dim // heads),
        causal=True,
        position=rotary(given),
        norm=norm,
        final_norm=norm,
        bias=Bias(qkv=biased, out=biased, ffn=given.flag("mlp_bias", False)),
        ffn=Gated(given.choice("hidden_act", ACTIVATIONS, "silu"), given.whole("intermediate_size", 11008)),
        attention_dropout=given.number("attention_dropout", 0.0),
    )
    # how a product was cut for several devices; rotary positions have no table that would end there
    given.silent("pretraining_tp", "max_position_embeddings", "pad_token_id", "is_llama_config")
    given.only(rope_interleaved=False)  # of those who trained by other code, where it says how rotary pairs stand
    common = {"stack": stack, "vocab_size": given.whole("vocab_size", 32000)}
    if architecture == "LlamaForSequenceClassification":
        return common | last_token_classes(given)
    return common | {
        "tied": given.flag("tie_word_embeddings", False),
        **given.ends(),
    }


def rotary(given: Given) -> Rotary:
    """`rope_parameters` of today's files, `rope_theta` and `rope_scaling` of older ones."""
    older, today = given.within("rope_scaling"), given.within("rope_parameters")
    theta = given.number("rope_theta", 10_000.0)
    inner = today if today.values else older
    kind = inner.take("rope_type", inner.take("type", "default"))
    theta = inner.number("rope_theta", theta)
    inner.only(partial_rotary_factor=1.0)
    stretch: Stretch
    match kind:
        case "default":
            stretch = NoStretch()
        case "linear":
            stretch = EvenStretch(inner.number("factor"))
        case "llama3":
            stretch = LongStretch(
                factor=inner.number("factor"),
                low=inner.number("low_freq_factor"),
                high=inner.number("high_freq_factor"),
                length=inner.whole("original_max_position_embeddings"),
            )
        case _:
            raise inner.refused(
                "rope_type" if "rope_type" in inner.values else "type", "default, linear and llama3 are"
            )
    inner.finish()
    return Rotary(theta, stretch)


def names(network: Network) -> Table:
    layer = "model.layers.{}"
    attention, feed_forward = f"{layer}.self_attn", f"{layer}.mlp"
    table = {
        "embedding": "model.embed_tokens",
        "stack.blocks.{}.mixer.before": f"{layer}.input_layernorm",
        "stack.blocks.{}.mixer.branch.to_qkv": joined(
            f"{attention}.q_proj", f"{attention}.k_proj", f"{attention}.v_proj"
        ),
        "stack.blocks.{}.mixer.branch.to_out": f"{attention}.o_proj",
        "stack.blocks.{}.ffn.before": f"{layer}.post_attention_layernorm",
        "stack.blocks.{}.ffn.branch.gate_up": joined(f"{feed_forward}.gate_proj", f"{feed_forward}.up_proj"),
        "stack.blocks.{}.ffn.branch.down": f"{feed_forward}.down_proj",
        "stack.final_norm": "model.norm",
    }
    return under_head(network, table)


FAMILY = Family(
    kinds={"LlamaForCausalLM": "CausalLM", "LlamaForSequenceClassification": "TextClassifier"},
    settings=settings,
    names=names,
    prefix="model.",
    unused=(r"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",),
    sizes={"vocabulary": "vocab_size"},
)
