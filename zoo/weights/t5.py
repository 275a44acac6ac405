"""T5 v1.0 (Raffel et al. 2020) and v1.1 (Shazeer 2020) as transformers stores them: T5ForConditionalGeneration."""

from typing import Any

import torch

from zoo.core import Bias, FixedScale, Gated, Plain, RelativeBuckets, RMSNorm, StackConfig
from zoo.core.network import Network
from zoo.weights.families import ACTIVATIONS, Either, Family, Given, Table, joined


def settings(given: Given, architecture: str) -> dict[str, Any]:
    norm = RMSNorm(eps=given.number("layer_norm_epsilon", 1e-6))
    dropout = given.number("dropout_rate", 0.1)
    feed_forward = given.take("feed_forward_proj", "relu")
    width = given.whole("d_ff", 2048)
    gate, _, activation = str(feed_forward).rpartition("-")
    if gate not in ("", "gated") or activation not in ACTIVATIONS:
        raise given.refused("feed_forward_proj", f"known are {', '.join(ACTIVATIONS)}, alone or after 'gated-'")
    # told a second time, in other words, which is what counts; one name of the first means GPT-2's form of gelu
    chosen = given.choice("dense_act_fn", ACTIVATIONS, "gelu_new" if feed_forward == "gated-gelu" else activation)
    gated = given.flag("is_gated_act", gate == "gated")
    encoder = StackConfig(
        dim=given.whole("d_model", 512),
        depth=given.whole("num_layers", 6),
        heads=given.whole("num_heads", 8),
        head_dim=given.whole("d_kv", 64),
        position=RelativeBuckets(
            given.whole("relative_attention_num_buckets", 32), given.whole("relative_attention_max_distance", 128)
        ),
        norm=norm,
        final_norm=norm,
        scale=FixedScale(1.0),
        bias=Bias(qkv=False, out=False, ffn=False),
        ffn=Gated(chosen, width) if gated else Plain(chosen, width),
        dropout=dropout,
        attention_dropout=dropout,
    )
    decoder = encoder.replace(causal=True, cross=True, depth=given.whole("num_decoder_layers", encoder.depth))
    given.silent("classifier_dropout", "n_positions")  # of other heads; relative positions have no end
    given.only(is_encoder_decoder=True)
    # Older files say by one key both that the head is the table and that states are scaled before it; newer ones say
    # the second by its own key, and leave the first to the tensors.
    tied = given.flag("tie_word_embeddings", True)
    head, table = given.stored.get("lm_head.weight"), given.stored.get("shared.weight")
    return {
        "encoder": encoder,
        "decoder": decoder,
        "vocab_size": given.whole("vocab_size", 32128),
        "tied": head is None or (table is not None and torch.equal(head, table)),
        "embed_scale": False,
        "head_scale": given.flag("scale_decoder_outputs", tied),
        "pad": given.whole("pad_token_id", 0),
        "start": given.whole("decoder_start_token_id", 0),
        **given.ends(1),
    }


def names(network: Network) -> Table:
    table: dict[str, str | Any] = {
        "target_embedding": Either("shared", "decoder.embed_tokens"),
        "source_embedding": "encoder.embed_tokens",
        "head": "lm_head",
    }
    for stack, last in (("encoder", 1), ("decoder", 2)):
        layer = f"{stack}.block.{{}}.layer"
        own, cross, feed_forward = (
            f"{layer}.0.SelfAttention",
            f"{layer}.1.EncDecAttention",
            f"{layer}.{last}.DenseReluDense",
        )
        table |= {
            f"{stack}.position.table": f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias",
            f"{stack}.blocks.{{}}.mixer.before": f"{layer}.0.layer_norm",
            f"{stack}.blocks.{{}}.mixer.branch.to_qkv": joined(f"{own}.q", f"{own}.k", f"{own}.v"),
            f"{stack}.blocks.{{}}.mixer.branch.to_out": f"{own}.o",
            f"{stack}.blocks.{{}}.cross.before": f"{layer}.1.layer_norm",
            f"{stack}.blocks.{{}}.cross.branch.to_q": f"{cross}.q",
            f"{stack}.blocks.{{}}.cross.branch.to_kv": joined(f"{cross}.k", f"{cross}.v"),
            f"{stack}.blocks.{{}}.cross.branch.to_out": f"{cross}.o",
            f"{stack}.blocks.{{}}.ffn.before": f"{layer}.{last}.layer_norm",
            f"{stack}.blocks.{{}}.ffn.branch.up": f"{feed_forward}.wi",
            f"{stack}.blocks.{{}}.ffn.branch.gate_up": joined(f"{feed_forward}.wi_0", f"{feed_forward}.wi_1"),
            f"{stack}.blocks.{{}}.ffn.branch.down": f"{feed_forward}.wo",
            f"{stack}.final_norm": f"{stack}.final_layer_norm",
        }
    return table


FAMILY = Family(
    kinds={"T5ForConditionalGeneration": "Seq2Seq"},
    settings=settings,
    names=names,
    # of the first versions of these files, which gave cross attention a table that nothing reads
    unused=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
    sizes={"vocabulary": "vocab_size"},
)
