"""timm's ViT by our recipe: `python experiments/vision/timm_peer.py fit --config FILE --model.compile false ...`.

Data, augmentation, schedule and averaging are those of the configuration. Only the network is timm's: as wide, as deep,
with as many heads, and its own patches in place of a stem. Muon turns the matrices of our stacks, so give AdamW.
"""

import sys
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer

import zoo.vision.task
from zoo.cli import main
from zoo.core import StackConfig
from zoo.vision.patches import Patches


class Timm(VisionTransformer):
    """Built from our settings, with the two methods by which our task calls a classifier."""

    def __init__(
        self, stack: StackConfig, classes: int, image_size: int, patches: Patches, *, channels: int, pool: str, **_: Any
    ):
        super().__init__(
            image_size,
            patches.size,
            channels,
            classes,
            global_pool="avg" if pool == "mean" else "token",
            embed_dim=stack.dim,
            depth=stack.depth,
            num_heads=stack.heads,
            drop_path_rate=stack.drop_path,
        )

    def scores(self, images: torch.Tensor) -> torch.Tensor:
        return self(images).unsqueeze(0)

    def to_plain(self) -> dict[str, Any]:
        return {"library": "timm", "dim": self.embed_dim, "depth": len(self.blocks)}


if __name__ == "__main__":
    zoo.vision.task.ViT = Timm
    sys.exit(main(sys.argv[1:]))
