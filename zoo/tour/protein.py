"""The tour's stop for proteins: contacts that were planted in a family of sequences, found again."""

import time

import torch

from zoo.core import Learned, Plain, StackConfig
from zoo.protein.data import Planted
from zoo.protein.planted import Found, look
from zoo.protein.potts import SEPARATION, Family
from zoo.protein.structures import best_pairs
from zoo.protein.task import PlantedContacts
from zoo.tour.draw import heat
from zoo.tour.stop import Example, Picture, Stop
from zoo.tour.training import train
from zoo.train.optimisers import Muon
from zoo.train.schedules import Cosine

LENGTH = 32
STEPS = 1500  # enough where the machine is quick


def run(seconds: float) -> Stop:
    """Train and score within `seconds`."""
    begin = time.perf_counter()
    data = Planted(length=LENGTH, train=30_000, val=100, test=100, tokens_per_batch=48 * (LENGTH + 2))
    # one layer is enough: attention finds the partner, the feed-forward knows what it asks for
    stack = StackConfig(dim=64, depth=1, heads=4, position=Learned(LENGTH + 2), ffn=Plain("gelu", 256))
    torch.manual_seed(1)
    task = PlantedContacts(
        stack,
        data.vocab_size,
        rate=0.2,
        optimizer=Muon(lr=0.01),
        schedule=Cosine(warmup=30),
    )
    data.train_dataloader()  # draws the family's sequences, which belongs to the time
    untrained = look(task.network.eval(), data.family)
    task.train()
    spent = time.perf_counter() - begin
    losses = train(task, data, name="protein", seconds=0.75 * seconds - spent, steps=STEPS, seed=1)
    found = look(task.network, data.family)
    shown = pictures(found, untrained, data.family)
    return Stop(
        domain="protein",
        tokens="residues",
        task=f"A family's {LENGTH} planted contacts, found from its sequences alone",
        model="masked language model, 1 layer, 64 wide",
        parameters=sum(p.numel() for p in task.network.parameters()),
        metric="% of the best L pairs touch",
        score=100 * found.jacobian,
        best=100.0,
        seconds=time.perf_counter() - begin,
        steps=len(losses),
        stacks={"encoder": stack.to_plain()},
        emblem=shown[0].svg,
        examples=tuple(examples(found, data.family)),
        pictures=shown,
        losses=tuple(losses),
    )


def examples(found: Found, family: Family, count: int = 5) -> list[Example]:
    """The pairs that the model is surest of."""
    touch = family.contacts()
    pairs = best_pairs(found.map, SEPARATION, count)
    return [
        Example(given=f"positions {a + 1} and {b + 1}", made="touch", right="touch" if touch[a, b] else "do not touch")
        for a, b in zip(*(ends.tolist() for ends in pairs), strict=True)
    ]


def pictures(found: Found, untrained: Found, family: Family) -> tuple[Picture, ...]:
    """The map of what was found beside that of what was planted."""
    labels = [str(place) if place == 1 or place % 4 == 0 else "" for place in range(1, family.length + 1)]
    best = found.map.clip(min=0) / max(float(found.map.max()), 1e-9)
    said = (
        f"Found: the categorical Jacobian of each pair of positions. {100 * found.jacobian:.0f} % of its best "
        f"{family.length} pairs were planted; by the best attention head {100 * found.head:.0f} %, before training "
        f"{100 * untrained.jacobian:.0f} %, by chance {100 * found.chance:.0f} %. Learned and planted energies of the "
        f"contacts correlate with {found.energies:.2f}."
    )
    return (
        Picture(svg=heat(labels, labels, best.tolist(), cell=9), caption=said),
        Picture(
            svg=heat(labels, labels, family.contacts().astype(float).tolist(), cell=9),
            caption="Planted: each position touches two others, as on a ring.",
        ),
    )
