"""One model heard in many keys: python experiments/music/keys.py RUN [--most 6] [--name keys]

A model that was trained on chorales in every key predicts each held-out token in its own key and in those up to
`--most` semitones away, and the mean of these probabilities is the prediction: an ensemble of one model. A key takes
part as long as all tokens so far stayed within its voices' ranges, which is known before the token; to one that would
leave them it gives nothing. So the mean is a distribution over tokens like any other, and its loss is in the same nats
per token.

Writes results/NAME.json: both losses on validation and test, of the piece's own key alone (what `zoo test` says) and of
the mean.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import zoo
from zoo.music.chorale import Chorale
from zoo.music.data import JSBChorales, Pieces
from zoo.music.model import MusicLM
from zoo.progress import bar
from zoo.provenance import keep
from zoo.train.data import Split

SPLITS: tuple[Split, ...] = ("val", "test")


def in_keys(view: Chorale, tokens: list[int], shifts: list[int]) -> tuple[Tensor, Tensor]:
    """Tokens in each key, "k n", and whether each is within its voice's range there, "k n"."""
    row = torch.tensor(tokens)
    pitched = (row >= 2) & (row < view.end)
    moved = torch.where(pitched, row + torch.tensor(shifts).unsqueeze(-1), row)
    voices = torch.arange(len(tokens)) % 4
    low, high = (torch.tensor([getattr(r, name) for r in view.ranges])[voices] for name in ("low", "high"))
    pitch = moved - 2 + view.lowest
    return moved, ~pitched | ((low <= pitch) & (pitch <= high))


@torch.inference_mode()
def losses(model: MusicLM, data: JSBChorales, split: Split, length: int, shifts: list[int]) -> dict[str, float]:
    """Nats per token: in the piece's own key, and of the mean over keys."""
    view = data.view
    assert isinstance(view, Chorale)
    pieces = Pieces(view, data.pieces(split), length)
    own = shifts.index(0)
    sums, count = np.zeros(2), 0
    for piece, begin, first in bar(pieces.cuts, split, "window"):
        tokens = pieces.tokens[piece]
        moved, within = in_keys(view, tokens, shifts)
        window, scored = slice(begin, begin + length), slice(first - begin, None)
        labels = moved[:, window].clamp(0, view.vocab_size - 1)
        before = moved[:, begin - 1] if begin else torch.full((len(shifts),), view.vocab_size)
        alive = torch.cat((torch.ones(len(shifts), 1, dtype=torch.bool), within[:, :-1].cummin(-1).values), 1)
        heard = alive[:, window.start]  # a key that has left its ranges before the window takes no part in it
        ids = torch.cat((before.unsqueeze(-1), labels[:, :-1]), 1)[heard]
        chances = model(ids).log_softmax(-1).gather(-1, labels[heard].unsqueeze(-1)).squeeze(-1)[:, scored]
        taking, possible = (x[heard][:, window][:, scored] for x in (alive, within))
        mixed = chances.masked_fill(~(taking & possible), -torch.inf).logsumexp(0) - taking.sum(0).log()
        at = int(heard[:own].sum())
        sums -= [float(chances[at].double().sum()), float(mixed.double().sum())]
        count += chances.shape[-1]
    alone, mean = (sums / count).tolist()
    return {"own key": alone, "mean over keys": mean}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--most", type=int, default=6)
    parser.add_argument("--name", default="keys")
    given = parser.parse_args()
    begin = time.time()
    loaded = zoo.load(given.run, kind=MusicLM)
    length = json.loads((given.run / "run.json").read_text())["data"]["length"]
    shifts = list(range(-given.most, given.most + 1))
    found = {split: losses(loaded.model.eval(), JSBChorales("16th"), split, length, shifts) for split in SPLITS}
    for split, nats in found.items():
        print(split, {name: round(value, 4) for name, value in nats.items()})
    keep(__file__, given.name, begin, {"semitones": given.most, "nll": found}, given=f"{given.run} --most {given.most}")


if __name__ == "__main__":
    main()
