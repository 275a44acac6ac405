"""Are samples whole pieces, and do they make sense: python experiments/music/samples.py [RUN] [--count 1000]

Of a run of chorales on the 16th grid and of the same network with random weights: `--count` pieces of 4 bars each are
held against the grammar, read back from tokens and from MIDI; then 60 of 16 bars are measured (zoo/music/sense.py)
beside the test set. Random weights of the two other views are sampled too. Writes results/samples.json.

Without RUN the real pieces alone are measured: results/pieces.json.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import zoo
from zoo.core.decode import Sampling
from zoo.music import sense
from zoo.music.chorale import Chorale, sounding
from zoo.music.compose import write
from zoo.music.data import JSBChorales
from zoo.music.model import MusicLM
from zoo.music.tokens import Events, Frames, View
from zoo.progress import bar
from zoo.provenance import keep
from zoo.train.data import Split

BATCH = 250


def whole(view: View, tokens: list[int]) -> dict[str, bool]:
    """What holds of a sample."""
    piece = view.decode(tokens)
    return {
        "grammar": view.grammar().holds(tokens) and tokens[-1] == view.end,
        "tokens": view.encode(piece) == tokens,
        "midi": view.encode(view.piece(view.score(piece))) == tokens,
    }


def sampled(model: MusicLM, view: View, count: int, bars: int | None, name: str, **more: Any) -> list[list[int]]:
    rows = []
    for begin in bar(range(0, count, BATCH), name, "batch"):
        sampling = Sampling(temperature=1.0, seed=begin)
        rows += write(model, view, count=min(BATCH, count - begin), bars=bars, sampling=sampling, **more)
    return rows


def held(view: View, rows: list[list[int]]) -> dict[str, Any]:
    every = [whole(view, tokens) for tokens in rows]
    counts = {name: sum(one[name] for one in every) for name in every[0]}
    return {"samples": len(rows), "tokens": sum(map(len, rows)), "hold": counts}


def pieces(split: Split) -> list[np.ndarray]:
    return [sounding(piece) for piece in JSBChorales("16th").pieces(split)]


def real() -> dict[str, Any]:
    """What the measures say of Bach's own."""
    sets: dict[str, Split] = {"test set": "test", "training set": "train"}
    reference = sense.chords(pieces("test"))
    return {name: sense.measure(pieces(split), Chorale().bar, reference) for name, split in sets.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=1000)
    given = parser.parse_args()
    begin = time.time()
    measured = real()
    if given.run is None:
        keep(__file__, "pieces", begin, {"sense": measured})
        print(json.dumps(measured, indent=1))
        return
    loaded = zoo.load(given.run)
    model, view = loaded.model, loaded.tokenizer
    torch.manual_seed(0)
    random = MusicLM.from_plain(model.to_plain()).eval()
    valid, kinds = {}, {"trained": model, "random": random}
    for name, net in kinds.items():
        valid[f"chorales, {name} weights"] = held(view, sampled(net, view, given.count, 4, name))
    for other in (Frames(), Events()):
        net = MusicLM(model.stack.config, other.vocab_size, end=other.end).eval()
        name = type(other).__name__.lower()
        valid[f"{name}, random weights"] = held(other, sampled(net, other, given.count, None, name, length=128))
    for name, net in kinds.items():
        drawn = [sounding(view.decode(tokens)) for tokens in sampled(net, view, 60, 16, f"{name}, 16 bars")]
        measured[name] = sense.measure(drawn, view.bar, sense.chords(pieces("test")))
    kept = {
        "run": json.loads((given.run / "run.json").read_text())["command"],
        "valid": valid,
        "sense": measured,
    }
    keep(__file__, "samples", begin, kept, given=f"{given.run.name} --count {given.count}")
    print(json.dumps({"valid": valid, "sense": measured}, indent=1))


if __name__ == "__main__":
    main()
