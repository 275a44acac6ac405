"""How published image models want their pictures: what transformers and timm write beside the weights."""

import json
import math
from pathlib import Path
from typing import Any

from zoo.data.files import InFolder
from zoo.errors import UserError
from zoo.vision.images import Preprocess

WAYS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, which transformers writes


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
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{beside if beside.is_file() else path}: not settings of images ({error})") from None


def preprocess_of(folder: Path) -> Preprocess | None:
    """How a model's folder wants its pictures, a run's or a published one; None where it does not say."""
    for makes in (Preprocess, PublishedPreprocess):
        if (path := makes.find(folder)) is not None:
            return makes.load(path)
    return None


def publish_size(folder: Path, size: int) -> None:
    """Have a published folder's preprocessor_config.json, where there is one, stretch pictures to `size` pixels."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return
    said = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(said.get("size"), int | dict):
        both = size if isinstance(said["size"], int) else {"height": size, "width": size}
        if said["size"] != both:
            path.write_text(json.dumps(said | {"size": both}, indent=2) + "\n", encoding="utf-8")


def _timm(config: dict[str, Any]) -> Preprocess | None:
    said, args = config["pretrained_cfg"], config.get("model_args", {})
    channels, size, _ = said["input_size"]
    size = args.get("img_size", size)
    size = size[0] if isinstance(size, list) else size
    fit = {"center": "crop", "squash": "stretch"}.get(said.get("crop_mode", "center"))
    if fit is None or said.get("interpolation", "bicubic") not in WAYS.values():
        return None
    return Preprocess(
        size=size,
        channels=args.get("in_chans", channels),
        mean=tuple(said["mean"]),
        std=tuple(said["std"]),
        shorter=math.floor(size / said.get("crop_pct", 0.875)) if fit == "crop" else None,
        fit=fit,
        interpolation=said.get("interpolation", "bicubic"),
    )


def _transformers(config: dict[str, Any], said: dict[str, Any]) -> Preprocess | None:
    sides = said.get("size") or {}
    sides = {"height": sides, "width": sides} if isinstance(sides, int) else sides
    usual = said.get("do_resize", True) and said.get("do_rescale", True) and said.get("do_normalize", True)
    # a picture that is stretched first and cut then is none of ours
    if not usual or said.get("do_center_crop") or sides.get("height") != sides.get("width"):
        return None
    if said.get("resample", 2) not in WAYS or not math.isclose(said.get("rescale_factor", 1 / 255), 1 / 255):
        return None
    return Preprocess(
        size=config.get("image_size", 224),
        channels=config.get("num_channels", 3),
        mean=tuple(said["image_mean"]),
        std=tuple(said["image_std"]),
        fit="stretch",
        interpolation=WAYS[said.get("resample", 2)],
    )
