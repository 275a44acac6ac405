"""An image as tokens, and back.

Axes: b images, c channels, H W pixels, (gh gw) the grid of patches, (ph pw) the pixels of a patch, p patches of an
image (gh gw in reading order), d model width.

The numbers of a patch are in the order (c ph pw): that of a convolution's kernel, so the weight "d c ph pw" of a
published patch convolution, flattened behind d, is the weight of our linear map.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from zoo.core.linear import Linear
from zoo.core.setting import Setting


class Patches(Setting):
    """How an image becomes tokens. `size`: pixels of a patch, along both sides."""

    size: int

    def build(self, channels: int, dim: int) -> nn.Module:
        """A module from images "b c H W" to tokens "b p d"."""
        raise NotImplementedError

    def parameters(self, channels: int, dim: int) -> int:
        raise NotImplementedError

    def grid(self, image_size: int) -> int:
        """Patches along a side; ValueError where the size leaves a rest."""
        if image_size % self.size:
            below = image_size // self.size * self.size
            near = f"{below} or {below + self.size}" if below else str(self.size)
            raise ValueError(f"image_size ({image_size}) is not divisible by the patch ({self.size}): give {near}")
        return image_size // self.size


@dataclass(frozen=True)
class LinearPatches(Patches):
    """One linear map of each patch's pixels. Dosovitskiy et al. 2021, section 3.1."""

    size: int
    bias: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 1:
            raise ValueError(f"a patch of {self.size} pixels: size must be at least 1")

    def build(self, channels: int, dim: int) -> nn.Module:
        return PatchMap(channels, dim, self.size, bias=self.bias)

    def parameters(self, channels: int, dim: int) -> int:
        return (channels * self.size**2 + self.bias) * dim


@dataclass(frozen=True)
class ConvStem(Patches):
    """A few small convolutions in place of one large one, each halving the image. Xiao et al. 2021, section 3.

    `size`, a power of two, is what a token stands for; `width`: channels after the last convolution, half as many
    before it, and so on. Their norm is over each image's channels (GroupNorm of one group): unlike the paper's, it
    does not depend on the batch.
    """

    size: int
    width: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 2 or self.size & (self.size - 1):
            raise ValueError(f"size ({self.size}) of a ConvStem must be a power of two, from 2")
        if self.width % (self.size // 2):
            raise ValueError(f"width ({self.width}) must be divisible by {self.size // 2}: it is halved so often")

    def widths(self, channels: int) -> list[int]:
        """Channels before and after each convolution."""
        halvings = self.size.bit_length() - 1
        return [channels, *(self.width >> i for i in reversed(range(halvings)))]

    def build(self, channels: int, dim: int) -> nn.Module:
        return Stem(self.widths(channels), dim)

    def parameters(self, channels: int, dim: int) -> int:
        # convolutions of 3 x 3 without bias, gain and bias of their norms, and the last map
        return sum(9 * a * b + 2 * b for a, b in pairwise(self.widths(channels))) + (self.width + 1) * dim


class PatchMap(nn.Module):
    def __init__(self, channels: int, dim: int, size: int, *, bias: bool):
        super().__init__()
        self.size = size
        self.projection = Linear(channels * size**2, dim, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.projection(patchify(images, self.size))
        return tokens


class Stem(nn.Module):
    def __init__(self, widths: list[int], dim: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.GroupNorm(1, b), nn.ReLU())
                for a, b in pairwise(widths)
            )
        )
        self.projection = Linear(widths[-1], dim)

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.projection(rearrange(self.convolutions(images), "b f gh gw -> b (gh gw) f"))
        return tokens


def patchify(images: Tensor, size: int) -> Tensor:
    """Images "b c H W" as patches "b p (c ph pw)"."""
    return rearrange(images, "b c (gh ph) (gw pw) -> b (gh gw) (c ph pw)", ph=size, pw=size)


def unpatchify(patches: Tensor, size: int, channels: int) -> Tensor:
    """Patches "b p (c ph pw)" of a square image as images "b c H W": the inverse of `patchify`."""
    side = round(patches.shape[1] ** 0.5)
    return rearrange(patches, "b (gh gw) (c ph pw) -> b c (gh ph) (gw pw)", gh=side, c=channels, ph=size, pw=size)


def resize_positions(table: Tensor, rows: int, prefix: int) -> Tensor:
    """A position table "n d" for another square grid: `rows` rows in all, of which the first `prefix` stay.

    Bicubic, smoothed where the grid shrinks, as published models are carried to other sizes. ValueError where what
    stands behind the prefix is no square.
    """
    if len(table) == rows:
        return table
    old, new = (round(max(count - prefix, 0) ** 0.5) for count in (len(table), rows))
    if old**2 + prefix != len(table) or new**2 + prefix != rows:
        raise ValueError(f"{len(table)} positions, {prefix} of them before the patches, cannot become {rows}")
    places = rearrange(table[prefix:], "(gh gw) d -> 1 d gh gw", gh=old).float()
    placed = F.interpolate(places, size=(new, new), mode="bicubic", antialias=True)
    return torch.cat([table[:prefix], rearrange(placed, "1 d gh gw -> (gh gw) d").to(table.dtype)])
