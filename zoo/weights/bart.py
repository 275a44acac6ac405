"""BART (Lewis et al. 2020) as transformers stores it: BartForConditionalGeneration, or BartModel, which is the same
without its head: that is the table of tokens. Marian shares its names."""

from typing import Any

import torch

from zoo.core import LayerNorm, Learned, NoNorm, Norm, Plain, Position, StackConfig
from zoo.core.network import Network
from zoo.weights.families import ACTIVATIONS, Either, Family, Given, Table, joined, laid


def settings(given: Given, architecture: str) -> dict[str, Any]:
    # rows 0 and 1 of the tables of positions stay unused
    position = Learned(given.whole("max_position_embeddings", 1024), offset=2)
    given.only(normalize_embedding=True, extra_pos_embeddings=2)
    given.silent("classifier_dropout", "classif_dropout", "force_bos_token_to_be_generated")
    shared, sources, targets = (
        given.stored.get(f"model.{name}.weight", given.stored.get(f"{name}.weight"))
        for name in ("shared", "encoder.embed_tokens", "decoder.embed_tokens")
    )
    sources, targets = (shared if table is None else table for table in (sources, targets))
    network = encoder_decoder(given, position, embed_norm=LayerNorm(), vocabulary=50265, layers=12, width=1024)
    return network | {
        # files that do not tie the head may hold two tables beside the one that nothing reads then
        "share_embeddings": sources is targets or (sources is not None and torch.equal(sources, targets)),
        "tied": given.flag("tie_word_embeddings", True),
        "pad": given.whole("pad_token_id", 1),
        "start": given.whole("decoder_start_token_id", 2),
        **given.ends(2),
    }


def encoder_decoder(
    given: Given, position: Position, *, embed_norm: Norm, vocabulary: int, layers: int, width: int
) -> dict[str, Any]:
    """What BART and Marian have in common. `vocabulary`, `layers`, `width`: where the file says none."""
    given.only(normalize_before=False, add_final_layer_norm=False, add_bias_logits=False, is_encoder_decoder=True)
    given.only(static_position_embeddings=isinstance(embed_norm, NoNorm))
    given.training(activation_dropout=0.0, encoder_layerdrop=0.0, decoder_layerdrop=0.0)
    given.silent("num_hidden_layers")  # the encoder's, told a second time
    encoder = StackConfig(
        dim=given.whole("d_model", width),
        depth=given.whole("encoder_layers", layers),
        heads=given.whole("encoder_attention_heads", 16),
        position=position,
        norm_order="post",
        embed_norm=embed_norm,
        final_norm=NoNorm(),
        ffn=Plain(given.choice("activation_function", ACTIVATIONS, "gelu"), given.whole("encoder_ffn_dim", 4 * width)),
        dropout=given.number("dropout", 0.1),
        attention_dropout=given.number("attention_dropout", 0.0),
    )
    decoder = encoder.replace(
        causal=True,
        cross=True,
        depth=given.whole("decoder_layers", layers),
        heads=given.whole("decoder_attention_heads", 16),
        ffn=Plain(encoder.ffn.activation, given.whole("decoder_ffn_dim", 4 * width)),
    )
    return {
        "encoder": encoder,
        "decoder": decoder,
        "vocab_size": given.whole("vocab_size", vocabulary),
        "embed_scale": given.flag("scale_embedding", False),
        "head_bias": "final_logits_bias" in given.stored,
    }


def names(network: Network) -> Table:
    # published as one row
    table: dict[str, Any] = {"head.weight": "lm_head.weight"}
    table |= {"head.bias": laid("final_logits_bias", pattern="one v -> (one v)", one=1)}
    if network.settings["share_embeddings"]:
        table |= {"target_embedding": Either("model.shared", "model.decoder.embed_tokens")}
    else:
        table |= {"target_embedding": "model.decoder.embed_tokens"}
    table |= {"source_embedding": "model.encoder.embed_tokens"}
    for stack in ("encoder", "decoder"):
        layer = f"model.{stack}.layers.{{}}"
        own, cross = f"{layer}.self_attn", f"{layer}.encoder_attn"
        table |= {
            f"{stack}.position.table": f"model.{stack}.embed_positions",
            f"{stack}.embed_norm": f"model.{stack}.layernorm_embedding",
            f"{stack}.blocks.{{}}.mixer.branch.to_qkv": joined(f"{own}.q_proj", f"{own}.k_proj", f"{own}.v_proj"),
            f"{stack}.blocks.{{}}.mixer.branch.to_out": f"{own}.out_proj",
            f"{stack}.blocks.{{}}.mixer.after": f"{layer}.self_attn_layer_norm",
            f"{stack}.blocks.{{}}.cross.branch.to_q": f"{cross}.q_proj",
            f"{stack}.blocks.{{}}.cross.branch.to_kv": joined(f"{cross}.k_proj", f"{cross}.v_proj"),
            f"{stack}.blocks.{{}}.cross.branch.to_out": f"{cross}.out_proj",
            f"{stack}.blocks.{{}}.cross.after": f"{layer}.encoder_attn_layer_norm",
            f"{stack}.blocks.{{}}.ffn.branch.up": f"{layer}.fc1",
            f"{stack}.blocks.{{}}.ffn.branch.down": f"{layer}.fc2",
            f"{stack}.blocks.{{}}.ffn.after": f"{layer}.final_layer_norm",
        }
    return table


FAMILY = Family(
    kinds={"BartForConditionalGeneration": "Seq2Seq", "BartModel": "Seq2Seq"},
    settings=settings,
    names=names,
    prefix="model.",
    unused=(r"(encoder|decoder)\.version", r"shared\.weight"),
    by_token=(r"shared\.weight",),
    sizes={"vocabulary": "vocab_size", "positions": "max_position_embeddings"},
)
