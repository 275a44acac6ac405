"""ViT (Dosovitskiy et al. 2021) as transformers stores it: ViTForImageClassification. timm's: timm_vit.py."""

from typing import Any

from zoo.core import Bias, LayerNorm, Learned, Plain, StackConfig
from zoo.core.network import Network
from zoo.vision.patches import LinearPatches
from zoo.weights.families import ACTIVATIONS, Family, Given, Table, joined, laid


def settings(given: Given, architecture: str) -> dict[str, Any]:
    return encoder(given, prefix=1)


def encoder(given: Given, *, prefix: int) -> dict[str, Any]:
    """A network's arguments from transformers' keys for ViT and DeiT, with `prefix` tokens before the patches."""
    norm = LayerNorm(eps=given.number("layer_norm_eps", 1e-12))
    patches, image_size = LinearPatches(given.whole("patch_size", 16)), given.whole("image_size", 224)
    stack = StackConfig(
        dim=given.whole("hidden_size", 768),
        depth=given.whole("num_hidden_layers", 12),
        heads=given.whole("num_attention_heads", 12),
        position=Learned(patches.grid(image_size) ** 2 + prefix),
        norm=norm,
        final_norm=norm,
        bias=Bias(qkv=given.flag("qkv_bias", True)),
        ffn=Plain(given.choice("hidden_act", ACTIVATIONS, "gelu"), given.whole("intermediate_size", 3072)),
        dropout=given.number("hidden_dropout_prob", 0.0),
        attention_dropout=given.number("attention_probs_dropout_prob", 0.0),
    )
    # of other heads, and of texts
    given.silent("encoder_stride", "pooler_output_size", "pooler_act")
    given.silent("pad_token_id", "eos_token_id", "tie_word_embeddings")
    return {
        "stack": stack,
        "classes": given.classes(),
        "image_size": image_size,
        "patches": patches,
        "channels": given.whole("num_channels", 3),
    }


def names(network: Network) -> Table:
    return body(network, "vit", "cls_token") | {"heads.0": "classifier"}


def body(network: Network, model: str, *tokens: str) -> dict[str, Any]:
    """All but the heads, which ViT and DeiT share."""
    layer, size = f"{model}.encoder.layer.{{}}", network.settings["patches"].size
    attention, embeddings = f"{layer}.attention.attention", f"{model}.embeddings"
    return {
        "prefix": laid(*(f"{embeddings}.{token}" for token in tokens), pattern="one r d -> (one r) d", one=1),
        "stack.position.table.weight": laid(f"{embeddings}.position_embeddings", pattern="one n d -> (one n) d", one=1),
        "patches.projection": laid(
            f"{embeddings}.patch_embeddings.projection", pattern="d c ph pw -> d (c ph pw)", ph=size, pw=size
        ),
        "stack.blocks.{}.mixer.before": f"{layer}.layernorm_before",
        "stack.blocks.{}.mixer.branch.to_qkv": joined(f"{attention}.query", f"{attention}.key", f"{attention}.value"),
        "stack.blocks.{}.mixer.branch.to_out": f"{layer}.attention.output.dense",
        "stack.blocks.{}.ffn.before": f"{layer}.layernorm_after",
        "stack.blocks.{}.ffn.branch.up": f"{layer}.intermediate.dense",
        "stack.blocks.{}.ffn.branch.down": f"{layer}.output.dense",
        "stack.final_norm": f"{model}.layernorm",
    }


FAMILY = Family(
    kinds={"ViTForImageClassification": "ViT"},
    settings=settings,
    names=names,
    prefix="vit.",
    unused=(r"pooler\.dense\.(weight|bias)",),  # of other heads
    sizes={"image": "image_size"},
)
