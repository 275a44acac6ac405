"""One network that says what a network in every key says: distillation (Hinton et al. 2015) of the mean over keys.

    python -m experiments.music.distil RUN [RUN ...] --out runs/lessons.npz     # the teachers' lessons
    zoo --import experiments.music.distil fit --config experiments/music/student.yaml --init-from RUN

The teachers (runs on JSB's 16th grid) write `--count` pieces of their own, and for each token of these and of the
training pieces it is written down what the mean over teachers and keys gives to all tokens (keys.py), in bfloat16. A
student learns to say the same in whatever key it is asked. Of the training pieces, which the teachers have learned in
part by heart, the share `--true` of what is to be said is the token that Bach wrote. Validation and test are as ever.
"""

import argparse
import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from experiments.music.keys import opened, spoken, vocabulary
from experiments.taught import taught
from zoo.core.decode import Sampling
from zoo.music.chorale import Chorale
from zoo.music.compose import write
from zoo.music.data import Batch, Item, JSBChorales, Pieces, Windows, collate
from zoo.music.task import Composing
from zoo.progress import bar
from zoo.train.data import Split
from zoo.train.losses import TokenLoss

BATCH = 100


class Lesson(NamedTuple):
    """Windows of pieces, and what is to be said of each of their tokens."""

    windows: Batch
    chances: Tensor  # "b n v"


def together(items: list[tuple[Item, Tensor]]) -> Lesson:
    """Windows and the chances of their tokens to a batch."""
    windows, said = zip(*items, strict=True)
    return Lesson(collate(list(windows)), pad_sequence(said, batch_first=True))


class Taught(Windows):
    """Windows of transposed pieces with the chances of each token, "n v" a piece, transposed as they are."""

    view: Chorale
    collate = staticmethod(together)

    def __init__(self, *args: Any, chances: list[Tensor], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.chances = chances

    def __getitem__(self, which: tuple[int, int]) -> tuple[Item, Tensor]:  # type: ignore[override]
        piece, shift, begin = self.draw(which)
        item = self.window(piece, shift, begin)
        said = self.chances[piece][begin : begin + len(item[1])].float()
        there, has = vocabulary(self.view, [shift])
        voices = (begin + torch.arange(len(said))) % 4
        targets = torch.zeros_like(said).scatter_add_(-1, there.expand_as(said), said * has[0, voices])
        return item, targets / targets.sum(-1, keepdim=True)


class Lessons(JSBChorales):
    """JSBChorales on the 16th grid whose training pieces are those of a file of `lessons`."""

    def __init__(self, lessons: Path, length: int = 512, tokens_per_batch: int = 4096, seed: int = 1, **more: Any):
        super().__init__("16th", length, tokens_per_batch=tokens_per_batch, seed=seed, **more)
        self.lessons = Path(lessons)
        with np.load(self.lessons) as file:
            cuts = list(pairwise([0, *np.cumsum(file["lengths"]).tolist()]))
            rows, said = file["tokens"], torch.from_numpy(file["chances"])
        self.taught = [self.view.decode(rows[begin:end].tolist()) for begin, end in cuts]
        self.chances = [said[begin:end] for begin, end in cuts]

    def pieces(self, split: Split) -> list[Any]:
        return self.taught if split == "train" else super().pieces(split)

    def manifest(self) -> dict[str, Any]:
        return super().manifest() | {"lessons": hashlib.sha256(self.lessons.read_bytes()).hexdigest()}

    def windows(self, pieces: list[Any]) -> Windows:
        return Taught(self.view, pieces, self.length, self.transpose, self.seed, chances=self.chances)


class Distilling(Composing):
    """Composing whose training takes the chances of a Lesson for what is to be said. Nothing smooths these."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.label_smoothing or self.z_loss:
            raise ValueError("label_smoothing and z_loss belong to targets that are one token: leave them at 0")

    def loss(self, batch: Any) -> TokenLoss:
        if not isinstance(batch, Lesson):
            return super().loss(batch)
        windows, chances = batch
        states, layout = self.network.hidden(windows.ids, windows.keep)
        scores = self.network.head(states).float()
        targets, labels = (layout.take(x, windows.keep) for x in (chances, windows.labels))
        return taught(scores, targets, labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200, help="pieces that the teachers write")
    parser.add_argument("--most", type=int, default=6, help="semitones to the furthest key")
    parser.add_argument("--true", type=float, default=0.5, help="of a training piece: how much what Bach wrote counts")
    given = parser.parse_args()
    models, data = opened(given.runs)
    length, view = data.length, data.view
    assert isinstance(view, Chorale)
    real, written = data.pieces("train"), []
    for begin in bar(range(0, given.count, BATCH), "writing", "batch"):
        model, count = models[begin // BATCH % len(models)], min(BATCH, given.count - begin)
        # what is cut short is as good: the end is made to stand there, and its lesson is what should have
        rows = write(model, view, count=count, length=2 * length, sampling=Sampling(temperature=1.0, seed=begin))
        written += map(view.decode, rows)
    pieces = Pieces(view, [*real, *written], length)
    shifts = list(range(-given.most, given.most + 1))
    chances = []
    for piece, tokens in enumerate(bar(pieces.tokens, "asking", "piece")):
        with torch.autocast("cpu", torch.bfloat16):
            said = torch.cat([mean for _, mean in spoken(models, view, pieces, piece, shifts)])
        said /= said.sum(-1, keepdim=True)
        if piece < len(real):
            said.lerp_(F.one_hot(torch.tensor(tokens), view.vocab_size).to(said), given.true)
        chances.append(said.half())
    given.out.parent.mkdir(parents=True, exist_ok=True)
    lengths = [len(tokens) for tokens in pieces.tokens]
    np.savez(given.out, lengths=lengths, tokens=np.concatenate(pieces.tokens), chances=torch.cat(chances).numpy())
    print(f"{given.out}: {len(real)} training pieces and {len(written)} of the teachers' own, {sum(lengths)} tokens")


if __name__ == "__main__":
    main()
