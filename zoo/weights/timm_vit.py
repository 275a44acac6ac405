"""ViT (Dosovitskiy et al. 2021), DeiT (Touvron et al. 2021) and DeiT III (Touvron et al. 2022) as timm stores them.

The file names an architecture; what that means is the table below, and `model_args` in the file changes it.
"""

import re
from typing import Any

from zoo.core import Bias, First, LayerNorm, Learned, LearnedQuery, Mean, NoNorm, Plain, StackConfig
from zoo.core.network import Network
from zoo.vision.patches import LinearPatches
from zoo.weights.families import Family, Given, Table, laid

SIZES = {  # dim, depth, heads
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "medium": (512, 12, 8),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}
NAMED = re.compile(r"(?P<model>vit|deit|deit3)_(?P<size>\w+?)(?P<dist>_distilled)?_patch(?P<patch>\d+)_(?P<image>\d+)")


def settings(given: Given, architecture: str) -> dict[str, Any]:
    # what stands behind the point tells how it was trained
    found = NAMED.fullmatch(str(given.take("architecture")).partition(".")[0])
    if not found or found["size"] not in SIZES or (found["dist"] and found["model"] != "deit"):
        raise given.refused("architecture", "plain ViTs, DeiTs and DeiT IIIs are, such as 'vit_base_patch16_224'")
    dim, depth, heads = SIZES[found["size"]]
    third = found["model"] == "deit3"
    given.silent("num_features", "label_names", "label_descriptions", "pretrained_cfg")
    args = given.within("model_args")
    dim = args.whole("embed_dim", dim)
    image_size, size = (square(args, *pair) for pair in (("img_size", found["image"]), ("patch_size", found["patch"])))
    patches = LinearPatches(size, bias=not args.flag("pre_norm", False))
    norm = LayerNorm(eps=1e-6)
    pools = {"token": First(), "avg": Mean(), "map": LearnedQuery()}
    pool = args.choice("global_pool", pools, given.take("global_pool", "token"))
    if pool == LearnedQuery():  # whose maps have biases and no norms, whatever those of the blocks have
        args.only(qkv_bias=True, proj_bias=True, qk_norm=False)
    # the last norm moves behind the pooling where that is a mean
    late = args.flag("fc_norm", pool == Mean())
    distilled, registers = bool(found["dist"]), args.whole("reg_tokens", 0)
    class_token, placed = args.flag("class_token", True), not args.flag("no_embed_class", third)
    prefix = class_token + distilled + registers
    gains = args.take("init_values", 1e-6 if third else None)
    out = args.flag("proj_bias", True)
    stack = StackConfig(
        dim=dim,
        depth=args.whole("depth", depth),
        heads=args.whole("num_heads", heads),
        position=Learned(patches.grid(image_size) ** 2 + (prefix if placed else 0)),
        norm=norm,
        embed_norm=NoNorm() if patches.bias else norm,
        final_norm=norm if args.flag("final_norm", True) and not late else NoNorm(),
        qk_norm=norm if args.flag("qk_norm", False) else NoNorm(),
        bias=Bias(qkv=args.flag("qkv_bias", True), out=out, ffn=out),
        ffn=Plain("gelu", int(dim * args.number("mlp_ratio", 4.0))),
        layer_scale=None if gains is None else args.number("init_values", gains),
    )
    args.only(pos_embed="learn", pool_include_prefix=False, scale_attn_norm=False, scale_mlp_norm=False)
    args.only(dynamic_img_size=False, dynamic_img_pad=False, norm_layer=None, act_layer=None)
    args.training(drop_rate=0.0, pos_drop_rate=0.0, patch_drop_rate=0.0, proj_drop_rate=0.0, attn_drop_rate=0.0)
    args.training(drop_path_rate=0.0)
    args.silent("weight_init", "fix_init")
    classes, channels = args.whole("num_classes", given.whole("num_classes", 1000)), args.whole("in_chans", 3)
    args.finish()
    given.notes += args.notes
    return {
        "stack": stack,
        "classes": classes,
        "image_size": image_size,
        "patches": patches,
        "channels": channels,
        "class_token": class_token,
        "distillation": distilled,
        "registers": registers,
        "prefix_placed": placed,
        "pool": pool,
        "head_norm": norm if late else NoNorm(),
    }


def square(args: Given, name: str, default: str) -> int:
    """A length in pixels, which timm gives alone or once for each side."""
    value = args.take(name, int(default))
    sides = value if isinstance(value, list) else [value]
    if not sides or len(set(map(str, sides))) != 1 or type(sides[0]) is not int:
        raise args.refused(name, "only squares are")
    return sides[0]


def names(network: Network) -> Table:
    chosen = network.settings
    size = chosen["patches"].size
    counts = {
        "cls_token": chosen["class_token"],
        "dist_token": chosen["distillation"],
        "reg_token": chosen["registers"],
    }
    tokens = {name: int(count) for name, count in counts.items() if count}
    return {
        "prefix": laid(*tokens, pattern="one r d -> (one r) d", rows=tuple(tokens.values()), one=1),
        "stack.position.table.weight": laid("pos_embed", pattern="one n d -> (one n) d", one=1),
        "patches.projection": laid("patch_embed.proj", pattern="d c ph pw -> d (c ph pw)", ph=size, pw=size),
        "stack.embed_norm": "norm_pre",
        "stack.blocks.{}.mixer.before": "blocks.{}.norm1",
        "stack.blocks.{}.mixer.branch.to_qkv": "blocks.{}.attn.qkv",
        "stack.blocks.{}.mixer.branch.q_norm": "blocks.{}.attn.q_norm",
        "stack.blocks.{}.mixer.branch.k_norm": "blocks.{}.attn.k_norm",
        "stack.blocks.{}.mixer.branch.to_out": "blocks.{}.attn.proj",
        "stack.blocks.{}.mixer.gain.weight": "blocks.{}.ls1.gamma",
        "stack.blocks.{}.ffn.before": "blocks.{}.norm2",
        "stack.blocks.{}.ffn.branch.up": "blocks.{}.mlp.fc1",
        "stack.blocks.{}.ffn.branch.down": "blocks.{}.mlp.fc2",
        "stack.blocks.{}.ffn.gain.weight": "blocks.{}.ls2.gamma",
        "stack.final_norm": "norm",
        "pool.query": laid("attn_pool.latent", pattern="one r d -> (one r) d", one=1),
        "pool.attention.to_q": "attn_pool.q",
        "pool.attention.to_kv": "attn_pool.kv",
        "pool.attention.to_out": "attn_pool.proj",
        "pool.norm": "attn_pool.norm",
        "pool.ffn.up": "attn_pool.mlp.fc1",
        "pool.ffn.down": "attn_pool.mlp.fc2",
        "head_norm": "fc_norm",
        "heads.0": "head",
        "heads.1": "head_dist",
    }


FAMILY = Family(kinds={"timm": "ViT"}, settings=settings, names=names, sizes={"image": "model_args.img_size"})
