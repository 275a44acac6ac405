"""Models heard in many keys: python -m experiments.music.keys RUN [RUN ...] [--most 6] [--name keys]

A model that was trained on chorales in every key predicts each held-out token in its own key and in those up to
`--most` semitones away, and the mean of these probabilities is the prediction: an ensemble of one model, or of several.
A key takes part as long as all tokens so far stayed within its voices' ranges, which is known before the token; to one
that would leave them it gives nothing. So what the mean gives to all tokens is 1 or less, and its loss is in the same
nats per token.

Writes results/NAME.json: losses on validation and test, of the first run in the piece's own key alone (what `zoo test`
says) and of the mean.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

import zoo
from zoo.errors import UserError
from zoo.music.chorale import Chorale
from zoo.music.data import JSBChorales, Pieces
from zoo.music.model import MusicLM
from zoo.progress import bar
from zoo.provenance import keep
from zoo.train.data import Split

SPLITS: tuple[Split, ...] = ("val", "test")


def vocabulary(view: Chorale, shifts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Which token each stands for in each key, "k v", and whether each voice has it there, "k 4 v"."""
    here = torch.arange(view.vocab_size)
    pitched = (here >= 2) & (here < view.end)
    there = torch.where(pitched, here + torch.tensor(shifts).unsqueeze(-1), here)
    low, high = (torch.tensor([getattr(r, name) for r in view.ranges]).unsqueeze(-1) for name in ("low", "high"))
    pitch = (there - 2 + view.lowest).unsqueeze(1)
    return there.clamp(0, view.vocab_size - 1), ~pitched | ((low <= pitch) & (pitch <= high))


@torch.inference_mode()
def spoken(
    models: Sequence[MusicLM], view: Chorale, pieces: Pieces, piece: int, shifts: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The chances of each token of a piece, "n v", window by window: of the first model in the piece's own key, and the
    mean over models and keys."""
    there, has = vocabulary(view, shifts)
    tokens = torch.tensor(pieces.tokens[piece])
    voices = torch.arange(len(tokens)) % 4
    within = has[:, voices, tokens]
    alive = torch.cat((torch.ones(len(shifts), 1, dtype=torch.bool), within[:, :-1].cummin(-1).values), 1)
    for _, begin, first in (cut for cut in pieces.cuts if cut[0] == piece):
        window = slice(begin, begin + pieces.length)
        scored = slice(first, window.stop)
        heard = alive[:, begin].nonzero().squeeze(-1)  # a key that left its ranges before the window takes no part
        start = torch.full((len(heard), 1), view.vocab_size)
        before = there[heard][:, tokens[begin - 1 : begin]] if begin else start
        ids = torch.cat((before, there[heard][:, tokens[window][:-1]]), 1)
        own, total = None, torch.zeros((), dtype=torch.float64)
        possible = has[heard][:, voices[scored]] & alive[heard][:, scored].unsqueeze(-1)
        back = there[heard].unsqueeze(1).expand(-1, possible.shape[1], -1)  # what it says there is said of these here
        for model in models:
            chances = model(ids)[:, first - begin :].softmax(-1, dtype=torch.float64)
            own = chances[heard.tolist().index(shifts.index(0))] if own is None else own
            total = total + (chances.gather(-1, back) * possible).sum(0)
        assert own is not None
        yield own, total / (len(models) * alive[heard][:, scored].sum(0).unsqueeze(-1))


def losses(models: Sequence[MusicLM], data: JSBChorales, split: Split, shifts: list[int]) -> dict[str, float]:
    """Nats per token: of the first model in the piece's own key, and of the mean over models and keys."""
    view = data.view
    assert isinstance(view, Chorale)
    pieces = Pieces(view, data.pieces(split), data.length)
    sums, count = torch.zeros(2, dtype=torch.float64), 0
    for piece in bar(range(len(pieces.tokens)), split, "piece"):
        labels = torch.tensor(pieces.tokens[piece]).unsqueeze(-1)
        own, mean = (torch.cat(x) for x in zip(*spoken(models, view, pieces, piece, shifts), strict=True))
        sums -= torch.stack([x.gather(-1, labels).log().sum() for x in (own, mean)])
        count += len(labels)
    alone, together = (sums / count).tolist()
    return {"own key": alone, "mean over keys": together}


def opened(runs: Sequence[Path]) -> tuple[list[MusicLM], JSBChorales]:
    """The networks of runs on the 16th grid, and the data as they saw it. UserError where windows or tokens differ."""
    lengths = {json.loads((run / "run.json").read_text())["data"]["length"] for run in runs}
    if len(lengths) > 1:
        raise UserError(f"runs on windows of {sorted(lengths)} tokens: one length is needed")
    data = JSBChorales("16th", lengths.pop())
    for run in runs:
        data.check_origin(run)
    return [zoo.load(run, kind=MusicLM).model.eval() for run in runs], data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--most", type=int, default=6)
    parser.add_argument("--name", default="keys")
    given = parser.parse_args()
    begin = time.time()
    models, data = opened(given.runs)
    shifts = list(range(-given.most, given.most + 1))
    found = {split: losses(models, data, split, shifts) for split in SPLITS}
    for split, nats in found.items():
        print(split, {name: round(value, 4) for name, value in nats.items()})
    named = " ".join(map(str, given.runs))
    about = {"networks": len(models), "semitones": given.most, "nll": found}
    keep(__file__, given.name, begin, about, given=f"{named} --most {given.most}")


if __name__ == "__main__":
    main()
