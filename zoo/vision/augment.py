"""Images as they could also have been. A batch at a time, each image by its own draw.

Axes: b images, c channels, s pixels of a side, k numbers drawn for an image.

Every number that an image's change depends on is a hash of (seed, epoch, the image's index, which number): how images
were put into batches, by how many workers, and where a run was interrupted cannot matter. All geometry of an image is
one affine map, so that it is sampled once; but what is cut out of pictures larger than the model's input is made
smaller first, as torchvision does it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from zoo.core.setting import Setting

_MIX = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)  # multipliers of splitmix64 (Steele et al. 2014), as signed numbers
_STEP = -0x61C8864680B583EB


def _scramble(x: Tensor) -> Tensor:
    """splitmix64's finaliser over int64, whose products wrap around."""
    for shift, factor in ((30, _MIX[0]), (27, _MIX[1])):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def draws(seed: int, epoch: int, index: Tensor, count: int, stream: int = 0) -> Tensor:
    """Numbers in [0, 1), "b k": a hash of (seed, epoch, index "b", which of `count`, stream), float32."""
    key = torch.zeros_like(index)
    for part in (seed, epoch, stream):
        key = _scramble(key + part + _STEP)
    key = _scramble(_scramble(key + index + _STEP).unsqueeze(-1) + torch.arange(count, device=index.device) * _STEP)
    return ((key >> 40) & ((1 << 24) - 1)).float() / (1 << 24)


def _signed(u: Tensor) -> Tensor:
    return 2 * u - 1


# -- ready-made policies: one operation or several, of a random kind and strength --------------------------------------


class Policy(Setting):
    """Which operations each image goes through. `steps` rows of (kind, strength, sign), each in [0, 1)."""

    steps: int

    def ranges(self, size: int) -> dict[str, float]:
        """How far each operation goes at most, for images of `size` pixels; a shift in pixels. And that `size`."""
        raise NotImplementedError

    def strength(self, u: Tensor) -> Tensor:
        """How strong an operation is, from 0 to 1, for numbers drawn in [0, 1)."""
        raise NotImplementedError


@dataclass(frozen=True)
class NoPolicy(Policy):
    """None."""

    steps = 0


@dataclass(frozen=True)
class TrivialAugment(Policy):
    """One operation an image, of any strength. Müller & Hutter 2021, the wide ranges of their section 4: shifts of up
    to 32 pixels at any size (in images of fewer, of the whole side)."""

    steps = 1

    def ranges(self, size: int) -> dict[str, float]:
        return {"shear": 0.99, "shift": min(32, size), "size": size, "rotate": 135.0, "factor": 0.99, "bits": 6.0}

    def strength(self, u: Tensor) -> Tensor:
        return (u * 31).floor() / 30


@dataclass(frozen=True)
class RandAugment(Policy):
    """`count` operations an image, all of `level` (of 30). Cubuk et al. 2020, section 3: shifts of up to 150 of 331
    pixels, that share of the side at any size."""

    count: int = 2
    level: int = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count < 1 or not 0 <= self.level <= 30:
            raise ValueError(f"count ({self.count}) must be at least 1, level ({self.level}) from 0 to 30")

    @property
    def steps(self) -> int:  # type: ignore[override]
        return self.count

    def ranges(self, size: int) -> dict[str, float]:
        shift = 150 / 331 * size
        return {"shear": 0.3, "shift": shift, "size": size, "rotate": 30.0, "factor": 0.9, "bits": 4.0}

    def strength(self, u: Tensor) -> Tensor:
        return torch.full_like(u, self.level / 30)


# -- two images in one -------------------------------------------------------------------------------------------------


class Mix(Setting):
    """How an image is mixed with another of the set."""

    def mix(self, own: Tensor, other: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Images "b c s s" with others, by five numbers each ("b 5"); and the part of each that is its own, "b"."""
        raise NotImplementedError


@dataclass(frozen=True)
class NoMix(Mix):
    """No mixing."""


@dataclass(frozen=True)
class Mixup(Mix):
    """A weighted sum of both, the weight drawn from Beta(alpha, alpha). Zhang et al. 2018."""

    alpha: float = 0.8
    share: float = 1.0  # of images that are mixed at all

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_mix(self.alpha, self.share)

    def mix(self, own: Tensor, other: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        part = torch.where(u[:, 0] < self.share, _beta(u[:, 1], self.alpha), torch.ones_like(u[:, 0]))
        weight = part.view(-1, 1, 1, 1)
        return own * weight + other * (1 - weight), part


@dataclass(frozen=True)
class CutMix(Mix):
    """A rectangle of the other's, 1 - Beta(alpha, alpha) of the area. Yun et al. 2019."""

    alpha: float = 1.0
    share: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_mix(self.alpha, self.share)

    def mix(self, own: Tensor, other: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        size = own.shape[-1]
        cut = torch.where(u[:, 0] < self.share, 1 - _beta(u[:, 1], self.alpha), torch.zeros_like(u[:, 0]))
        side = (cut.sqrt() * size).round()
        inside = _boxes(size, u[:, 2] * size, u[:, 3] * size, side, side)
        return torch.where(inside.unsqueeze(1), other, own), 1 - inside.float().mean((-2, -1))


@dataclass(frozen=True)
class MixupOrCutMix(Mix):
    """Either, as a coin falls for each image."""

    mixup: Mixup = field(default_factory=Mixup)
    cutmix: CutMix = field(default_factory=CutMix)

    def mix(self, own: Tensor, other: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        first, second = (m.mix(own, other, u) for m in (self.mixup, self.cutmix))
        coin = u[:, 4] < 0.5
        return torch.where(coin.view(-1, 1, 1, 1), first[0], second[0]), torch.where(coin, first[1], second[1])


def _check_mix(alpha: float, share: float) -> None:
    if alpha <= 0 or not 0 <= share <= 1:
        raise ValueError(f"alpha ({alpha}) must be above 0, share ({share}) in [0, 1]")


def _beta(u: Tensor, alpha: float) -> Tensor:
    """Draws from Beta(alpha, alpha) by the inverse of its distribution function."""
    if alpha == 1:
        return u
    from scipy.special import betaincinv

    return torch.from_numpy(np.asarray(betaincinv(alpha, alpha, u.double().cpu().numpy()))).to(u)


def _boxes(size: int, y: Tensor, x: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Rectangles around centres, cut off at the edge, as masks "b s s"."""
    count = torch.arange(size, device=y.device) + 0.5
    rows, columns = (
        (count >= (middle - side / 2).unsqueeze(-1)) & (count < (middle + side / 2).unsqueeze(-1))
        for middle, side in ((y, height), (x, width))
    )
    return rows.unsqueeze(-1) & columns.unsqueeze(-2)


# -- all of it ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What may happen to a training image; nothing unless told. ValueError for what cannot be."""

    flip: bool = False  # left and right, for every other image
    shift: int = 0  # pixels at most along each side: a padded crop
    rotate: float = 0.0  # degrees at most, either way
    zoom: float = 0.0  # the scale is between 1 / (1 + zoom) and 1 + zoom
    # a crop of at least this share of the area, its sides 3:4 to 4:3, made the whole image: of the whole picture where
    # files are decoded (`cut`), of what is held where that has the model's size
    crop: float = 1.0
    fill: Literal["zeros", "border", "reflection"] = "zeros"  # beyond the edge
    policy: Policy = field(default_factory=NoPolicy)
    # share of images of which a rectangle inside is made grey: 2 % to a third of the area, its sides 3:10 to 10:3
    # (Zhong et al. 2020, section 3, and torchvision's ranges)
    erase: float = 0.0
    mix: Mix = field(default_factory=NoMix)

    def __post_init__(self) -> None:
        for name, low, high in (("erase", 0, 1), ("crop", 0.01, 1), ("zoom", 0, 10), ("rotate", 0, 180)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} ({getattr(self, name)}) must be from {low} to {high}")
        if self.shift < 0:
            raise ValueError(f"shift ({self.shift}) must be at least 0 pixels")
        if self.fill not in ("zeros", "border", "reflection"):
            raise ValueError(f"fill ({self.fill!r}) is not one of 'zeros', 'border', 'reflection'")

    @property
    def mixes(self) -> bool:
        return not isinstance(self.mix, NoMix)

    def held_size(self, size: int) -> int:
        """Pixels along a side to hold pictures at, of which crops become `size` pixels.

        So many that the smallest crop has them all, but at most twice `size`: four times the memory.
        """
        return size if self.crop == 1 else min(math.ceil(size / math.sqrt(self.crop)), 2 * size)

    def cut(self, pixels: Tensor, aspects: Tensor, size: int, seed: int, epoch: int, index: Tensor) -> Tensor:
        """A crop of each whole picture as an image "b c s s" of `size` pixels, float32 from 0 to 255.

        `pixels`: "b c S S" uint8, each stretched to a square from a picture of that aspect ("b", width over height).
        Crops are those of torchvision's RandomResizedCrop (Szegedy et al. 2015, section 6): in the picture as it was,
        of ten the first that lies in it, else the largest in the middle; smoothed where they shrink.
        """
        side = pixels.shape[-1]
        wide, high, u = _crops(self.crop, aspects, draws(seed, epoch, index, 22, stream=102))
        wide, high = ((part * side).round().clamp(1, side) for part in (wide, high))
        left, top = ((v * (side - part + 1)).floor() for v, part in zip(u, (wide, high), strict=True))
        boxes = torch.stack([top, top + high, left, left + wide], -1).long().tolist()
        return torch.cat(
            [
                F.interpolate(image[:, :, a:b, c:d].float(), (size, size), mode="bilinear", antialias=True)
                for image, (a, b, c, d) in zip(pixels.split(1), boxes, strict=True)
            ]
        )

    def views(self, pixels: Tensor, seed: int, epoch: int, index: Tensor) -> Tensor:
        """Pixels "b c s s" (0 to 255) of the images `index` ("b") as this epoch shows them, float32, not yet mixed."""
        images = pixels.float()
        if self.flip or self.shift or self.rotate or self.zoom or self.crop < 1:
            images = _sample(images, self._place(images, draws(seed, epoch, index, 8)), self.fill)
        for step in range(self.policy.steps):
            images = _operate(images, self.policy, draws(seed, epoch, index, 3, stream=2 + step), self.fill)
        if self.erase:
            images = self._erase(images, draws(seed, epoch, index, 5, stream=1))
        return images

    def mixed(self, own: Tensor, other: Tensor, seed: int, epoch: int, index: Tensor) -> tuple[Tensor, Tensor]:
        """Two batches of views as one, and the part of each image that is its own."""
        return self.mix.mix(own, other, draws(seed, epoch, index, 5, stream=100))

    def partner(self, count: int, seed: int, epoch: int, index: Tensor) -> Tensor:
        """With which of `count` images each is mixed."""
        u = draws(seed, epoch, index, 1, stream=101)[:, 0]
        return (u.double() * count).long().clamp(max=count - 1)

    def _place(self, images: Tensor, u: Tensor) -> Tensor:
        """Maps "b 2 3" from places of the result to places of the image, in units of half a side."""
        half = images.shape[-1] / 2
        area = self.crop + (1 - self.crop) * u[:, 0]
        ratio = torch.exp(_signed(u[:, 1]) * math.log(4 / 3) * (self.crop < 1))
        wide, high = ((area * r).sqrt().clamp(max=1) for r in (ratio, 1 / ratio))
        scale = torch.exp(_signed(u[:, 2]) * math.log1p(self.zoom))
        across = wide / scale * torch.where(u[:, 3] < 0.5, -1, 1) if self.flip else wide / scale
        angle = _signed(u[:, 4]) * math.radians(self.rotate)
        # a whole number of pixels from -shift to shift, each as likely
        x, y = ((v * (2 * self.shift + 1)).floor() - self.shift for v in (u[:, 5], u[:, 6]))
        # the crop lies anywhere in the image: two further numbers, the last in the low digits of the one before
        left, top = _signed(u[:, 7]) * (1 - wide), _signed((u[:, 7] * 4096).frac()) * (1 - high)
        cos, sin = angle.cos(), angle.sin()
        return torch.stack(
            [
                torch.stack([across * cos, -high / scale * sin, left + x / half], -1),
                torch.stack([across * sin, high / scale * cos, top + y / half], -1),
            ],
            1,
        )

    def _erase(self, images: Tensor, u: Tensor) -> Tensor:
        size = images.shape[-1]
        area = 0.02 + (1 / 3 - 0.02) * u[:, 1]
        widest = (-area.log()).clamp(max=math.log(1 / 0.3))  # beyond which the rectangle would not lie inside
        ratio = torch.exp(_signed(u[:, 2]) * widest)
        high, wide = (((area * r).sqrt() * size).round().clamp(1, size) for r in (ratio, 1 / ratio))
        top, left = ((v * (size - side + 1)).floor() for v, side in ((u[:, 3], high), (u[:, 4], wide)))
        inside = _boxes(size, top + high / 2, left + wide / 2, high, wide) & (u[:, 0] < self.erase).view(-1, 1, 1)
        return torch.where(inside.unsqueeze(1), torch.full_like(images[:, :1, :1, :1], 127.5), images)


def _crops(least: float, aspects: Tensor, u: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Widths and heights ("b") of crops, as shares of pictures' own, and two numbers that say where: by "b 22"."""
    area = least + (1 - least) * u[:, :10]
    ratio = torch.exp(_signed(u[:, 10:20]) * math.log(4 / 3))
    shape = aspects.unsqueeze(-1)
    wide, high = (area * ratio / shape).sqrt(), (area / ratio * shape).sqrt()
    fits = (wide <= 1) & (high <= 1)
    first = fits.int().argmax(-1, keepdim=True)
    largest = ((4 / 3 / aspects).clamp(max=1), (aspects / (3 / 4)).clamp(max=1))  # with sides from 3:4 to 4:3
    some = fits.any(-1)
    wide, high = (
        torch.where(some, drawn.gather(-1, first).squeeze(-1), middle)
        for drawn, middle in zip((wide, high), largest, strict=True)
    )
    return wide, high, (torch.where(some, u[:, 20], 0.5), torch.where(some, u[:, 21], 0.5))


def _sample(images: Tensor, maps: Tensor, fill: str) -> Tensor:
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode=fill, align_corners=False)


# -- the operations of policies ----------------------------------------------------------------------------------------
#
# Each takes images (0 to 255) and, for each, a strength from 0 to 1 with a sign, and the policy's ranges. Those of
# geometry give the map of `_sample` instead.


def _maps(b: Tensor, **cells: Tensor) -> Tensor:
    out = torch.eye(2, 3, device=b.device).repeat(len(b), 1, 1)
    for name, value in cells.items():
        out[:, int(name[1]), int(name[2])] = value
    return out


def _rotations(m: Tensor, ranges: dict[str, float]) -> Tensor:
    angle = m * math.radians(ranges["rotate"])
    return _maps(m, m00=angle.cos(), m01=-angle.sin(), m10=angle.sin(), m11=angle.cos())


def _pixels(m: Tensor, ranges: dict[str, float]) -> Tensor:
    """A shift by whole pixels, in halves of a side: nothing is blurred."""
    return (m * ranges["shift"]).trunc() * 2 / ranges["size"]


# Shears are about the upper left corner, as in the policies that were published: its place is -1, so that each row is
# moved by its place plus 1.
GEOMETRIC: dict[str, Callable[[Tensor, dict[str, float]], Tensor]] = {
    "shear x": lambda m, ranges: _maps(m, m01=m * ranges["shear"], m02=m * ranges["shear"]),
    "shear y": lambda m, ranges: _maps(m, m10=m * ranges["shear"], m12=m * ranges["shear"]),
    "shift x": lambda m, ranges: _maps(m, m02=_pixels(m, ranges)),
    "shift y": lambda m, ranges: _maps(m, m12=_pixels(m, ranges)),
    "rotate": _rotations,
}


def _grey(images: Tensor) -> Tensor:
    return images if images.shape[1] == 1 else tv.rgb_to_grayscale(images)


def _blend(images: Tensor, other: Tensor, m: Tensor, ranges: dict[str, float]) -> Tensor:
    """Away from `other` (a factor above 1) or towards it."""
    factor = (1 + m * ranges["factor"]).view(-1, 1, 1, 1)
    return (other + (images - other) * factor).clamp(0, 255)


def _smooth(images: Tensor) -> Tensor:
    """A weighted mean of each pixel's neighbours; the border stays."""
    kernel = (
        images.new_tensor([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]]).div(13).expand(images.shape[1], 1, 3, 3)
    )
    out = images.clone()
    if images.shape[-1] > 2:
        out[..., 1:-1, 1:-1] = F.conv2d(images, kernel, groups=images.shape[1])
    return out


def _posterize(images: Tensor, m: Tensor, ranges: dict[str, float]) -> Tensor:
    step = 2.0 ** (m.abs() * ranges["bits"]).round().view(-1, 1, 1, 1)
    return (images / step).floor() * step


def _solarize(images: Tensor, m: Tensor, ranges: dict[str, float]) -> Tensor:
    return torch.where(images >= (255 * (1 - m.abs())).view(-1, 1, 1, 1), 255 - images, images)


def _equalize(images: Tensor, m: Tensor, ranges: dict[str, float]) -> Tensor:
    return tv.equalize(images.round().clamp(0, 255).to(torch.uint8)).float()


COLOUR: dict[str, Callable[[Tensor, Tensor, dict[str, float]], Tensor]] = {
    "identity": lambda x, m, ranges: x,
    "brightness": lambda x, m, ranges: _blend(x, torch.zeros_like(x), m, ranges),
    "colour": lambda x, m, ranges: _blend(x, _grey(x), m, ranges),
    "contrast": lambda x, m, ranges: _blend(x, _grey(x).mean((-3, -2, -1), keepdim=True), m, ranges),
    "sharpness": lambda x, m, ranges: _blend(x, _smooth(x), m, ranges),
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": lambda x, m, ranges: tv.autocontrast(x / 255) * 255,
    "equalize": _equalize,
}
OPERATIONS = (*GEOMETRIC, *COLOUR)


def _operate(images: Tensor, policy: Policy, u: Tensor, fill: str) -> Tensor:
    """One operation an image: numbers "b 3" say which, how strong, and to which side."""
    kind = (u[:, 0] * len(OPERATIONS)).long()
    ranges = policy.ranges(images.shape[-1])
    m = policy.strength(u[:, 1]) * torch.where(u[:, 2] < 0.5, -1.0, 1.0)
    maps = torch.eye(2, 3, device=images.device).repeat(len(images), 1, 1)
    out = images.clone()
    for number, name in enumerate(OPERATIONS):
        chosen = (kind == number).nonzero().squeeze(-1)
        if not len(chosen) or name == "identity":
            continue
        if name in GEOMETRIC:
            maps[chosen] = GEOMETRIC[name](m[chosen], ranges)
        else:
            out[chosen] = COLOUR[name](images[chosen], m[chosen], ranges)
    moved = (kind < len(GEOMETRIC)).nonzero().squeeze(-1)
    if len(moved):
        out[moved] = _sample(images[moved], maps[moved], fill)
    return out
