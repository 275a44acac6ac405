"""Any image file: what a viewer would show, or one line that names it."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.vision.pictures import jpeg
from zoo.errors import UserError
from zoo.vision.images import Preprocess, decode, open_image
from zoo.vision.pictures import Decoding, Pictures

FIT = Preprocess(8, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def saved(folder: Path, image: Image.Image, name: str, **options: object) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"\0" * 100)]
    framed = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def whole_png() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"not an image at all", "not an image (unknown format)"),
        (whole_png()[:2000], "not a whole image"),
        (whole_png()[:20], "not an image"),
        (header(60_000, 60_000), "more pixels than the 100,000,000 that are read"),
        (header(12_000, 12_000), "12,000 x 12,000 pixels, at most 100,000,000 are read"),
        (header(0, 5), "picture.png: not a"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 500, "not an image"),
    ],
    ids=[
        "zero bytes",
        "text",
        "truncated",
        "header cut",
        "60,000 x 60,000",
        "12,000 x 12,000",
        "no width",
        "jpeg of zeros",
    ],
)
def test_what_cannot_be_shown_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        open_image(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.png"):
        with pytest.raises(UserError, match=str(path)):
            open_image(path)


def test_every_kind_of_colour_is_the_colour_that_a_viewer_shows(tmp_path: Path) -> None:
    orange = Image.new("RGB", (16, 16), (250, 120, 10))
    kinds = {
        "palette.png": orange.quantize(8),
        "palette.gif": orange.quantize(8),
        "cmyk.jpg": orange.convert("CMYK"),
        "cmyk.tif": orange.convert("CMYK"),
        "ycbcr.jpg": orange,
        "bitmap.bmp": orange,
        "lossless.webp": orange,
    }
    for name, image in kinds.items():
        options = {"lossless": True} if name.endswith("webp") else {}
        found = FIT.pixels(open_image(saved(tmp_path, image, name, **options))).float()
        expected = torch.tensor([250.0, 120.0, 10.0]).view(3, 1, 1).expand(3, 8, 8)
        assert (found - expected).abs().max() <= 6, name


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    for value, expected in ((0, 0), (65535, 255), (32768, 128), (514, 2)):
        deep = Image.fromarray(np.full((9, 9), value, dtype=np.uint16))
        for name in ("deep.png", "deep.tif"):
            assert (FIT.pixels(open_image(saved(tmp_path, deep, name))) == expected).all(), (name, value)
    floating = Image.fromarray(np.full((9, 9), 0.5, dtype=np.float32))
    assert (FIT.pixels(open_image(saved(tmp_path, floating, "float.tif"))) == 128).all()
    for low, high in (
        (0, 4095),
        (-3, 5),
        (1000, 1001),
    ):  # what a device measured is shown from its least to its largest
        measured = Image.fromarray(np.linspace(low, high, 81, dtype=np.float32).reshape(9, 9))
        shown = np.asarray(open_image(saved(tmp_path, measured, "measured.tif")))
        np.testing.assert_allclose(shown.reshape(-1), np.linspace(0, 255, 81), atol=0.51)
    holes = Image.fromarray(np.array([[0.2, 0.5], [1.0, np.inf]], dtype=np.float32))
    assert np.asarray(open_image(saved(tmp_path, holes, "holes.tif"))).tolist() == [[51, 128], [255, 255]]


def test_what_is_transparent_shows_white(tmp_path: Path) -> None:
    glass = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    half = Image.new("RGBA", (16, 16), (0, 0, 0, 128))
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([0, 0, 0] * 256)
    grey = Image.new("LA", (16, 16), (0, 0))
    for image, options, expected in (
        (glass, {}, 255),
        (half, {}, 127),
        (palette, {"transparency": 0}, 255),
        (grey, {}, 255),
    ):
        found = FIT.pixels(open_image(saved(tmp_path, image, "glass.png", **options)))
        assert (found.int() - expected).abs().max() <= 1


def test_a_camera_that_was_turned(tmp_path: Path) -> None:
    """Orientation 6: the camera's left is the picture's top."""
    values = np.zeros((16, 16, 3), np.uint8)
    values[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    found = FIT.pixels(open_image(saved(tmp_path, Image.fromarray(values), "turned.jpg", exif=exif, quality=95)))
    assert found[:, :3].float().mean() > 245
    assert found[:, 5:].float().mean() < 10


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (3, 2), (8, 8), (500, 8), (33, 47)])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_any_size_becomes_the_models(size: tuple[int, int], fit: str) -> None:
    settings = Preprocess(8, 3, (0.5,) * 3, (0.5,) * 3, fit=fit)
    out = settings.encode([Image.new("RGB", size, (10, 200, 30))])
    assert out.shape == (1, 3, 8, 8)
    assert (settings.denormalise(out)[0].mean((1, 2)) - torch.tensor([10.0, 200.0, 30.0])).abs().max() < 0.01


def test_the_middle_is_cut_out_as_torchvision_does() -> None:
    from torchvision.transforms.v2 import functional as tv

    random = np.random.default_rng(0).integers(0, 255, (40, 61, 3), dtype=np.uint8)
    smooth = Image.fromarray(random).resize((122, 80), Image.Resampling.BICUBIC)
    settings = Preprocess(32, 3, (0.5,) * 3, (0.5,) * 3, shorter=40, interpolation="bilinear")
    expected = tv.pil_to_tensor(tv.center_crop(tv.resize(smooth, [40]), [32, 32]))
    assert (settings.pixels(smooth).int() - expected.int()).abs().float().mean() < 1.5


def test_numbers_there_and_back() -> None:
    pixels = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    normal = FIT.normalise(pixels)
    for channel, (mean, std) in enumerate(zip(FIT.mean, FIT.std, strict=True)):
        expected = (pixels[:, channel].float() / 255 - mean) / std
        torch.testing.assert_close(normal[:, channel], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(FIT.denormalise(normal), pixels.float(), rtol=0, atol=1e-3)


def test_settings_and_back(tmp_path: Path) -> None:
    path = tmp_path / Preprocess.filename
    FIT.save(tmp_path)
    assert Preprocess.load(path) == FIT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "8"}, "whole numbers"),
        ({"sise": 8}, "unknown setting 'sise'; did you mean 'size'"),
        ({"channels": 4}, r"channels \(4\) must be 1"),
        ({"mean": [0.5]}, "mean and std need a number for each of 3"),
        ({"std": [0.0, 1, 1]}, "above 0"),
        ({"fit": "pad"}, "'pad'"),
        ({"shorter": 4}, "no less"),
        ({"std": None}, "not settings of images"),
    ],
)
def test_settings_that_are_none(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / Preprocess.filename
    path.write_text(json.dumps(json.loads(FIT.content()) | change))
    with pytest.raises(UserError, match=message):
        Preprocess.load(path)
    path.write_text("[1]")
    with pytest.raises(UserError, match="expected settings by name"):
        Preprocess.load(path)


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    """Two of 640 x 424 pixels."""
    from sklearn.datasets import load_sample_images

    return [picture[:424] for picture in load_sample_images().images]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
@pytest.mark.parametrize(
    ("size", "shorter", "decoded"), [(13, None, 80), (10, 13, 80), (26, None, 160), (53, None, 320)]
)
def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same(
    photographs: list[np.ndarray], size: int, shorter: int | None, decoded: int, fit: str, interpolation: str
) -> None:
    preprocess = Preprocess(size, 3, (0.5,) * 3, (0.5,) * 3, shorter=shorter, fit=fit, interpolation=interpolation)
    for values in photographs:
        raw = jpeg(values, quality=90)
        whole, small = decode(raw, "x"), decode(raw, "x", preprocess.side)
        assert (whole.width, small.width) == (640, decoded)
        off = (preprocess.pixels(whole).float() - preprocess.pixels(small).float()).abs()
        assert off.mean() < 0.5
        assert off.max() < 10


def test_what_is_not_many_times_larger_is_decoded_whole(photographs: list[np.ndarray]) -> None:
    values = photographs[0]
    for kept, side in ((values, 54), (values[:423], 13), (values[:, :639], 13)):  # no multiples: half a pixel too many
        raw = jpeg(kept)
        assert decode(raw, "x", side).tobytes() == decode(raw, "x").tobytes()
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    assert decode(out.getvalue(), "x", 2).size == (640, 424)
    out, turned = io.BytesIO(), Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(values).save(out, "JPEG", exif=turned)
    assert decode(out.getvalue(), "x", 13).size == (53, 80)
    with pytest.raises(UserError, match="not a whole image"):
        decode(jpeg(values)[:9000], "x", 13)


def test_a_set_is_decoded_for_the_size_that_it_is_held_at(photographs: list[np.ndarray]) -> None:
    raw = [jpeg(values) for values in photographs]
    fit = Preprocess(13, 3, (0.5,) * 3, (0.5,) * 3)
    held = Decoding(Pictures([0, 1], raw.__getitem__, str, ""), fit)
    images, aspects, _ = held.take(torch.tensor([1, 0]))
    assert torch.equal(images[1], fit.pixels(decode(raw[0], "x", 13)))
    assert not torch.equal(images[1], fit.pixels(decode(raw[0], "x")))
    assert aspects.tolist() == pytest.approx([640 / 424] * 2)
