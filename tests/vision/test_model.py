"""ViT against transformers and timm with the same weights; positions, pooling, sizes, and what is refused."""

import json

import pytest
import torch
from torch import Tensor, nn

from zoo.core import (
    First,
    LayerNorm,
    Learned,
    LearnedQuery,
    Mean,
    NoNorm,
    Plain,
    Rotary,
    Sinusoidal,
    StackConfig,
    Standardised,
)
from zoo.vision import MaskedAutoencoder, ViT
from zoo.vision.patches import ConvStem, LinearPatches, patchify, resize_positions, unpatchify

DIM, DEPTH, HEADS, SIZE, PATCH, CLASSES = 24, 2, 3, 16, 4, 5
EXACT = {"rtol": 0, "atol": 1e-9}


def stack(rows: int, eps: float = 1e-6, **changes: object) -> StackConfig:
    return StackConfig(
        dim=DIM,
        depth=DEPTH,
        heads=HEADS,
        position=Learned(rows),
        norm=LayerNorm(eps=eps),
        final_norm=LayerNorm(eps=eps),
        ffn=Plain("gelu", 4 * DIM),
    ).replace(**changes)


def perturbed(model: nn.Module) -> nn.Module:
    """Every number of a reference drawn, so that each of them matters."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn(value.shape, generator=generator) * 0.2)
    return model.double().eval()


def images() -> Tensor:
    return torch.randn(3, 3, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def fill(ours: ViT, weights: dict[str, Tensor]) -> ViT:
    ours = ours.double().eval()
    ours.load_state_dict(weights)
    return ours


def timm_weights(theirs: nn.Module, *, prefix: list[str], norm_pre: bool = False) -> dict[str, Tensor]:
    """timm's names as ours: nothing but renaming, a flattened kernel and tokens one behind the other."""
    state = theirs.state_dict()
    out = {
        "patches.projection.weight": state["patch_embed.proj.weight"].flatten(1),
        "patches.projection.bias": state.get("patch_embed.proj.bias", torch.zeros(DIM, dtype=torch.float64)),
        "prefix": torch.cat([state[name][0] for name in prefix] or [torch.zeros(0, DIM, dtype=torch.float64)]),
        "stack.position.table.weight": state["pos_embed"][0],
        "heads.0.weight": state["head.weight"],
        "heads.0.bias": state["head.bias"],
    }
    names = {"norm1": "mixer.before", "attn.qkv": "mixer.branch.to_qkv", "attn.proj": "mixer.branch.to_out"}
    names |= {"norm2": "ffn.before", "mlp.fc1": "ffn.branch.up", "mlp.fc2": "ffn.branch.down"}
    for layer in range(DEPTH):
        for theirs_name, ours_name in names.items():
            for kind in ("weight", "bias"):
                if f"blocks.{layer}.{theirs_name}.{kind}" in state:
                    value = state[f"blocks.{layer}.{theirs_name}.{kind}"]
                    out[f"stack.blocks.{layer}.{ours_name}.{kind}"] = value
        for branch, gain in (("mixer", "ls1"), ("ffn", "ls2")):
            if f"blocks.{layer}.{gain}.gamma" in state:
                out[f"stack.blocks.{layer}.{branch}.gain.weight"] = state[f"blocks.{layer}.{gain}.gamma"]
    for theirs_name, ours_name in {"norm": "stack.final_norm", "fc_norm": "head_norm"}.items():
        out |= {
            f"{ours_name}.{k}": state[f"{theirs_name}.{k}"] for k in ("weight", "bias") if f"{theirs_name}.{k}" in state
        }
    if norm_pre:
        out |= {f"stack.embed_norm.{k}": state[f"norm_pre.{k}"] for k in ("weight", "bias")}
    if "head_dist.weight" in state:
        out |= {f"heads.1.{k}": state[f"head_dist.{k}"] for k in ("weight", "bias")}
    pool = {
        "latent": "query",
        "q": "attention.to_q",
        "kv": "attention.to_kv",
        "proj": "attention.to_out",
        "norm": "norm",
    }
    pool |= {"mlp.fc1": "ffn.up", "mlp.fc2": "ffn.down"}
    for theirs_name, ours_name in pool.items():
        for ending in ("", ".weight", ".bias"):
            if (value := state.get(f"attn_pool.{theirs_name}{ending}")) is not None:
                out[f"pool.{ours_name}{ending}"] = value[0] if theirs_name == "latent" else value
    return out


def timm_vit(**options: object) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    given = {"img_size": SIZE, "patch_size": PATCH, "num_classes": CLASSES, "embed_dim": DIM, "depth": DEPTH}
    return perturbed(VisionTransformer(**(given | {"num_heads": HEADS} | options)))


TIMM = {
    "class token": ({}, ["cls_token"], 17, {}, {}),
    "positions of patches alone": (
        {"no_embed_class": True, "reg_tokens": 2}, ["cls_token", "reg_token"], 16, {},
        {"registers": 2, "prefix_placed": False},
    ),
    "registers with places": ({"reg_tokens": 2}, ["cls_token", "reg_token"], 19, {}, {"registers": 2}),
    "mean, its norm behind": (
        {"global_pool": "avg"}, ["cls_token"], 17, {"final_norm": NoNorm()},
        {"pool": Mean(), "head_norm": LayerNorm(eps=1e-6)},
    ),
    "mean, no prefix": (
        {"global_pool": "avg", "class_token": False, "fc_norm": False}, [], 16, {},
        {"pool": Mean(), "class_token": False},
    ),
    "attention": (
        {"global_pool": "map", "class_token": False}, [], 16, {}, {"pool": LearnedQuery(), "class_token": False}
    ),
    "norm before, layer scale, query-key norms": (
        {"pre_norm": True, "init_values": 0.5}, ["cls_token"], 17,
        {"embed_norm": LayerNorm(eps=1e-6), "layer_scale": 0.5}, {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TIMM)
def test_timm_is_these_settings(name: str) -> None:
    options, prefix, rows, changes, given = TIMM[name]
    theirs = timm_vit(**options)
    ours = ViT(stack(rows, **changes), CLASSES, SIZE, LinearPatches(PATCH), **given)
    weights = timm_weights(theirs, prefix=prefix, norm_pre="pre_norm" in options)
    fill(ours, weights)
    x = images()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), **EXACT)
        ours.stack.blocks[0].ffn.before.eps = 1e-3
        assert (ours(x) - theirs(x)).abs().max() > 1e-6  # negative control


def test_distilled_deit_is_these_settings() -> None:
    from timm.models.deit import VisionTransformerDistilled

    theirs = perturbed(
        VisionTransformerDistilled(
            img_size=SIZE, patch_size=PATCH, num_classes=CLASSES, embed_dim=DIM, depth=DEPTH, num_heads=HEADS
        )
    )
    ours = ViT(stack(18), CLASSES, SIZE, LinearPatches(PATCH), distillation=True)
    fill(ours, timm_weights(theirs, prefix=["cls_token", "dist_token"]))
    x = images()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), **EXACT)
        theirs.distilled_training = True
        for own, expected in zip(ours.scores(x), theirs.train()(x), strict=True):
            torch.testing.assert_close(own, expected, **EXACT)


@pytest.mark.parametrize("bias", [True, False])
def test_transformers_vit_is_these_settings(bias: bool) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": DIM, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS, "intermediate_size": 4 * DIM}
    config = ViTConfig(**sizes, image_size=SIZE, patch_size=PATCH, num_labels=CLASSES, qkv_bias=bias)
    theirs = perturbed(ViTForImageClassification(config))
    base = stack(17, 1e-12)
    ours = ViT(base.replace(bias=type(base.bias)(qkv=bias)), CLASSES, SIZE, LinearPatches(PATCH))
    state = theirs.state_dict()
    out = {
        "patches.projection.weight": state["vit.embeddings.patch_embeddings.projection.weight"].flatten(1),
        "patches.projection.bias": state["vit.embeddings.patch_embeddings.projection.bias"],
        "prefix": state["vit.embeddings.cls_token"][0],
        "stack.position.table.weight": state["vit.embeddings.position_embeddings"][0],
        "stack.final_norm.weight": state["vit.layernorm.weight"],
        "stack.final_norm.bias": state["vit.layernorm.bias"],
        "heads.0.weight": state["classifier.weight"],
        "heads.0.bias": state["classifier.bias"],
    }
    for layer in range(DEPTH):
        at, block = f"vit.layers.{layer}.", f"stack.blocks.{layer}."
        for kind in ("weight", "bias") if bias else ("weight",):
            parts = [state[f"{at}attention.{part}_proj.{kind}"] for part in "qkv"]
            out[f"{block}mixer.branch.to_qkv.{kind}"] = torch.cat(parts)
        for kind in ("weight", "bias"):
            out[f"{block}mixer.branch.to_out.{kind}"] = state[f"{at}attention.o_proj.{kind}"]
            out[f"{block}mixer.before.{kind}"] = state[f"{at}layernorm_before.{kind}"]
            out[f"{block}ffn.before.{kind}"] = state[f"{at}layernorm_after.{kind}"]
            out[f"{block}ffn.branch.up.{kind}"] = state[f"{at}mlp.fc1.{kind}"]
            out[f"{block}ffn.branch.down.{kind}"] = state[f"{at}mlp.fc2.{kind}"]
    fill(ours, out)
    with torch.no_grad():
        torch.testing.assert_close(ours(images()), theirs(images()).logits, **EXACT)


# -- positions and sizes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [Sinusoidal(), Rotary()], ids=lambda p: type(p).__name__)
def test_two_axes_tell_rows_from_columns_and_leave_the_class_token_alone(position: object) -> None:
    """Exchanging two patches is seen; the class token's own embedding is what it was."""
    ours = ViT(stack(1, position=position), CLASSES, SIZE, LinearPatches(PATCH)).double().eval()
    assert ours.places(ours.stack.config, True).tolist()[:3] == [[-1, -1], [0, 0], [0, 1]]
    x = images()
    layout = ours.layout(3)
    embedded = ours.stack.position.embed(torch.zeros(layout.tokens, DIM, dtype=torch.float64), layout)
    assert layout.pad(embedded)[:, 0].abs().sum() == 0
    if isinstance(position, Sinusoidal):
        assert len({tuple(row) for row in layout.pad(embedded)[0].tolist()}) == 17  # no two tokens share a place
    q = torch.randn(layout.tokens, HEADS, DIM // HEADS, dtype=torch.float64)
    turned, _ = ours.stack.position.rotate(q, q, ours.stack.position.prepare(layout, layout))
    assert torch.equal(layout.pad(turned)[:, 0], layout.pad(q)[:, 0])
    moved = unpatchify(patchify(x, PATCH)[:, [4, 1, 2, 3, 0, *range(5, 16)]], PATCH, 3)
    assert (ours(moved) - ours(x)).abs().max() > 1e-6


def test_relative_positions_need_a_place_for_every_token() -> None:
    from zoo.core import ALiBi

    ours = ViT(stack(1, position=ALiBi()), CLASSES, SIZE, LinearPatches(PATCH), prefix_placed=False)
    with pytest.raises(ValueError, match="needs a place for every token"):
        ours(images().float())
    assert ViT(stack(1, position=ALiBi()), CLASSES, SIZE, LinearPatches(PATCH))(images().float()).isfinite().all()


def test_positions_are_resized_as_timm_does() -> None:
    from timm.layers import resample_abs_pos_embed

    table = torch.randn(17, DIM)
    expected = resample_abs_pos_embed(table[None], [6, 6], [4, 4], num_prefix_tokens=1)[0]
    torch.testing.assert_close(resize_positions(table, 37, 1), expected, rtol=0, atol=1e-6)
    assert resize_positions(table, 17, 1) is table
    with pytest.raises(ValueError, match="17 positions, 2 of them before the patches, cannot become 38"):
        resize_positions(table, 38, 2)


def test_another_size_keeps_what_was_learned() -> None:
    first = ViT(stack(17), CLASSES, SIZE, LinearPatches(PATCH)).eval()
    same, larger = first.resized(SIZE), first.resized(24)
    x = images().float()
    assert torch.equal(same(x), first(x))
    assert not larger.training
    assert first.train().resized(24).training
    first.eval()
    assert larger.stack.position.table.weight.shape == (37, DIM)
    torch.testing.assert_close(larger.stack.position.table.weight[0], first.stack.position.table.weight[0])
    assert torch.equal(larger.patches.projection.weight, first.patches.projection.weight)
    assert larger(torch.randn(2, 3, 24, 24)).shape == (2, CLASSES)
    with pytest.raises(ValueError, match=r"images of shape \(3, 3, 16, 16\): this model takes \(b, 3, 24, 24\)"):
        larger(x)


def test_patches_and_back() -> None:
    x = images()
    assert torch.equal(unpatchify(patchify(x, PATCH), PATCH, 3), x)
    kernel, bias = torch.randn(DIM, 3, PATCH, PATCH, dtype=torch.float64), torch.zeros(DIM, dtype=torch.float64)
    expected = torch.nn.functional.conv2d(x, kernel, bias, stride=PATCH).flatten(2).mT
    torch.testing.assert_close(patchify(x, PATCH) @ kernel.flatten(1).T, expected, **EXACT)


@pytest.mark.parametrize("patches", [LinearPatches(4), ConvStem(4, 16), ConvStem(2, 8)])
def test_a_stem_has_as_many_tokens_and_the_parameters_that_it_says(patches) -> None:
    built = patches.build(3, DIM)
    assert built(images().float()).shape == (3, patches.grid(SIZE) ** 2, DIM)
    assert sum(p.numel() for p in built.parameters()) == patches.parameters(3, DIM)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pool": Standardised(First())},
        {"pool": Mean()},
        {"pool": LearnedQuery()},
        {"distillation": True, "registers": 1},
    ],
)
@pytest.mark.parametrize("patches", [LinearPatches(4), ConvStem(4, 16)])
def test_plain_values_and_back_and_every_parameter_learns(options: dict, patches) -> None:
    rows = 17 + options.get("distillation", 0) + options.get("registers", 0)
    ours = ViT(stack(rows), CLASSES, SIZE, patches, **options)
    again = ViT.from_plain(json.loads(json.dumps(ours.to_plain())))
    assert again.to_plain() == ours.to_plain()
    again.load_state_dict(ours.state_dict())
    x = images().float()
    assert torch.equal(again(x), ours(x))
    ours(x).square().sum().backward()

    assert {n for n, p in ours.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0} == set()


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"causal": True}, {}, "neither causal nor cross"),
        ({"position": Learned(16)}, {}, r"position.length \(16\) must be 17: 4 x 4 patches, 1 tokens before"),
        ({}, {"image_size": 18}, r"image_size \(18\) is not divisible by the patch \(4\): give 16 or 20"),
        ({"position": Learned(16)}, {"class_token": False}, "pool First reads the class token"),
        ({"position": Learned(18)}, {"distillation": True, "pool": Mean()}, "distillation goes with pool First"),
        ({}, {"classes": 0}, r"classes \(0\) must be at least 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict, options: dict, message: str) -> None:
    given = {"stack": stack(17, **changes), "classes": CLASSES, "image_size": SIZE, "patches": LinearPatches(PATCH)}
    with pytest.raises(ValueError, match=message):
        ViT(**(given | options))


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [(ConvStem, (3,), "power of two"), (ConvStem, (8, 6), "divisible by 4"), (LinearPatches, (0,), "at least 1")],
)
def test_patches_that_cannot_be_are_refused(kind: type, given: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(*given)


# -- masked autoencoder ------------------------------------------------------------------------------------------------


def painter(**changes: object) -> MaskedAutoencoder:
    torch.manual_seed(0)
    light = stack(17, depth=1).replace(dim=12)
    return MaskedAutoencoder(stack(17), light, SIZE, LinearPatches(PATCH), **changes).double().eval()


@pytest.mark.parametrize("position", [Learned(17), Sinusoidal()], ids=["learned", "sinusoidal"])
def test_the_encoder_sees_the_visible_patches_alone(position: object) -> None:
    """Gradients of what is painted: exactly zero for hidden pixels, of no less for any visible patch."""
    light = stack(17, depth=1, position=position).replace(dim=12)
    model = MaskedAutoencoder(stack(17, position=position), light, SIZE, LinearPatches(PATCH)).double()
    x, keep = images().requires_grad_(), model.draw(3, 0.75, torch.Generator().manual_seed(0))
    assert keep.sum(-1).tolist() == [4, 4, 4]
    layout = model.states(x, keep)[1]
    assert layout.tokens == 3 * (1 + 4)  # hidden patches are not there at all
    model(x, keep).square().sum().backward()
    reached = patchify(x.grad, PATCH).abs().sum(-1) > 0
    assert torch.equal(reached, keep)


def test_images_may_show_different_numbers_of_patches() -> None:
    model, x = painter(), images()
    keep = torch.rand(3, 16) < torch.tensor([[0.2], [0.5], [0.9]])
    together = model(x, keep)
    for row in range(3):
        torch.testing.assert_close(together[row : row + 1], model(x[row : row + 1], keep[row : row + 1]), **EXACT)


def test_what_is_painted_is_normalised_patch_by_patch() -> None:
    target = painter().target(images())
    torch.testing.assert_close(target.mean(-1), torch.zeros(3, 16, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(target.var(-1), torch.ones(3, 16, dtype=torch.float64), rtol=0, atol=1e-4)
    assert torch.equal(painter(normalised=False).target(images()), patchify(images(), PATCH))


def test_a_stem_would_see_hidden_patches() -> None:
    with pytest.raises(ValueError, match="would see hidden patches"):
        MaskedAutoencoder(stack(17), stack(17), SIZE, ConvStem(4, 16))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.99])
def test_something_is_seen_and_something_hidden_of_the_fewest_patches(share: float) -> None:
    small = StackConfig(dim=8, depth=1, heads=1)
    model = MaskedAutoencoder(small, small, 8, LinearPatches(4))
    keep = model.draw(5, share)
    assert keep.any(-1).all()
    assert not keep.all(-1).any()
    with pytest.raises(ValueError, match=r"an image of one patch \(8 pixels\) cannot be seen in part"):
        MaskedAutoencoder(small, small, 8, LinearPatches(8))


def test_an_exported_network_takes_any_number_of_images() -> None:
    net = ViT(stack(17), CLASSES, SIZE, LinearPatches(PATCH)).eval()
    few, many = images().float(), torch.randn(7, 3, SIZE, SIZE)
    exported = torch.export.export(net, (few,), dynamic_shapes=({0: torch.export.Dim("images", min=2, max=64)},))
    for batch in (few, many):
        torch.testing.assert_close(exported.module()(batch), net(batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("position", [Learned(17), Sinusoidal(), Rotary()], ids=lambda p: type(p).__name__)
def test_weights_are_all_that_a_network_made_without_memory_lacks(position: object) -> None:
    torch.manual_seed(0)
    config, patches = stack(17, position=position), LinearPatches(PATCH)
    decoder = config.replace(depth=1, position=Sinusoidal())
    keep = torch.tensor([[True] * 4 + [False] * 12]).expand(3, -1)
    for make, given in (
        (lambda: ViT(config, CLASSES, SIZE, patches), ()),
        (lambda: MaskedAutoencoder(config, decoder, SIZE, patches), (keep,)),
    ):
        net = make().eval()
        with torch.device("meta"):
            other = make().eval()
        other.load_state_dict(net.state_dict(), assign=True)
        assert torch.equal(other(images().float(), *given), net(images().float(), *given))
