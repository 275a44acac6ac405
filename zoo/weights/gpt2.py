"""GPT-2 (Radford et al. 2019) as transformers stores it: GPT2LMHeadModel, GPT2ForSequenceClassification."""

from typing import Any

from zoo.core import FixedScale, HeadScale, Last, LayerNorm, Learned, Plain, StackConfig
from zoo.core.network import Network
from zoo.weights.families import ACTIVATIONS, Family, Given, Table, laid


def settings(given: Given, architecture: str) -> dict[str, Any]:
    norm = LayerNorm(eps=given.number("layer_norm_epsilon", 1e-5))
    dim = given.whole("n_embd", 768)
    dropout = given.number("resid_pdrop", 0.1)
    given.training(embd_pdrop=dropout)
    scale = HeadScale(inverse_layer=given.flag("scale_attn_by_inverse_layer_idx", False))
    if not given.flag("scale_attn_weights", True):
        if scale.inverse_layer:
            raise given.refused("scale_attn_weights", "it must be true with scale_attn_by_inverse_layer_idx")
        scale = FixedScale(1.0)
    stack = StackConfig(
        dim=dim,
        depth=given.whole("n_layer", 12),
        heads=given.whole("n_head", 12),
        causal=True,
        position=Learned(given.whole("n_positions", 1024)),
        norm=norm,
        final_norm=norm,
        scale=scale,
        ffn=Plain(given.choice("activation_function", ACTIVATIONS, "gelu_new"), given.whole("n_inner", 4 * dim)),
        dropout=dropout,
        attention_dropout=given.number("attn_pdrop", 0.1),
    )
    # of another head, which these models have not; how float16 is upcast; of padding, which is left out here; what the
    # first code for GPT wrote down and this one never read
    given.silent(
        "summary_type",
        "summary_use_proj",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "reorder_and_upcast_attn",
        "pad_token_id",
        "n_ctx",
        "n_special",
        "predict_special_tokens",
    )
    common = {"stack": stack, "vocab_size": given.whole("vocab_size", 50257)}
    if architecture == "GPT2ForSequenceClassification":
        return common | last_token_classes(given)
    return common | {
        "tied": given.flag("tie_word_embeddings", True),
        **given.ends(),
    }


def last_token_classes(given: Given) -> dict[str, Any]:
    """What classifiers by the state of the last token have in common: GPT-2's and Llama's."""
    given.silent("tie_word_embeddings", "eos_token_id")
    return {"classes": given.classes(), "pool": Last(), "head_bias": False}


def names(network: Network) -> Table:
    layer, turned = "transformer.h.{}", "i o -> o i"  # linear maps are stored with their inputs first
    table = {
        "embedding": "transformer.wte",
        "stack.position.table": "transformer.wpe",
        "stack.blocks.{}.mixer.before": f"{layer}.ln_1",
        "stack.blocks.{}.mixer.branch.to_qkv": laid(f"{layer}.attn.c_attn", pattern=turned),
        "stack.blocks.{}.mixer.branch.to_out": laid(f"{layer}.attn.c_proj", pattern=turned),
        "stack.blocks.{}.ffn.before": f"{layer}.ln_2",
        "stack.blocks.{}.ffn.branch.up": laid(f"{layer}.mlp.c_fc", pattern=turned),
        "stack.blocks.{}.ffn.branch.down": laid(f"{layer}.mlp.c_proj", pattern=turned),
        "stack.final_norm": "transformer.ln_f",
    }
    return under_head(network, table)


def under_head(network: Network, table: Table) -> Table:
    """A table and the head's name: a classifier's parts stand in a trunk, a language model's do not."""
    if "classes" in network.settings:
        return {f"trunk.{ours}": theirs for ours, theirs in table.items()} | {"head": "score"}
    return {**table, "head": "lm_head"}


FAMILY = Family(
    kinds={"GPT2LMHeadModel": "CausalLM", "GPT2ForSequenceClassification": "TextClassifier"},
    settings=settings,
    names=names,
    prefix="transformer.",
    unused=(r"h\.\d+\.attn\.(bias|masked_bias)",),  # masks
    sizes={"vocabulary": "vocab_size", "positions": "n_positions"},
)
