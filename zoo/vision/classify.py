"""Pictures in, the probabilities of their classes out: files, folders and globs, in batches."""

import glob
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from zoo.data.files import files_under, say_others
from zoo.errors import UserError
from zoo.vision.images import ENDINGS, Preprocess, open_image
from zoo.vision.model import ViT


def files(inputs: Sequence[str]) -> list[str]:
    """The image files that are meant: a folder's (and those of its folders), a glob's, or the file itself.

    UserError names an input that means none.
    """
    found: list[str] = []
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            others: Counter[str] = Counter()
            inside = [str(p) for p in files_under(path, ENDINGS, others)]
            if not inside:
                raise UserError(f"{given}: no image in this folder ({', '.join(sorted(ENDINGS))})")
            say_others(given, others, "images")
            found += inside
        elif not path.exists() and glob.has_magic(given):
            matching = sorted(glob.glob(given, recursive=True))
            if not matching:
                raise UserError(f"{given}: nothing matches")
            found += files(matching)
        else:
            found.append(given)
    return found


@torch.no_grad()
def classify(
    model: ViT, preprocess: Preprocess, paths: Sequence[str], *, batch: int = 32
) -> Iterator[list[float] | None]:
    """The probability of each class, for each file; None for one that cannot be read, which stderr names.

    UserError where it is the only one.
    """
    device = next(model.parameters()).device
    for begin in range(0, len(paths), batch):
        pixels: dict[int, torch.Tensor] = {}
        some = paths[begin : begin + batch]
        for place, path in enumerate(some):
            try:
                pixels[place] = preprocess.pixels(open_image(path, preprocess.side))
            except UserError as error:
                if len(paths) == 1:
                    raise
                print(error, file=sys.stderr)
        shares: list[list[float]] = []
        if pixels:
            images = preprocess.normalise(torch.stack([*pixels.values()]).to(device))
            shares = model(images).float().softmax(-1).tolist()
        made = dict(zip(pixels, shares, strict=True))
        yield from (made.get(place) for place in range(len(some)))
