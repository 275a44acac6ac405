"""Peak memory of relative attention beside rotary's: python experiments/music/relative.py

One training step of the models of `zoo bench music`, two sequences: bytes of tensors above what stood before. Beside
them what a tensor of all pairs and channels (n x n x e, one layer) would take. Writes results/relative-memory.json.
"""

import time

import torch

from zoo.bench import harness, music
from zoo.provenance import keep


def main() -> None:
    begin, cpu = time.time(), torch.device("cpu")
    rows = {}
    for length in (512, 1024, 2048):
        found = {}
        for name, make in music.training(length, torch.float32, cpu).items():
            if name.startswith("zoo"):
                step = make()
                step()
                found[name] = harness.peak_bytes(step, cpu)
        found["n x n x e, one layer"] = 4 * 2 * music.HEADS * length**2 * (music.DIM // music.HEADS)
        rows[length] = found
        print(length, {name: f"{peak / 2**20:.0f} MiB" for name, peak in found.items()})
    kept = {
        "peak_bytes": rows,
    }
    keep(__file__, "relative-memory", begin, kept)


if __name__ == "__main__":
    main()
