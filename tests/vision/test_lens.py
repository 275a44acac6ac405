"""Overlays that are right: where one patch decides the class, the map for it points there, once a model has learned."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.core import LSTM, First, Learned, LearnedQuery, Max, Mean, NoNorm, Plain, Pool, StackConfig
from zoo.core.record import record
from zoo.errors import UserError
from zoo.vision import ViT
from zoo.vision.lens import look, overlay
from zoo.vision.patches import LinearPatches, patchify, unpatchify

PATCH, SIDE, CLASSES = 4, 4, 4
STACK = StackConfig(dim=32, depth=2, heads=2, position=Learned(17), ffn=Plain("gelu", 64))


def planted(count: int, seed: int, *, nothing: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Images whose patches are noise of plus and minus one, but for one, which is its class's; and where that stands.

    Every patch has the same size and spread: only what is in it tells. With `nothing` one class more has no such patch.
    Networks learn from those: else one class could be what is left when no other is found, and then nothing in an
    image speaks for it that a map could point at.
    """
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (CLASSES, PATCH**2), generator=torch.Generator().manual_seed(99)) * 2.0 - 1
    patches = torch.randint(0, 2, (count, SIDE**2, PATCH**2), generator=generator) * 2.0 - 1
    labels = torch.randint(0, CLASSES + nothing, (count,), generator=generator)
    place = torch.randint(0, SIDE**2, (count,), generator=generator)
    some = labels < CLASSES
    patches[torch.arange(count)[some], place[some]] = signs[labels[some]]
    return unpatchify(patches, PATCH, 1), labels, place


def network(seed: int = 1, **options: object) -> ViT:
    torch.manual_seed(seed)
    stack = options.pop("stack", STACK)
    return ViT(stack, CLASSES + 1, PATCH * SIDE, LinearPatches(PATCH), channels=1, **options)


def trained(model: ViT, steps: int = 450) -> ViT:
    from zoo.train.optimisers import Muon

    optimizer = Muon(lr=0.02).build(model)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * min(1, (step + 1) / 20) * (1 - step / steps)
        images, labels, _ = planted(64, step + 1, nothing=True)
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def learned() -> ViT:
    return trained(network(pool=Mean()))


def pointed(model: ViT, images: Tensor, place: Tensor) -> float:
    return float((look(model, images).weighted.argmax(-1) == place).float().mean())


def check(pool: Pool, learned: list[ViT]) -> None:
    """Of several networks the one in the middle: a class token can still take one of the classes for what is left."""
    images, labels, place = planted(1000, 10**6)
    assert pointed(network(pool=pool).eval(), images, place) < 0.3  # untrained: sixteen places to point at
    assert min(float((model(images).argmax(-1) == labels).float().mean()) for model in learned) > 0.98
    assert sorted(pointed(model, images, place) for model in learned)[len(learned) // 2] >= 0.95


def test_the_map_points_at_the_patch_that_decides(learned: ViT) -> None:
    check(Mean(), [learned])


@pytest.mark.slow
@pytest.mark.parametrize("pool", [First(), LearnedQuery()])
def test_so_it_does_however_the_patches_are_pooled(pool: Pool) -> None:
    check(pool, [trained(network(seed, pool=pool)) for seed in (1, 2, 3)])


def test_looks_are_shares_and_the_kernels_own() -> None:
    model = network()
    looks = look(model, planted(5, 1)[0])
    assert looks.error < 1e-5
    assert looks.heads.shape == (2, 5, 2, 16)
    assert (looks.heads.sum(-1) < 1).all()  # the rest is the class token's look at itself
    assert (looks.rollout.sum(-1) < 1).all()
    assert (looks.weighted >= 0).all()
    torch.testing.assert_close(looks.probabilities.sum(-1), torch.ones(5))
    assert all(p.grad is None for p in model.parameters())  # nothing is left behind


@pytest.mark.parametrize(("pool", "rows"), [(First(), slice(0, 1)), (Mean(), slice(1, None))], ids=["first", "mean"])
def test_heads_are_read_where_the_classifier_reads(pool: Pool, rows: slice) -> None:
    """Of the class token alone, or of all patches and not of the class token."""
    model, images = network(pool=pool), planted(5, 1)[0]
    with record(model) as maps:
        model(images)
    expected = torch.stack([found.weights[:, :, rows, 1:].mean(-2) for found in maps])
    torch.testing.assert_close(look(model, images).heads, expected)


def test_a_pooling_that_cannot_be_followed_is_named() -> None:
    with pytest.raises(UserError, match=r"pools by Max: where it looks is known for First"):
        look(network(pool=Max()).eval(), planted(2, 1)[0])


def test_a_model_without_attention_is_named() -> None:
    model = network(stack=STACK.replace(mixer=LSTM()), pool=Mean()).eval()
    with pytest.raises(UserError, match=r"mix by LSTM, not by attention: there are no maps"):
        look(model, planted(2, 1)[0])


def test_another_class_is_looked_for_elsewhere(learned: ViT) -> None:
    """Two deciding patches: the map for each class leans to its own."""
    images, _, _ = planted(200, 5)
    signs = torch.randint(0, 2, (CLASSES, PATCH**2), generator=torch.Generator().manual_seed(99)) * 2.0 - 1
    patches = patchify(images, PATCH)
    patches[:, 3], patches[:, 12] = signs[0], signs[1]
    both = unpatchify(patches, PATCH, 1)
    shares = []
    for label, place in ((0, 3), (1, 12)):
        found = look(learned, both, torch.full((200,), label)).weighted
        shares.append(float((found[:, place] > found[:, 15 - place]).float().mean()))
    assert min(shares) > 0.8, shares  # a map that does not depend on the class has exactly a half


def test_the_picture_has_a_panel_for_each_head(tmp_path: Path) -> None:
    model = network(stack=STACK.replace(final_norm=NoNorm()))
    images = planted(1, 1)[0]
    looks, path = look(model, images), tmp_path / "folder" / "looks.png"
    overlay(images * 127 + 128, looks, list("abcd"), path)
    assert path.stat().st_size > 10_000
    svg = tmp_path / "looks.svg"
    overlay(images * 127 + 128, looks, list("abcd"), svg, layer=0)
    titles = ["head 1", "head 2", "mean of heads", "rollout", "gradient-weighted: "]
    assert [svg.read_text().count(f"<!-- {title}") for title in titles] == [1] * 5
    assert svg.read_text().count("<!-- layer 1 of 2") == 1
    with pytest.raises(UserError, match="layer 2 does not exist: the model has 2"):
        overlay(images, looks, list("abcd"), path, layer=2)
    with pytest.raises(UserError, match=r"cannot draw '\.xyz'"):
        overlay(images, looks, list("abcd"), tmp_path / "looks.xyz")
