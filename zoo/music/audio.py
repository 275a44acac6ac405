"""Training on sound: a codec on rendered chorales, then a model of music on the codec's codes.

Axes: b clips, n samples, k codebooks, f frames, s positions of a pattern.

Pieces are rendered by our synthesiser, one channel, and the splits are those of the pieces.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torchaudio.functional as sound
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.atomic import write_atomically
from zoo.core import StackConfig
from zoo.data.batches import EpochSampler
from zoo.errors import UserError
from zoo.music import synth
from zoo.music.codebooks import Codebooks, Delay, Pattern
from zoo.music.codec import Codec, perplexity, spectral_distance
from zoo.music.data import UNSCORED, JSBChorales, MusicData, RuleHarmony, check_view
from zoo.music.model import MusicLM
from zoo.progress import bar
from zoo.train.data import DataModule, Split
from zoo.train.losses import TokenLoss, token_loss
from zoo.train.optimisers import Optimiser
from zoo.train.schedules import Schedule
from zoo.train.start import open_network
from zoo.train.task import Task

Source = Literal["jsb", "harmony"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def source_of(name: Source, seed: int) -> MusicData:
    return JSBChorales(seed=seed) if name == "jsb" else RuleHarmony(seed=seed)


def rendered(data: MusicData, split: Split, count: int, rate: int, least: int = 0) -> list[Tensor]:
    """The first `count` pieces of a split as sound "n" at `rate`, with silence behind those below `least` samples."""
    pieces = data.pieces(split)[:count]
    sounds = [
        sound.resample(synth.render(data.view.heard(piece)).mean(0), synth.RATE, rate)
        for piece in bar(pieces, f"rendering {split}", "piece")
    ]
    return [torch.nn.functional.pad(x, (0, max(least - len(x), 0))) for x in sounds]


class Clips(Dataset[Tensor]):
    """Clips of `length` samples "n" or frames of codes "f k" by (epoch, index): drawn anew in every epoch, or the same
    ones all over the sounds, each of which is at least so long."""

    def __init__(self, sounds: list[Tensor], length: int, seed: int, *, drawn: bool):
        self.sounds = sounds
        self.length, self.seed, self.drawn = length, seed, drawn
        self.of = [(i, begin) for i, x in enumerate(self.sounds) for begin in range(0, len(x) - length + 1, length)]

    def __len__(self) -> int:
        return len(self.of)

    def __getitem__(self, which: tuple[int, int]) -> Tensor:
        epoch, index = which
        piece, begin = self.of[index]
        if self.drawn:
            last = len(self.sounds[piece]) - self.length
            begin = int(np.random.default_rng((self.seed, epoch, index)).integers(last + 1))
        return self.sounds[piece][begin : begin + self.length]


class RenderedChorales(DataModule):
    """Chorales as sound: clips of `seconds`, `batch` at a time, of the first pieces of each split of `source`."""

    def __init__(
        self,
        source: Source = "jsb",
        train: int = 40,
        val: int = 4,
        test: int = 4,
        rate: int = 16_000,
        seconds: float = 1.0,
        batch: int = 8,
        seed: int = 1,
        workers: int = 0,
    ):
        super().__init__()
        if min(train, val, test, rate, batch) < 1 or seconds <= 0:
            raise ValueError("train, val, test, rate, batch and seconds must be above 0")
        self.source, self.counts, self.rate = source, {"train": train, "val": val, "test": test}, rate
        self.length, self.batch, self.seed, self.workers = round(seconds * rate), batch, seed, workers
        self.pieces = source_of(source, seed)
        self.test_set = "test"
        self._clips: dict[str, Clips] = {}

    def manifest(self) -> dict[str, Any]:
        """What the data is: that of the pieces, and how they became clips."""
        own = {"rate": self.rate, "samples": self.length, "batch": self.batch, "pieces": self.counts}
        return {"set": type(self).__name__, "of": self.pieces.manifest(), **own}

    def _loader(self, split: Split, *, shuffle: bool) -> DataLoader[Any]:
        if split not in self._clips:
            sounds = rendered(self.pieces, split, self.counts[split], self.rate, self.length)
            self._clips[split] = Clips(sounds, self.length, self.seed, drawn=split == "train")
        clips = self._clips[split]
        sampler = EpochSampler([1] * len(clips), self.batch, seed=self.seed, shuffle=shuffle, **self.ranks())
        return DataLoader(clips, batch_sampler=sampler, num_workers=self.workers, persistent_workers=self.workers > 0)


class Coding(Task):
    """A codec on clips of sound. The loss of a clip is the spectral distance of what comes back, with what the codes
    leave of the latent frames (times `commitment`) and the distance of the waves (times `waves`) beside it.

    Validation and test: `distance` is the spectral one; the perplexity of each codebook stands beside it.
    """

    kind = "Codec"

    def __init__(
        self,
        rate: int = 16_000,
        width: int = 24,
        books: int = 4,
        size: int = 256,
        latent: int = 64,
        commitment: float = 0.25,
        waves: float = 1.0,
        optimizer: Optimiser | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(optimizer, schedule)
        self.network = Codec(rate, width, books, size, latent)
        self.commitment, self.waves = commitment, waves
        self.codes: list[Tensor] = []

    def loss(self, batch: Tensor) -> TokenLoss:
        back, left = self.network(batch)
        distance = spectral_distance(back, batch, self.network.rate)
        loss = distance + self.commitment * left + self.waves * (back - batch).abs().mean()
        count = len(batch)
        return TokenLoss(
            loss=loss * count,
            nll=distance.detach() * count,
            correct=None,
            tokens=torch.tensor(count, device=back.device),
            name="distance",
        )

    def on_validation_epoch_start(self) -> None:
        self.codes = []

    def on_test_epoch_start(self) -> None:
        self.codes = []

    def score(self, batch: Tensor, stage: str) -> TokenLoss:
        self.codes.append(self.network.encode(batch))
        return super().score(batch, stage)

    def on_validation_epoch_end(self) -> None:
        self.log("val/perplexity", self._perplexity().mean(), sync_dist=True)

    def on_test_epoch_end(self) -> None:
        self.report(
            {
                "distance": float(self.trainer.callback_metrics["test/distance"]),
                "perplexity": [round(float(x), 1) for x in self._perplexity()],
                "codes": self.network.settings["size"],
            }
        )

    def _perplexity(self) -> Tensor:
        every = self.gather({self.global_rank: torch.cat(self.codes).cpu()})
        return perplexity(torch.cat(list(every.values())), self.network.settings["size"])


class Codes(NamedTuple):
    """Windows of codes laid out by a pattern; `labels` are the codes after `ids`, UNSCORED where none stands."""

    ids: Tensor  # "b k s"
    labels: Tensor  # "b k s"


class SoundCodes(DataModule):
    """Rendered chorales as the codes of a trained codec (`codec`: its run folder), in windows of `seconds`.

    A model that is trained on them finds the codec in its own run folder.
    """

    def __init__(
        self,
        codec: Path,
        source: Source = "jsb",
        train: int = 40,
        val: int = 4,
        test: int = 4,
        pattern: Pattern | None = None,
        seconds: float = 6.0,
        batch: int = 4,
        seed: int = 1,
        workers: int = 0,
    ):
        super().__init__()
        self.codec_folder, self.codec = Path(codec), open_network(Path(codec), Codec)
        books, size = self.codec.settings["codebooks"], self.codec.settings["size"]
        self.view = Codebooks(books, size, Delay() if pattern is None else pattern)
        self.vocab_size, self.codebooks = self.view.vocab_size, books
        self.frames = round(seconds * self.codec.rate / self.codec.hop)
        if self.frames < 1 or min(train, val, test, batch) < 1:
            raise ValueError("train, val, test, batch and seconds must be above 0")
        self.counts = {"train": train, "val": val, "test": test}
        self.source, self.batch, self.seed, self.workers = source, batch, seed, workers
        self.pieces = source_of(source, seed)
        self.test_set = "test"
        self._clips: dict[str, Clips] = {}

    def manifest(self) -> dict[str, Any]:
        """What the data is: that of the pieces, the codec and the pattern."""
        own = {"codec": self.codec.to_plain(), "view": self.view.to_plain(), "frames": self.frames}
        return {"set": type(self).__name__, "of": self.pieces.manifest(), "pieces": self.counts, **own}

    def save(self, folder: Path) -> None:
        """The view, and the codec that makes sound of its codes, into a run folder."""
        from safetensors.torch import save_file

        self.view.save(folder)
        (folder / "codec").mkdir(exist_ok=True)
        config = {"kind": "Codec", "settings": self.codec.to_plain()}
        write_atomically(folder / "codec" / "config.json", json.dumps(config, indent=2) + "\n")
        save_file(self.codec.state_dict(), folder / "codec" / "model.safetensors")

    def check_origin(self, run: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        check_view(run, self.view)
        path = run / "codec" / "model.safetensors"
        try:
            kept, own = load_file(path), self.codec.state_dict()
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from None
        if kept.keys() != own.keys() or not all(torch.equal(kept[name], value) for name, value in own.items()):
            raise UserError(f"{run} was trained on the codes of another codec than {self.codec_folder}")

    def collate(self, clips: list[Tensor]) -> Codes:
        """Codes "f k" of windows: what is read begins with a hole, as every piece does."""
        laid = self.view.pattern.build(torch.stack([clip.T for clip in clips]), self.view.size)
        holes = laid.new_full((*laid.shape[:2], 1), self.view.size)
        return Codes(torch.cat((holes, laid[..., :-1]), -1), laid.masked_fill(laid == self.view.size, UNSCORED))

    def _loader(self, split: Split, *, shuffle: bool) -> DataLoader[Any]:
        if split not in self._clips:
            least = self.frames * self.codec.hop
            sounds = rendered(self.pieces, split, self.counts[split], self.codec.rate, least)
            codes = [self.codec.encode(x.unsqueeze(0))[0].T for x in sounds]
            self._clips[split] = Clips(codes, self.frames, self.seed, drawn=split == "train")
        clips = self._clips[split]
        sampler = EpochSampler([1] * len(clips), self.batch, seed=self.seed, shuffle=shuffle, **self.ranks())
        return DataLoader(
            clips,
            batch_sampler=sampler,
            collate_fn=self.collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )


class Sounding(Task):
    """A MusicLM on the codes of a codec, in nats per code over all codebooks."""

    kind = "MusicLM"
    entries = ("hidden",)

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: int,
        codebooks: int,
        optimizer: Optimiser | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(optimizer, schedule)
        self.network = MusicLM(stack, vocab_size, codebooks=codebooks)

    def loss(self, batch: Codes) -> TokenLoss:
        states, _ = self.network.hidden(batch.ids)
        heads = self.network.head.weight.chunk(self.network.codebooks)
        every = [
            token_loss(states, head, labels.flatten())
            for head, labels in zip(heads, batch.labels.unbind(1), strict=True)
        ]
        return TokenLoss(
            loss=sum(one.loss for one in every),
            nll=sum(one.nll for one in every),
            correct=sum(one.correct for one in every),
            tokens=sum(one.tokens for one in every),
        )

    def on_test_epoch_end(self) -> None:
        metrics = self.trainer.callback_metrics
        self.report({name: float(metrics[f"test/{name}"]) for name in ("nll", "accuracy")})
