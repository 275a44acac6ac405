"""DeiT (Touvron et al. 2021) as transformers stores it, with its second head and without. timm's: timm_vit.py."""

from typing import Any

from zoo.core.network import Network
from zoo.weights.families import Family, Given, Table
from zoo.weights.vit import body, encoder


def settings(given: Given, architecture: str) -> dict[str, Any]:
    network = encoder(given, prefix=2)
    # without its own head the distillation token is one more token that the patches may look at
    two = architecture == "DeiTForImageClassificationWithTeacher"
    return network | ({"distillation": True} if two else {"registers": 1})


def names(network: Network) -> Table:
    two = network.settings["distillation"]
    return body(network, "deit", "cls_token", "distillation_token") | {
        "heads.0": "cls_classifier" if two else "classifier",
        "heads.1": "distillation_classifier",
    }


FAMILY = Family(
    kinds={"DeiTForImageClassification": "ViT", "DeiTForImageClassificationWithTeacher": "ViT"},
    settings=settings,
    names=names,
    prefix="deit.",
    unused=(r"pooler\.dense\.(weight|bias)",),  # of other heads
    sizes={"image": "image_size"},
)
