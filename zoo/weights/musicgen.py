"""MusicGen's decoder (Copet et al. 2023) as transformers stores it: MusicgenForCausalLM, or within the whole
MusicgenForConditionalGeneration, whose text encoder and audio codec are left out."""

from typing import Any

from zoo.core import Bias, Plain, Sinusoidal, StackConfig
from zoo.core.network import Network
from zoo.weights.families import ACTIVATIONS, Family, Given, Table, joined

WHOLE = "MusicgenForConditionalGeneration"


def settings(given: Given, architecture: str) -> dict[str, Any]:
    if architecture != WHOLE:
        return decoder(given, None)
    text, own = given.within("text_encoder"), given.within("decoder")
    given.silent("audio_encoder", "is_encoder_decoder", "sampling_rate")
    found = decoder(own, text.whole("d_model") if "enc_to_dec_proj.weight" in given.stored else None)
    own.finish()
    given.notes += own.notes
    return found


def decoder(given: Given, context_dim: int | None) -> dict[str, Any]:
    vocab_size = given.whole("vocab_size", 2048)
    given.only(pad_token_id=vocab_size, cross_attention_hidden_size=None)
    given.training(activation_dropout=0.0, layerdrop=0.0)
    # sines have no table that would end; stereo is twice the codebooks, which num_codebooks counts; the published code
    # reads scale_embedding and scales nothing
    given.silent("scale_embedding", "classifier_dropout")
    given.silent("max_position_embeddings", "audio_channels", "eos_token_id", "tie_word_embeddings")
    stack = StackConfig(
        dim=given.whole("hidden_size", 1024),
        depth=given.whole("num_hidden_layers", 24),
        heads=given.whole("num_attention_heads", 16),
        causal=True,
        cross=True,
        position=Sinusoidal("cosine_first"),
        bias=Bias(qkv=False, out=False, ffn=False),
        ffn=Plain(given.choice("activation_function", ACTIVATIONS, "gelu"), given.whole("ffn_dim", 4096)),
        dropout=given.number("dropout", 0.1),
        attention_dropout=given.number("attention_dropout", 0.0),
    )
    return {
        "stack": stack,
        "vocab_size": vocab_size,
        "codebooks": given.whole("num_codebooks", 4),
        "context_dim": context_dim,
    }


def names(network: Network) -> Table:
    layer, books = "decoder.model.decoder.layers.{}", range(network.settings["codebooks"])
    own, cross = f"{layer}.self_attn", f"{layer}.encoder_attn"
    return {
        "embedding": joined(*(f"decoder.model.decoder.embed_tokens.{k}" for k in books)),
        "project": "enc_to_dec_proj",
        "stack.blocks.{}.mixer.before": f"{layer}.self_attn_layer_norm",
        "stack.blocks.{}.mixer.branch.to_qkv": joined(f"{own}.q_proj", f"{own}.k_proj", f"{own}.v_proj"),
        "stack.blocks.{}.mixer.branch.to_out": f"{own}.out_proj",
        "stack.blocks.{}.cross.before": f"{layer}.encoder_attn_layer_norm",
        "stack.blocks.{}.cross.branch.to_q": f"{cross}.q_proj",
        "stack.blocks.{}.cross.branch.to_kv": joined(f"{cross}.k_proj", f"{cross}.v_proj"),
        "stack.blocks.{}.cross.branch.to_out": f"{cross}.out_proj",
        "stack.blocks.{}.ffn.before": f"{layer}.final_layer_norm",
        "stack.blocks.{}.ffn.branch.up": f"{layer}.fc1",
        "stack.blocks.{}.ffn.branch.down": f"{layer}.fc2",
        "stack.final_norm": "decoder.model.decoder.layer_norm",
        "head": joined(*(f"decoder.lm_heads.{k}" for k in books)),
    }


FAMILY = Family(
    kinds={"MusicgenForCausalLM": "MusicLM", WHOLE: "MusicLM"},
    settings=settings,
    names=names,
    prefix="decoder.",
    # worked out here; and what of the whole is not the decoder
    unused=(r"model\.decoder\.embed_positions\.weights", r"(text_encoder|audio_encoder)\..*"),
)
