"""What a masked autoencoder paints: python experiments/vision/paint.py RUN FILE.png

Rows: what it sees, what it paints where it sees nothing, what was there. Images of CIFAR-10's test set (JPEG q75).
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from zoo.vision.data import Cifar10Jpeg
from zoo.vision.model import MaskedAutoencoder
from zoo.vision.patches import patchify, unpatchify
from zoo.weights.load import load


def paint(model: MaskedAutoencoder, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What is seen and what is painted (seen patches as they are), "b c H W" each; the unseen are zero in the first.

    Where the model paints patches less their mean, over their deviation, it is given back the true ones: what it shows
    is the pattern.
    """
    keep = model.draw(len(images), 0.75, torch.Generator().manual_seed(0)).unsqueeze(-1)
    there = patchify(images, model.size)
    with torch.no_grad():
        made = model(images, keep.squeeze(-1))
    if model.normalised:
        variance, mean = torch.var_mean(there, -1, keepdim=True)
        made = made * (variance + 1e-6).sqrt() + mean
    pictures = (torch.where(keep, there, torch.zeros_like(there)), torch.where(keep, there, made))
    seen, painted = (unpatchify(patches, model.size, model.channels) for patches in pictures)
    return seen, painted


def main(run: Path, out: Path, count: int = 10, scale: int = 3) -> None:
    loaded = load(run, checkpoint="last")
    images = loaded.tokenizer.normalise(Cifar10Jpeg().held("test").images[:count])
    rows = [*paint(loaded.model, images), images]
    pixels = [loaded.tokenizer.denormalise(row).clamp(0, 255).round().to(torch.uint8) for row in rows]
    strips = [np.concatenate(list(row.permute(0, 2, 3, 1).numpy()), 1) for row in pixels]
    whole = Image.fromarray(np.concatenate(strips, 0))
    out.parent.mkdir(parents=True, exist_ok=True)
    whole.resize((whole.width * scale, whole.height * scale), Image.Resampling.NEAREST).save(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
