"""Any image file as the numbers a model takes. Axes: b images, c channels, s pixels of a side.

What a file may be (palette, CMYK, 16 bits, transparent, rotated by its camera) becomes what a viewer would show: RGB or
grey, upright, on white. A file that cannot be shown is a `UserError` that names it; how many pixels it claims is looked
at before any is decoded.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from zoo.data.files import InFolder
from zoo.errors import UserError, nearest

LARGEST = 100_000_000  # pixels of a file: 400 MB as RGBA
REDUCED = 4  # how many times larger than the model's input a JPEG is decoded at least
ENDINGS = frozenset(".jpg .jpeg .jpe .jfif .png .webp .avif .bmp .gif .tif .tiff .ppm .pgm .pbm .jp2".split())


def open_image(path: Path | str, side: int | None = None) -> Image.Image:
    """The picture in a file as a viewer shows it, mode RGB or L. UserError names a file that is none. `side`: as
    `decode` has it."""
    path = Path(path)
    try:
        raw = path.read_bytes()
    except IsADirectoryError:
        raise UserError(f"{path}: a folder, not an image") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    return decode(raw, str(path), side)


def decode(raw: bytes, where: str, side: int | None = None) -> Image.Image:
    """The picture in the bytes of a file; `where` names it in a UserError. A JPEG that is many times larger than `side`
    pixels, which the shorter side shall have in the end, may come smaller: `_reduce`."""
    if not raw:
        raise UserError(f"{where}: the file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's doubts about size and metadata: the size is looked at here
        try:
            image = Image.open(BytesIO(raw))
        except Image.DecompressionBombError:
            raise UserError(f"{where}: more pixels than the {LARGEST:,} that are read") from None
        except Exception as error:  # whatever a plugin stumbles on in a header
            raise UserError(f"{where}: not an image ({_reason(error)})") from None
        if image.width * image.height > LARGEST:
            raise UserError(f"{where}: {image.width:,} x {image.height:,} pixels, at most {LARGEST:,} are read")
        try:
            if side is not None:
                _reduce(image, side)
            image.load()
            return _shown(ImageOps.exif_transpose(image))
        except Exception as error:  # decoders fail in a dozen ways, all of which mean the same
            raise UserError(f"{where}: not a whole image ({_reason(error)})") from None


def _reduce(image: Image.Image, side: int) -> None:
    """Have a JPEG decoded to an eighth, a quarter or half of its sides, which takes far less time than the whole.

    So that at least REDUCED times `side` pixels remain, which leaves what is resized from them within half a level of
    255 in the mean; and only where its sides are multiples, or the picture would be stretched by the rest of a pixel.
    """
    width, height = image.size
    for scale in (8, 4, 2):
        if not (width % scale or height % scale) and min(width, height) >= scale * REDUCED * side:
            image.draft(None, (width // scale, height // scale))  # of other formats this does nothing
            return


def _reason(error: Exception) -> str:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "unknown format" if said.startswith("cannot identify") else said[:80]


def _shown(image: Image.Image) -> Image.Image:
    """RGB or L with eight bits, what is transparent on white."""
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(image)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        white.alpha_composite(over)
        grey = image.mode in ("L", "LA", "La", "1")
        return white.convert("L" if grey else "RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Numbers of 16 or 32 bits, or of floating point, as grey of eight bits.

    From 0 to the top of their kind (1 or 255 of floating point, 255 or 65,535 of whole numbers); what goes beyond that
    is shown from the file's least number to its largest, as measuring devices write them.
    """
    values = np.asarray(image, dtype=np.float64)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    values = np.nan_to_num(values, nan=max(low, 0.0), posinf=high, neginf=low)
    # Pillow opens 16 bits as I;16, or as I where a reader knows no better
    tops = (65535.0,) if image.mode.startswith("I;16") else (1.0, 255.0) if image.mode == "F" else (255.0, 65535.0)
    top = next((top for top in tops if high <= top), high)
    if low < 0 or high > tops[-1]:
        values, top = values - low, high - low or 1.0
    return Image.fromarray((values * (255 / top)).round().astype(np.uint8), "L")


@dataclass(frozen=True)
class Preprocess(InFolder):
    """From a picture to what a model takes: preprocess.json of a model.

    The shorter side becomes `shorter` pixels (`crop`), or both sides do (`stretch`), and the middle is cut out; pixels
    from 0 to 1 lose `mean` and are divided by `std`, one number a channel (1 or 3).
    """

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shorter: int | None = None  # None: `size`
    fit: Literal["crop", "stretch"] = "crop"
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"

    filename = "preprocess.json"  # in a model's folder

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"channels ({self.channels}) must be 1 (grey) or 3 (RGB)")
        if self.size < 1 or (self.shorter is not None and self.shorter < self.size):
            raise ValueError(f"size ({self.size}) must be at least 1, and shorter ({self.shorter}) no less")
        if not len(self.mean) == len(self.std) == self.channels or min(self.std) <= 0:
            raise ValueError(f"mean and std need a number for each of {self.channels} channels, std above 0")
        for name, allowed in {"fit": ("crop", "stretch"), "interpolation": ("bilinear", "bicubic")}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} ({getattr(self, name)!r}) is not one of {', '.join(map(repr, allowed))}")

    @classmethod
    def load(cls, path: str | Path) -> "Preprocess":
        """UserError where the file is not one of ours."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise ValueError("expected settings by name")
            known = [field.name for field in fields(cls)]
            for name in values:
                if name not in known:
                    raise ValueError(f"unknown setting {name!r}{nearest(name, known)}")
            sizes = [values[name] for name in ("size", "channels")] + [values.get("shorter") or values["size"]]
            if not all(type(value) is int for value in sizes):
                raise ValueError("size, channels and shorter are whole numbers")
            numbers = {name: tuple(float(x) for x in values[name]) for name in ("mean", "std")}
            return cls(**(values | numbers))
        except KeyError as error:
            raise UserError(f"{path}: {error} is missing") from None
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: not settings of images ({error})") from None

    @property
    def side(self) -> int:
        """Pixels of the shorter side, before the middle is cut out."""
        return self.shorter or self.size

    def at(self, size: int) -> "Preprocess":
        """The same for images of `size` pixels: as much of a picture is cut away."""
        return replace(self, size=size, shorter=self.shorter and round(self.shorter * size / self.size))

    def whole(self, size: int) -> "Preprocess":
        """The same for whole pictures, stretched to `size` pixels: nothing is cut away. Bilinear, which is quicker:
        what is held so is resized once more."""
        return replace(self, size=size, shorter=None, fit="stretch", interpolation="bilinear")

    def content(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    def pixels(self, image: Image.Image) -> Tensor:
        """A picture in the model's size and channels, "c s s" uint8."""
        image = image.convert("RGB" if self.channels == 3 else "L")
        how = Image.Resampling.BICUBIC if self.interpolation == "bicubic" else Image.Resampling.BILINEAR
        # scaled and cut in one step: a strip of 1 x 10,000 pixels is never blown up as a whole
        if self.fit == "stretch":
            sides = [self.side, self.side]
        else:
            sides = [max(int(side * self.side / min(image.size)), self.size) for side in image.size]
        ratios = [old / new for old, new in zip(image.size, sides, strict=True)]
        begins = [round((side - self.size) / 2) for side in sides]
        box = [begin * ratio for begin, ratio in zip(begins, ratios, strict=True)]
        box += [
            min((begin + self.size) * ratio, old) for begin, ratio, old in zip(begins, ratios, image.size, strict=True)
        ]
        image = image.resize((self.size, self.size), how, box=tuple(box))
        values = torch.from_numpy(np.array(image, dtype=np.uint8))
        return values.view(self.size, self.size, self.channels).permute(2, 0, 1).contiguous()

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels "b c s s" (uint8, or float from 0 to 255) as the model takes them, float32."""
        scale, shift = self._line(pixels.device)
        return pixels.float().mul_(scale).add_(shift) if pixels.dtype == torch.uint8 else pixels * scale + shift

    def denormalise(self, images: Tensor) -> Tensor:
        """What the model takes as pixels from 0 to 255, float32: the inverse of `normalise`."""
        scale, shift = self._line(images.device)
        return (images.float() - shift) / scale

    def _line(self, device: torch.device) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (self.mean, self.std))
        return 1 / (255 * std), -mean / std

    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        """Pictures as the model takes them, "b c s s"."""
        return self.normalise(torch.stack([self.pixels(image) for image in images]))
