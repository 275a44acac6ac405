"""The tour's stop for text: spelled-out numbers from English to Spanish."""

import time

import torch

from zoo.core import Plain, Sinusoidal, StackConfig
from zoo.text.attention import cross_attention
from zoo.text.data import Numbers
from zoo.text.task import Translation
from zoo.text.tokens import Tokenizer
from zoo.text.translate import translate
from zoo.tour.draw import heat
from zoo.tour.stop import Example, Picture, Stop
from zoo.tour.training import train
from zoo.train.optimisers import Muon
from zoo.train.schedules import Cosine

STEPS = 1000  # enough where the machine is quick


def run(seconds: float) -> Stop:
    """Train and score within `seconds`."""
    begin = time.perf_counter()
    data = Numbers(limit=1_000_000, train=60_000, val=100, test=500, tokens_per_batch=2048)
    encoder = StackConfig(dim=64, depth=2, heads=2, position=Sinusoidal(), ffn=Plain("relu", 256))
    decoder = encoder.replace(causal=True, cross=True)
    torch.manual_seed(1)
    task = Translation(
        encoder,
        decoder,
        data.vocab_size,
        optimizer=Muon(lr=0.01),
        schedule=Cosine(warmup=30),
    )
    spent = time.perf_counter() - begin
    losses = train(task, data, name="text", seconds=0.75 * seconds - spent, steps=STEPS, seed=1)
    sources, references = data.sources("test"), data.references("test")
    made = [rows[0][1] for rows in translate(task.network, data.tokenizer, sources, beams=1, length=64, batch=128)]
    drawn = attention(task, data.tokenizer, "two hundred thirty-one thousand")
    right = sum(a == b for a, b in zip(made, references, strict=True))
    shown = sorted(range(len(sources)), key=lambda i: (made[i] == references[i], i))[:1] + list(range(4))
    return Stop(
        domain="text",
        tokens="pieces of words",
        task="Numbers in words, English to Spanish",
        model="encoder-decoder, 2 + 2 layers, 64 wide",
        parameters=sum(p.numel() for p in task.network.parameters()),
        metric="% exact",
        score=100 * right / len(sources),
        best=100.0,
        seconds=time.perf_counter() - begin,
        steps=len(losses),
        stacks={"encoder": encoder.to_plain(), "decoder": decoder.to_plain()},
        emblem=drawn.svg,
        examples=tuple(Example(given=sources[i], made=made[i], right=references[i]) for i in dict.fromkeys(shown)),
        pictures=(drawn,),
        losses=tuple(losses),
    )


def attention(task: Translation, tokenizer: Tokenizer, text: str) -> Picture:
    """Where the last layer looks in the source as it writes, the mean of its heads."""
    looks = cross_attention(task.network, tokenizer, text, length=64)
    return Picture(
        svg=heat(looks.written, looks.read, looks.weights.tolist()),
        caption="Cross attention of the last layer: each row is a token as it is written, "
        "each column a token of the source.",
    )
