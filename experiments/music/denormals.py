"""What numbers below 1.2e-38 cost a step of training: python experiments/music/denormals.py RUN

RUN: a trained run of configs/music/jsb.yaml. Forward and backward of one batch, with such numbers computed and taken
for zero, in turn; medians of 7 rounds. Writes results/denormals.json.
"""

import statistics
import sys
import time

import torch

import zoo
from zoo.music.data import JSBChorales
from zoo.provenance import keep
from zoo.train.losses import token_loss

ROUNDS = 7


def main(run: str) -> None:
    begin = time.time()
    torch.set_num_threads(1)
    model = zoo.load(run, checkpoint="last").model.train()
    batch = next(iter(JSBChorales(length=512, tokens_per_batch=2048).train_dataloader()))
    seconds: dict[str, list[float]] = {"computed": [], "zero": []}
    for _ in range(ROUNDS):
        for name, times in seconds.items():
            torch.set_flush_denormal(name == "zero")
            start = time.perf_counter()
            states, layout = model.hidden(batch.ids, batch.keep)
            token_loss(states, model.head.weight, layout.take(batch.labels, batch.keep)).loss.backward()
            times.append(time.perf_counter() - start)
            model.zero_grad()
    medians = {name: round(statistics.median(times), 4) for name, times in seconds.items()}
    parameters = sum(p.numel() for p in model.parameters())
    found = {"parameters": parameters, "tokens": int(batch.keep.sum()), "seconds": medians}
    keep(__file__, "denormals", begin, found, given="RUN")
    print(found)


if __name__ == "__main__":
    main(sys.argv[1])
