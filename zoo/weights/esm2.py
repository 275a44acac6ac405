"""ESM-2 (Lin et al. 2023) as transformers stores it: EsmForMaskedLM."""

from typing import Any

from zoo.core import LayerNorm, Plain, Rotary, StackConfig
from zoo.core.network import Network
from zoo.weights.families import Family, Given, Table, joined


def settings(given: Given, architecture: str) -> dict[str, Any]:
    # ids are those of the alphabet that these models are published with
    given.only(mask_token_id=32, pad_token_id=1, vocab_size=33, vocab_list=None)
    # "absolute" is ESM-1's; this code has one gelu, whatever the file says
    if given.take("position_embedding_type", "absolute") != "rotary":
        raise given.refused("position_embedding_type", "only 'rotary', ESM-2's, is")
    given.only(emb_layer_norm_before=False, is_folding_model=False, esmfold_config=None, hidden_act="gelu")
    norm = LayerNorm(eps=given.number("layer_norm_eps", 1e-12))
    stack = StackConfig(
        dim=given.whole("hidden_size", 768),
        depth=given.whole("num_hidden_layers", 12),
        heads=given.whole("num_attention_heads", 12),
        position=Rotary(given.number("rope_theta", 10_000.0)),
        norm=norm,
        final_norm=norm,
        ffn=Plain("gelu", given.whole("intermediate_size", 3072)),
        dropout=given.number("hidden_dropout_prob", 0.1),
        attention_dropout=given.number("attention_probs_dropout_prob", 0.1),
    )
    given.silent("max_position_embeddings", "eos_token_id", "classifier_dropout")
    return {
        "stack": stack,
        "token_dropout": given.flag("token_dropout", False),
        "tied": given.flag("tie_word_embeddings", True),
    }


def names(network: Network) -> Table:
    layer, ours = "esm.encoder.layer.{}", "trunk.stack.blocks.{}"
    attention = f"{layer}.attention.self"
    return {
        "trunk.embedding": "esm.embeddings.word_embeddings",
        f"{ours}.mixer.before": f"{layer}.attention.LayerNorm",
        f"{ours}.mixer.branch.to_qkv": joined(f"{attention}.query", f"{attention}.key", f"{attention}.value"),
        f"{ours}.mixer.branch.to_out": f"{layer}.attention.output.dense",
        f"{ours}.ffn.before": f"{layer}.LayerNorm",
        f"{ours}.ffn.branch.up": f"{layer}.intermediate.dense",
        f"{ours}.ffn.branch.down": f"{layer}.output.dense",
        "trunk.stack.final_norm": "esm.encoder.emb_layer_norm_after",
        "head.dense": "lm_head.dense",
        "head.norm": "lm_head.layer_norm",
        "head.out.weight": "lm_head.decoder.weight",
        "head.out.bias": "lm_head.bias",
        "contacts": "esm.contact_head.regression",
    }


FAMILY = Family(
    kinds={"EsmForMaskedLM": "ProteinLM"},
    settings=settings,
    names=names,
    prefix="esm.",
    # rotary rates, places counted out, and a table of places that rotary models have and do not read
    unused=(
        r"encoder\.layer\.[^.]+\.attention\.self\.rotary_embeddings\.inv_freq",
        r"embeddings\.position_ids",
        r"embeddings\.position_embeddings\.weight",
    ),
)
