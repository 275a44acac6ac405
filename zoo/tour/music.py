"""The tour's stop for music: four-part harmony written by a rule, learned, and written anew to be heard."""

import time

import torch

from zoo.core import Plain, Rotary, StackConfig
from zoo.core.decode import Sampling
from zoo.music.compose import write
from zoo.music.data import RuleHarmony
from zoo.music.synth import render, wav_bytes
from zoo.music.task import Composing
from zoo.tour.draw import bars
from zoo.tour.stop import Picture, Sound, Stop
from zoo.tour.training import train
from zoo.train.optimisers import Muon
from zoo.train.schedules import Cosine

STEPS = 600  # enough where the machine is quick
CHORDS = 16


def run(seconds: float) -> Stop:
    """Train, score and write a piece within `seconds`."""
    begin = time.perf_counter()
    data = RuleHarmony(chords=CHORDS, train=3000, val=1, test=60, tokens_per_batch=2048)
    stack = StackConfig(dim=64, depth=2, heads=2, causal=True, position=Rotary(), ffn=Plain("gelu", 256))
    torch.manual_seed(1)
    task = Composing(stack, data.vocab_size, optimizer=Muon(lr=0.02), schedule=Cosine(warmup=20))
    spent = time.perf_counter() - begin
    losses = train(task, data, name="music", seconds=0.8 * seconds - spent, steps=STEPS, seed=1)
    with torch.no_grad():
        parts = [task.loss(batch) for batch in data.test_dataloader()]
    score = sum(float(part.nll) for part in parts) / sum(int(part.tokens) for part in parts)
    (tokens,) = write(task.network, data.view, bars=CHORDS // 4, sampling=Sampling(seed=1))
    heard = data.view.heard(data.view.decode(tokens))
    roll = bars([(note.begin, note.begin + note.length, note.pitch) for note in heard], "seconds")
    return Stop(
        domain="music",
        tokens="a voice's note, or its going on",
        task="Four-part harmony in any key, voice by voice",
        model="causal, 2 layers, 64 wide, rotary",
        parameters=sum(p.numel() for p in task.network.parameters()),
        metric="nats per token",
        score=score,
        best=data.best("test"),
        digits=3,
        seconds=time.perf_counter() - begin,
        steps=len(losses),
        stacks={"decoder": stack.to_plain()},
        emblem=roll,
        pictures=(
            Picture(
                svg=roll,
                caption=f"{CHORDS // 4} bars that the model wrote: each box is a note, higher ones above.",
            ),
        ),
        sounds=(
            Sound(
                wav=wav_bytes(render(heard)),
                caption="The same piece. The rule itself is left with the entropy above as best possible: how many "
                "nats its own free choices take.",
            ),
        ),
        losses=tuple(losses),
    )
