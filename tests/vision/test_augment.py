"""Augmentation: each image by its own draw, whatever stands beside it; operations against torchvision's."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import InterpolationMode, autoaugment
from torchvision.transforms.v2 import functional as tv

from zoo.vision import augment
from zoo.vision.augment import (
    Augment,
    CutMix,
    Mixup,
    MixupOrCutMix,
    RandAugment,
    TrivialAugment,
    draws,
)

INDEX = torch.arange(64)
EVERYTHING = Augment(
    flip=True, shift=3, rotate=15, zoom=0.2, crop=0.6, policy=RandAugment(2, 9), erase=0.5, mix=MixupOrCutMix()
)
POLICIES = [EVERYTHING, Augment(policy=TrivialAugment()), Augment(shift=2), Augment(erase=1.0)]


def pixels(count: int = 64, channels: int = 3, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8)


def test_draws_are_even_distinct_and_their_own() -> None:
    u = draws(1, 2, torch.arange(20_000), 4)
    assert u.min() >= 0
    assert u.max() < 1
    torch.testing.assert_close(u.mean(0), torch.full((4,), 0.5), rtol=0, atol=4 / math.sqrt(12 * 20_000))
    torch.testing.assert_close(u.var(0), torch.full((4,), 1 / 12), rtol=0.03, atol=0)
    correlation = torch.corrcoef(torch.cat([u, draws(1, 3, torch.arange(20_000), 4)], 1).T) - torch.eye(8)
    assert correlation.abs().max() < 4.5 / math.sqrt(20_000)
    for other in (
        draws(2, 2, INDEX, 4),
        draws(1, 3, INDEX, 4),
        draws(1, 2, INDEX, 4, stream=1),
        draws(1, 2, INDEX + 1, 4),
    ):
        assert (draws(1, 2, INDEX, 4) != other).float().mean() > 0.99
    assert torch.equal(draws(1, 2, INDEX, 6)[:, :4], draws(1, 2, INDEX, 4))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("setting", POLICIES, ids=range(len(POLICIES)))
def test_an_image_is_its_own_whatever_stands_beside_it(setting: Augment, channels: int) -> None:
    x = pixels(channels=channels)
    whole = setting.views(x, 1, 5, INDEX)
    order = torch.randperm(64)
    parts = [setting.views(x[part], 1, 5, INDEX[part]) for part in order.split(7)]
    again = torch.empty_like(whole)
    again[order] = torch.cat(parts)
    torch.testing.assert_close(again, whole, rtol=0, atol=1e-3)
    assert not torch.allclose(setting.views(x, 1, 6, INDEX), whole)
    assert not torch.allclose(setting.views(x, 2, 5, INDEX), whole)
    assert whole.min() > -0.01
    assert whole.max() < 255.01


@pytest.mark.parametrize("setting", POLICIES, ids=range(len(POLICIES)))
def test_the_device_draws_the_same_and_changes_images_alike(setting: Augment, device: torch.device) -> None:
    index = INDEX.to(device)
    assert torch.equal(draws(1, 5, index, 7, stream=2).cpu(), draws(1, 5, INDEX, 7, stream=2))
    there, here = setting.views(pixels().to(device), 1, 5, index).cpu(), setting.views(pixels(), 1, 5, INDEX)
    off = (there - here).abs() > 0.05
    assert off.float().mean() < 2e-3  # a level that is cut at a threshold may fall to its other side


def test_nothing_is_nothing() -> None:
    x = pixels()
    assert torch.equal(Augment().views(x, 1, 2, INDEX), x.float())


def test_a_flip_is_a_mirror_for_half_of_the_images() -> None:
    x = pixels(400)
    out = Augment(flip=True).views(x, 1, 0, torch.arange(400))
    same = (out - x).abs().amax((1, 2, 3)) < 0.01
    mirrored = (out - x.flip(-1)).abs().amax((1, 2, 3)) < 0.01
    assert (same ^ mirrored).all()
    assert 0.4 < mirrored.float().mean() < 0.6


def test_a_shift_is_a_padded_crop_and_every_place_is_as_likely() -> None:
    x, count, shift = pixels(3000, 1, 8), 3000, 1
    out = Augment(shift=shift).views(x, 1, 0, torch.arange(count))
    padded = F.pad(x.float(), [shift] * 4)
    found = torch.zeros(count, dtype=torch.long)
    for place in range(9):
        dy, dx = divmod(place, 3)
        crop = padded[..., dy : dy + 8, dx : dx + 8]
        found[(out - crop).abs().amax((1, 2, 3)) < 0.01] += 1 + 100 * place
    assert (found % 100 == 1).all()
    counts = torch.bincount(found // 100, minlength=9)
    assert counts.min() > 333 - 4.5 * math.sqrt(333)


def test_turns_and_zooms_stay_in_bounds_and_crops_keep_their_share() -> None:
    setting = Augment(rotate=20, zoom=0.25)
    maps = setting._place(torch.zeros(2000, 1, 8, 8), draws(1, 0, torch.arange(2000), 8))
    angle = torch.atan2(maps[:, 1, 0], maps[:, 0, 0]).rad2deg()
    assert 19 < angle.abs().max() <= 20.01
    scale = maps[:, :, 0].norm(dim=-1)
    assert scale.min() == pytest.approx(1 / 1.25, abs=0.01)
    assert scale.max() == pytest.approx(1.25, abs=0.01)
    maps = Augment(crop=0.5)._place(torch.zeros(2000, 1, 8, 8), draws(1, 0, torch.arange(2000), 8))
    wide, high = maps[:, 0, 0], maps[:, 1, 1]
    assert 0.42 < (wide * high).min() < 0.55
    assert (maps[:, 0, 2].abs() + wide).max() <= 1.001  # never beyond the edge
    assert (maps[:, 1, 2].abs() + high).max() <= 1.001


@pytest.mark.parametrize(("width", "height"), [(100, 100), (160, 80), (60, 180), (400, 80)])
def test_crops_are_drawn_as_torchvision_draws_them(width: int, height: int) -> None:
    """Shares of width and height, and places, by their quantiles; of a strip the middle, where no crop fits in it."""
    from torchvision.transforms.v2 import RandomResizedCrop

    least, count = 0.1, 4000
    torch.manual_seed(0)
    theirs = RandomResizedCrop(8, scale=(least, 1.0))
    picture = torch.zeros(1, height, width)
    found = [theirs.make_params([picture]) for _ in range(count)]
    top, left, high, wide = (torch.tensor([float(f[k]) for f in found]) for k in ("top", "left", "height", "width"))
    u = draws(1, 0, torch.arange(count), 22)
    ours = augment._crops(least, torch.full((count,), width / height), u)
    shares = torch.linspace(0.05, 0.95, 7)
    pairs = [(ours[0], wide / width), (ours[1], high / height)]
    pairs += [((1 - ours[0]) * ours[2][0], left / width), ((1 - ours[1]) * ours[2][1], top / height)]
    for mine, other in pairs:
        torch.testing.assert_close(mine.quantile(shares), other.quantile(shares), rtol=0, atol=0.035)
    assert ours[0].max() <= 1
    assert ours[1].max() <= 1


def test_what_is_cut_out_is_torchvisions_resized_crop() -> None:
    """Of pictures held larger than the model's size, by boxes found in pictures that say where each pixel stands."""
    side, size = 48, 20
    places = torch.arange(side, dtype=torch.uint8).expand(side, side)
    where = torch.stack([places.T, places, places]).expand(40, 3, side, side)
    x, aspects = pixels(40, size=side), torch.linspace(0.5, 2, 40)
    setting = Augment(crop=0.1)
    boxes, found = (setting.cut(images, aspects, size, 1, 3, INDEX[:40]) for images in (where, x))
    for image, box, made in zip(x, boxes, found, strict=True):
        step = (box[0, -2, 0] - box[0, 1, 0]) / (size - 3), (box[1, 0, -2] - box[1, 0, 1]) / (size - 3)
        high, wide = (round(float(s) * size) for s in step)
        top, left = (
            round(float(b.float().mean()) + 0.5 - n / 2) for b, n in ((box[0], high), (box[1], wide))
        )  # of the middle
        expected = tv.resized_crop(image.float(), top, left, high, wide, [size, size], antialias=True)
        torch.testing.assert_close(made, expected, rtol=0, atol=1e-3)
    again = setting.cut(x[7:9], aspects[7:9], size, 1, 3, INDEX[7:9])
    assert torch.equal(again, found[7:9])  # whatever stands beside it
    assert not torch.equal(setting.cut(x, aspects, size, 1, 4, INDEX[:40]), found)


def test_a_picture_that_shrinks_is_smoothed() -> None:
    stripes = (torch.arange(64) % 2 * 255).to(torch.uint8).expand(20, 1, 64, 64)
    made = Augment(crop=0.95).cut(stripes, torch.ones(20), 32, 1, 0, INDEX[:20])
    assert (made - 127.5).abs().mean() < 20  # stripes of one pixel become grey, not stripes that were never there


def test_crops_have_pixels_of_their_own_up_to_twice_the_size() -> None:
    assert [Augment(crop=crop).held_size(224) for crop in (1.0, 0.5, 0.25, 0.08)] == [224, 317, 448, 448]


THEIRS = {
    "shear x": "ShearX",
    "shear y": "ShearY",
    "shift x": "TranslateX",
    "shift y": "TranslateY",
    "rotate": "Rotate",
    "identity": "Identity",
    "brightness": "Brightness",
    "colour": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
}
POLICY = {
    "RandAugment": (RandAugment, autoaugment.RandAugment(), True),
    "TrivialAugment": (TrivialAugment, autoaugment.TrivialAugmentWide(), False),
}


@pytest.mark.parametrize("size", [40, 64, 331])
@pytest.mark.parametrize("level", [0, 4, 9, 15, 22, 30])
@pytest.mark.parametrize("policy", POLICY)
def test_policies_do_what_torchvisions_do(policy: str, level: int, size: int) -> None:
    """Every operation at a level, to both sides, of the whole image with its rim; smoothly, where torchvision takes the
    nearest pixel unless told otherwise."""
    ours, theirs, given = POLICY[policy]
    space = theirs._augmentation_space(31, *([(size, size)] if given else []))
    assert {THEIRS[name] for name in augment.OPERATIONS} == space.keys()
    images = pixels(2, size=size)
    ranges = ours().ranges(size)
    for name in augment.OPERATIONS:
        values, signed = space[THEIRS[name]]
        for side in (1, -1) if signed else (1,):
            m = torch.full((2,), side * level / 30)
            value = round(float(values[level]), 3) * side if values.ndim else 0.0  # 15.999 pixels are 16
            if name in augment.GEOMETRIC:
                x, bound = images.float(), 0.02
                found = augment._sample(x, augment.GEOMETRIC[name](m, ranges), "zeros")
                value = -value if name.startswith("shift") else value  # the other way around
            else:
                x, bound = images, 2.0  # torchvision rounds on the way to whole numbers
                found = augment.COLOUR[name](x.float(), m, ranges)
            expected = autoaugment._apply_op(x, THEIRS[name], value, InterpolationMode.BILINEAR, None)
            off = (found - expected.float()).abs()
            assert off.max() <= bound, (name, side)


@pytest.mark.parametrize("mix", [Mixup(), Mixup(alpha=1.0, share=0.5), CutMix(), CutMix(alpha=0.3), MixupOrCutMix()])
def test_the_label_has_as_much_of_each_image_as_the_picture(mix) -> None:
    count = 500
    own, other = torch.full((count, 3, 16, 16), 200.0), torch.zeros(count, 3, 16, 16)
    images, part = Augment(mix=mix).mixed(own, other, 1, 0, torch.arange(count))
    torch.testing.assert_close(images.mean((1, 2, 3)) / 200, part, rtol=0, atol=1e-5)
    assert 0 <= part.min() < 0.2
    if getattr(mix, "share", 1.0) < 1:
        assert 0.4 < (part == 1).float().mean() < 0.6


def test_a_coin_says_how_images_are_mixed_and_another_number_whether() -> None:
    own, other = torch.ones(2000, 1, 4, 4), torch.zeros(2000, 1, 4, 4)
    mix = MixupOrCutMix(Mixup(share=0.5), CutMix(share=0.5))
    images, part = Augment(mix=mix).mixed(own, other, 1, 0, torch.arange(2000))
    blended = ((images > 0) & (images < 1)).flatten(1).any(1)
    cut = (part < 1) & ~blended
    assert blended.float().mean() == pytest.approx(0.25, abs=0.05)
    assert cut.float().mean() == pytest.approx(0.25, abs=0.05)


def test_weights_follow_beta() -> None:
    u = draws(1, 0, torch.arange(20_000), 2)[:, 1]
    for alpha in (0.2, 0.8, 1.0, 3.0):
        w = augment._beta(u, alpha)
        assert w.mean() == pytest.approx(0.5, abs=0.01)
        assert w.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.04)


def test_partners_are_of_the_whole_set() -> None:
    partner = EVERYTHING.partner(10, 1, 0, torch.arange(2000))
    assert torch.bincount(partner, minlength=10).min() > 200 - 4.5 * math.sqrt(200)


def test_a_rectangle_is_erased_from_that_share_of_images() -> None:
    x = torch.full((2000, 1, 32, 32), 10, dtype=torch.uint8)
    out = Augment(erase=0.25).views(x, 1, 0, torch.arange(2000))
    gone = (out == 127.5).float().mean((1, 2, 3))
    assert 0.2 < (gone > 0).float().mean() < 0.3
    assert gone.max() <= 0.36


def test_a_rectangle_that_is_erased_lies_inside_as_torchvisions() -> None:
    """Areas and sides by their quantiles: a rectangle that was cut off at the edge would be smaller."""
    from torchvision.transforms.v2 import RandomErasing

    count, size = 4000, 64
    out = Augment(erase=1.0).views(torch.zeros(count, 1, size, size), 1, 0, torch.arange(count))
    torch.manual_seed(0)
    theirs = RandomErasing(p=1.0, scale=(0.02, 1 / 3), ratio=(0.3, 1 / 0.3), value=1)
    found = torch.stack([theirs(torch.zeros(1, size, size)) for _ in range(count)])
    shares = torch.linspace(0.05, 0.95, 7)
    for measure in (
        lambda x: x.float().mean((1, 2, 3)),
        lambda x: x.amax((1, 2)).float().mean(-1),
        lambda x: x.amax((1, 3)).float().mean(-1),
        lambda x: x.amax((1, 2)).float().argmax(-1) / size,
        lambda x: x.amax((1, 3)).float().argmax(-1) / size,
    ):
        mine, other = measure((out > 0).int()), measure((found > 0).int())
        torch.testing.assert_close(mine.quantile(shares), other.quantile(shares), rtol=0, atol=0.03)
    assert ((out > 0).float().mean((1, 2, 3)) > 0.018).all()


def test_a_shift_of_a_policy_is_as_many_pixels_as_torchvisions() -> None:
    from torchvision.transforms.v2 import RandAugment as TheirRandAugment
    from torchvision.transforms.v2 import TrivialAugmentWide

    for size in (64, 224):
        trivial, _ = TrivialAugmentWide._AUGMENTATION_SPACE["TranslateX"]
        assert TrivialAugment().ranges(size)["shift"] == pytest.approx(float(trivial(31, size, size)[-1]))
        rand, _ = TheirRandAugment._AUGMENTATION_SPACE["TranslateX"]
        assert RandAugment().ranges(size)["shift"] == pytest.approx(float(rand(31, size, size)[-1]))
    white = torch.full((400, 1, 224, 224), 255.0)
    u = torch.stack([torch.full((400,), 2.5 / len(augment.OPERATIONS)), torch.ones(400) * 0.999, torch.ones(400)], -1)
    moved = augment._operate(white, TrivialAugment(), u, "zeros")
    assert float((moved > 128).float().mean()) == pytest.approx(1 - 32 / 224, abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (Augment, {"crop": 0.0}, r"crop \(0.0\) must be from 0.01 to 1"),
        (Augment, {"shift": -1}, r"shift \(-1\) must be at least 0"),
        (Augment, {"fill": "mean"}, "'mean'"),
        (Mixup, {"alpha": 0.0}, r"alpha \(0.0\) must be above 0"),
        (RandAugment, {"level": 31}, r"level \(31\) from 0 to 30"),
    ],
)
def test_what_cannot_be_is_refused(kind: type, given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**given)
