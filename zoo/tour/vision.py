"""The tour's stop for images: scanned digits of 8 x 8 pixels, a third of them held out."""

import time
from collections.abc import Sequence

import torch

from zoo.core import Learned, Mean, Plain, StackConfig
from zoo.tour.draw import heat, raster, tiles
from zoo.tour.stop import Picture, Stop
from zoo.tour.training import train
from zoo.train.optimisers import Muon
from zoo.train.schedules import Cosine
from zoo.vision.augment import Augment, Mixup
from zoo.vision.data import Digits
from zoo.vision.lens import look
from zoo.vision.model import ViT
from zoo.vision.patches import ConvStem
from zoo.vision.task import Classification

STEPS = 900  # enough where the machine is quick


def run(seconds: float) -> Stop:
    """Train and score within `seconds`."""
    begin = time.perf_counter()
    data = Digits(augment=Augment(rotate=10, zoom=0.1, crop=0.8, mix=Mixup(alpha=0.4, share=0.5)), batch=64)
    stack = StackConfig(dim=48, depth=2, heads=4, position=Learned(17), ffn=Plain("gelu", 96))
    torch.manual_seed(1)
    task = Classification(
        stack,
        ConvStem(2, 32),
        data.classes,
        data.image_size,
        data.channels,
        pool=Mean(),
        optimizer=Muon(lr=0.008, weight_decay=0.05),
        schedule=Cosine(warmup=50),
    )
    spent = time.perf_counter() - begin
    losses = train(task, data, name="vision", seconds=0.75 * seconds - spent, steps=STEPS, seed=1)
    held = data.held("test")
    images = data.preprocess.normalise(held.images)
    with torch.no_grad():
        made = torch.cat([task.network(part).argmax(-1) for part in images.split(128)])
    right = int((made == held.labels).sum())
    wrong_first = (made == held.labels).long().argsort(stable=True).tolist()
    return Stop(
        domain="vision",
        tokens="patches of 2 x 2 pixels",
        task="Scanned digits, 8 x 8, to their number",
        model="ViT behind a convolution, 2 layers, 48 wide",
        parameters=sum(p.numel() for p in task.network.parameters()),
        metric="% right of a held-out third",
        score=100 * right / len(made),
        best=100.0,
        seconds=time.perf_counter() - begin,
        steps=len(losses),
        stacks={"encoder": stack.to_plain()},
        emblem=tiles(looks(task.network, data, made, range(4)), columns=2),
        pictures=(
            confusion(held.labels, made, data.names),
            Picture(
                svg="".join(looks(task.network, data, made, wrong_first[:8])),
                caption="What each digit was read from, from the least of its patches to the most: attention of all "
                "layers, weighted by the gradient of what was read; the wrong ones first.",
            ),
        ),
        unit="nats per image",
        losses=tuple(losses),
    )


def confusion(right: torch.Tensor, made: torch.Tensor, names: tuple[str, ...]) -> Picture:
    """How often each digit was taken for each, as a share of its row."""
    count = len(names)
    table = torch.bincount(right * count + made, minlength=count**2).view(count, count)
    shares = table / table.sum(-1, keepdim=True).clamp(min=1)
    wrong = int(table.sum() - table.diagonal().sum())
    return Picture(
        svg=heat(names, names, shares.tolist()),
        caption=f"Rows: what stands there; columns: what the model says. {wrong} of {int(table.sum())} are wrong.",
    )


def looks(model: ViT, data: Digits, made: torch.Tensor, rows: Sequence[int]) -> list[str]:
    """Held-out digits, each drawn with what it was read from over it."""
    held, side = data.held("test"), model.grid
    found = look(model, data.preprocess.normalise(held.images[list(rows)]))
    drawn = []
    for row, weights in zip(rows, found.weighted, strict=True):
        least, most = weights.aminmax()  # a patch of sixteen never has much: what differs is shown
        drawn.append(
            raster(
                (held.images[row, 0] / 255).tolist(),
                ((weights - least) / (most - least).clamp(min=1e-12)).view(side, side).tolist(),
                f"{data.names[int(held.labels[row])]}, read as {data.names[int(made[row])]}",
            )
        )
    return drawn
