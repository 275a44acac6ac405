"""Where a classifier looks: attention of each head, and what all layers make of it, over the picture.

Axes: l layers, b images, h heads, p patches, n tokens, v classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from zoo.core.pool import First, LearnedQuery, Mean, Pooler
from zoo.core.record import record
from zoo.core.rollout import rollout, weighted, weighted_rollout
from zoo.errors import UserError, nearest
from zoo.vision.images import Preprocess, open_image
from zoo.vision.model import ViT


@dataclass(frozen=True, eq=False)
class Looks:
    """Over the patches of each image, in reading order: how much of each the class is read from."""

    heads: Tensor  # "l b h p": from what the classifier's head reads (the class token, all patches) to each patch
    rollout: Tensor  # "b p"
    weighted: Tensor  # "b p": for the class that was asked about
    probabilities: Tensor  # "b v"
    classes: Tensor  # "b": the class asked about
    error: float  # how far weights x values lie from what the model's own kernel gave

    @property
    def mean(self) -> Tensor:
        """The mean of the heads, "l b p"."""
        return self.heads.mean(2)


def look(model: ViT, images: Tensor, classes: Tensor | None = None) -> Looks:
    """Look at images "b c H W" for `classes` ("b"; by default the likeliest of each).

    UserError for a model without attention, or with a pool that cannot be followed.
    """
    images = images.detach().requires_grad_()
    with (
        torch.enable_grad(),
        record(model, gradients=True) as maps,
        record(model, which="cross", gradients=True) as ends,
    ):
        scores = model(images)
        chosen = scores.argmax(-1) if classes is None else classes
        torch.autograd.grad(scores.gather(-1, chosen.unsqueeze(-1)).sum(), images)
    if not maps:
        mixer = type(model.settings["stack"].mixer).__name__
        raise UserError(f"this model's layers mix by {mixer}, not by attention: there are no maps of where it looks")
    prefix = model.prefixes
    reads = _reads(model, maps[-1].weights, [end.weights.mean(1) for end in ends])
    gained = _reads(model, maps[-1].weights, [weighted(end) for end in ends])
    heads = torch.stack([torch.einsum("b n, b h n m -> b h m", reads, found.weights) for found in maps])
    return Looks(
        heads=heads[..., prefix:],
        rollout=torch.einsum("b n, b n m -> b m", reads, rollout(maps))[:, prefix:],
        weighted=torch.einsum("b n, b n m -> b m", gained, weighted_rollout(maps))[:, prefix:],
        probabilities=scores.detach().softmax(-1),
        classes=chosen,
        error=max(found.error for found in [*maps, *ends]),
    )


def _reads(model: ViT, like: Tensor, ends: Sequence[Tensor]) -> Tensor:
    """How much the classifier's heads read of each token behind the last layer, "b n"."""
    batch, tokens = len(like), like.shape[-1]
    out = like.new_zeros(batch, tokens)
    match model.settings["pool"]:
        case First() | Pooler():
            out[:, : len(model.heads)] = 1 / len(model.heads)
        case Mean():
            out[:, model.prefixes :] = 1 / (tokens - model.prefixes)
        case LearnedQuery():
            out[:, model.prefixes :] = ends[0][:, 0]
        case other:
            raise UserError(
                f"this model pools by {type(other).__name__}: where it looks is known for "
                "First, Pooler, Mean and LearnedQuery"
            )
    return out


def draw(
    model: ViT,
    preprocess: Preprocess,
    file: str,
    names: Sequence[str],
    out: Path,
    *,
    about: str | None = None,
    layer: int = -1,
) -> str:
    """Draw where the model looks in an image file; what it takes it for, in a line. UserError for an unknown class."""
    if about is not None and about not in names:
        raise UserError(f"unknown class {about!r}{nearest(about, list(names))}")
    device = next(model.parameters()).device
    images = preprocess.encode([open_image(file, preprocess.side)]).to(device)
    classes = None if about is None else torch.tensor([list(names).index(about)], device=device)
    looks = look(model, images, classes)
    overlay(preprocess.denormalise(images), looks, names, out, layer=layer)
    best = int(looks.probabilities[0].argmax())
    return (
        f"{names[best]} {float(looks.probabilities[0, best]):.3f}\t{file}\tmaps within {looks.error:.1e} of the kernel"
    )


def overlay(pixels: Tensor, looks: Looks, names: Sequence[str], path: Path, *, layer: int = -1) -> None:
    """A picture of one image's looks: each head of a layer, their mean, both rollouts, each over the image.

    `pixels`: "1 c H W" from 0 to 255, what the model saw. The ending of `path` says the format.
    """
    from matplotlib.figure import Figure

    layers, _, heads, places = looks.heads.shape
    if not -layers <= layer < layers:
        raise UserError(f"layer {layer} does not exist: the model has {layers}")
    side = round(places**0.5)
    chosen = int(looks.classes[0])
    panels = [(f"head {i + 1}", looks.heads[layer, 0, i]) for i in range(heads)]
    panels += [("mean of heads", looks.mean[layer, 0]), ("rollout", looks.rollout[0])]
    panels += [(f"gradient-weighted: {names[chosen]}", looks.weighted[0])]
    columns = min(len(panels) + 1, 4)
    rows = -(-(len(panels) + 1) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.9 * rows), layout="constrained")
    if path.suffix.removeprefix(".") not in figure.canvas.get_supported_filetypes():
        raise UserError(
            f"{path}: cannot draw {path.suffix or 'a file without ending'!r}; .png, .svg and .pdf are known"
        )
    picture = rearrange(pixels[0], "c H W -> H W c").round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    size = picture.shape[0]
    said = f"{names[int(looks.probabilities[0].argmax())]} {float(looks.probabilities[0].max()):.0%}"
    every = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (name, values) in zip(every, [(said, None), *panels], strict=False):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=(0, size, size, 0))
        if values is not None:
            heat = (values / values.max().clamp(min=1e-12)).reshape(side, side).cpu().numpy()
            axes.imshow(heat, cmap="inferno", alpha=0.6, vmin=0, vmax=1, extent=(0, size, size, 0))
        axes.set_title(name, fontsize=9)
    for axes in every:
        axes.set_axis_off()
    where = f"layer {layer + 1 if layer >= 0 else layers + layer + 1} of {layers}"
    figure.suptitle(f"{where}; each panel from 0 to its largest value", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
