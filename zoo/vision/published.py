"""How published image models want their pictures: what transformers and timm write beside the weights."""

import json
import math
from pathlib import Path
from typing import Any, Literal

from zoo.data.files import InFolder
from zoo.errors import UserError
from zoo.vision.images import Preprocess

WAYS: dict[int, Literal["bilinear", "bicubic"]] = {
    2: "bilinear",
    3: "bicubic",
}  # Pillow's numbers, which transformers writes
USUAL = 224  # pixels, where nothing is said


class PublishedPreprocess(InFolder):
    """Reads a published folder, or one of zoo's that such a folder was imported to."""

    filename = "config.json"  # what every such folder has

    @staticmethod
    def load(path: str | Path) -> Preprocess | None:
        """The preprocessing at the size of the model; None where the folder says none, or one that zoo has not.

        UserError where what it says makes no sense.
        """
        path = Path(path)
        own = json.loads(path.read_text(encoding="utf-8"))
        config = own["origin"]["config"] if "origin" in own else own
        beside = path.parent / "preprocessor_config.json"
        try:
            if "pretrained_cfg" in config:
                return _timm(config)
            return _transformers(config, json.loads(beside.read_text(encoding="utf-8"))) if beside.is_file() else None
        except (ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
            raise UserError(f"{beside if beside.is_file() else path}: not settings of images ({error})") from None


def preprocess_of(folder: Path) -> Preprocess | None:
    """How a model's folder wants its pictures, a run's or a published one; None where it does not say."""
    for makes in (Preprocess, PublishedPreprocess):
        if (path := makes.find(folder)) is not None:
            return makes.load(path)
    return None


def publish_size(folder: Path, size: int) -> None:
    """Have a published folder's preprocessor_config.json, where there is one, make pictures of `size` pixels, of which
    as much is cut away."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return
    said = json.loads(path.read_text(encoding="utf-8"))
    if (sides := _sides(said)) is None:
        return
    _, resized, taken = sides
    new = {"size": _as(said.get("size", USUAL), round(resized * size / taken))}
    if said.get("do_center_crop"):
        new["crop_size"] = _as(said["crop_size"], size)
    if taken != size:
        path.write_text(json.dumps(said | new, indent=2) + "\n", encoding="utf-8")


def _timm(config: dict[str, Any]) -> Preprocess | None:
    said, args = config["pretrained_cfg"], config.get("model_args", {})
    channels, size, _ = said["input_size"]
    size = args.get("img_size", size)
    size = size[0] if isinstance(size, list) else size
    fit = {"center": "crop", "squash": "stretch"}.get(said.get("crop_mode", "center"))
    if fit is None or said.get("interpolation", "bicubic") not in WAYS.values():
        return None
    shorter = math.floor(size / said.get("crop_pct", 0.875))
    return Preprocess(
        size=size,
        channels=args.get("in_chans", channels),
        mean=tuple(said["mean"]),
        std=tuple(said["std"]),
        shorter=shorter if fit == "crop" or shorter > size else None,
        fit=fit,
        interpolation=said.get("interpolation", "bicubic"),
    )


def _transformers(config: dict[str, Any], said: dict[str, Any]) -> Preprocess | None:
    usual = said.get("do_resize", True) and said.get("do_rescale", True) and said.get("do_normalize", True)
    if not usual or (sides := _sides(said)) is None:
        return None
    if said.get("resample", 2) not in WAYS or not math.isclose(said.get("rescale_factor", 1 / 255), 1 / 255):
        return None
    fit, resized, taken = sides
    as_said = Preprocess(
        size=taken,
        channels=config.get("num_channels", 3),
        mean=tuple(said["image_mean"]),
        std=tuple(said["image_std"]),
        shorter=resized if resized > taken else None,
        fit=fit,
        interpolation=WAYS[said.get("resample", 2)],
    )
    return as_said.at(config.get("image_size", USUAL))


def _sides(said: dict[str, Any]) -> tuple[Literal["crop", "stretch"], int, int] | None:
    """What becomes how many pixels, and how many are cut out of the middle; None for what zoo has not.

    Where an odd number of pixels is cut away, transformers begins at the lesser half, and zoo, as torchvision and timm
    do, at the nearest even number: a pixel beside it at most.
    """
    size, cut = said.get("size", USUAL), said.get("do_center_crop")
    stretched = _square(size)
    shorter = size["shortest_edge"] if isinstance(size, dict) and set(size) == {"shortest_edge"} and cut else None
    resized = stretched or shorter
    taken = _square(said.get("crop_size")) if cut else resized
    if not resized or not taken or taken > resized:
        return None
    return "stretch" if stretched else "crop", resized, taken


def _square(size: Any) -> int | None:
    """The side of a square as transformers writes it: a number, or height and width."""
    if isinstance(size, dict):
        size = size.get("height") if size.get("height") == size.get("width") else None
    return size if isinstance(size, int) else None


def _as(size: Any, pixels: int) -> Any:
    """So many pixels, written in the same form."""
    return dict.fromkeys(size, pixels) if isinstance(size, dict) else pixels
