"""nanoGPT's recipe for a CPU beside `zoo fit`: python experiments/shakespeare/beside.py [SEEDS]

For each seed in turn, on one thread: `zoo fit --config configs/text/shakespeare.yaml`, the same by Muon with half the
steps, and a decoder written by hand (zoo/bench/peers.py) in a plain loop, by what nanoGPT's README and train.py set:
2,000 steps of 12 rows of 64 characters, AdamW with betas 0.9 and 0.99, a rate of 1e-3 that warms up for 100 steps and
falls by a cosine to 1e-4, decay 0.1, gradients clipped at 1, no dropout. All are of 0.8 M parameters, take windows of
the same nine tenths of the text, validate on all of the last tenth after every 500 steps, and are timed with that;
starting Python and reading the text is in no time. Writes results/beside.json.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.bench.peers import ByHand
from zoo.data import public
from zoo.provenance import keep

CONFIG = "configs/text/shakespeare.yaml"
STEPS, VALIDATE, ROWS, LENGTH = 2000, 500, 12, 64


def ours(seed: int, *more: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        given = ["--config", CONFIG, "--run", str(run), "--seed_everything", str(seed)]
        command = [sys.executable, "-m", "zoo", "fit", *given, *more, "--trainer.enable_progress_bar", "false"]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        subprocess.run([sys.executable, "-m", "zoo", "test", str(run)], check=True, stdout=subprocess.DEVNULL)
        about, test = (json.loads((run / name).read_text()) for name in ("run.json", "test.json"))
    return {
        "nll": test["nll"],
        "seconds": sum(leg["seconds"] for leg in about["legs"]),
        "parameters": about["parameters"],
    }


def muon(seed: int) -> dict[str, float]:
    settings = {"model.optimizer": "Muon", "model.optimizer.lr": "0.01", "trainer.max_steps": str(STEPS // 2)}
    return ours(seed, *(f"--{name}={value}" for name, value in settings.items()))


def by_hand(seed: int) -> dict[str, float]:
    text = (public.fetch("tinyshakespeare") / "input.txt").read_text()
    letters = sorted(set(text))
    ids = torch.tensor([letters.index(letter) for letter in text])
    train, held_out = ids[: int(0.9 * len(ids))], ids[int(0.9 * len(ids)) :]
    torch.manual_seed(seed)
    model = ByHand(len(letters), LENGTH, 128, 4, 4)
    begin = time.time()
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    nll = 0.0
    for step in range(STEPS):
        share = (step - 100) / (STEPS - 100)
        rate = 1e-3 * (step + 1) / 101 if step < 100 else 1e-4 + 0.5 * (1 + math.cos(math.pi * share)) * 9e-4
        for group in optimizer.param_groups:
            group["lr"] = rate
        places = torch.randint(len(train) - LENGTH, (ROWS,))
        windows = torch.stack([train[place : place + LENGTH + 1] for place in places.tolist()])
        loss = model(windows[:, :-1], windows[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % VALIDATE == 0:
            nll = held(model, held_out)
    return {
        "nll": nll,
        "seconds": round(time.time() - begin, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


@torch.no_grad()
def held(model: ByHand, ids: Tensor) -> float:
    """Nats per character over the held-out text, each character but the first once, in windows of LENGTH."""
    whole = (len(ids) - 1) // LENGTH * LENGTH
    read, right = ids[:whole].view(-1, LENGTH), ids[1 : whole + 1].view(-1, LENGTH)
    pairs = zip(read.split(128), right.split(128), strict=True)
    total = sum(float(model(rows, labels)) * labels.numel() for rows, labels in pairs)
    rest = (ids[whole:-1].unsqueeze(0), ids[whole + 1 :].unsqueeze(0))
    if rest[0].numel():
        total += float(model(*rest)) * rest[1].numel()
    return total / (len(ids) - 1)


def main() -> None:
    torch.set_num_threads(1)
    begin = time.time()
    trained = {
        f"nanoGPT-style, {STEPS:,} steps": by_hand,
        f"zoo, {STEPS:,} steps": ours,
        f"zoo by Muon, {STEPS // 2:,} steps": muon,
    }
    seeds = [int(seed) for seed in sys.argv[1:] or ("1", "2", "3")]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in trained}
    for seed in seeds:
        for name, train in trained.items():
            runs[name].append({"seed": seed, **train(seed)})
            print(name, runs[name][-1], file=sys.stderr)
    keep(__file__, "beside", begin, {"runs": runs}, seed=seeds[0], given=" ".join(sys.argv[1:]))


if __name__ == "__main__":
    main()
