"""Training on images: classes with soft targets, and painting what is hidden."""

import json
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from zoo.atomic import write_atomically
from zoo.core import Norm, Pool, StackConfig
from zoo.errors import UserError
from zoo.train.confusion import accuracy, confusion
from zoo.train.losses import TokenLoss, check_label_smoothing
from zoo.train.optimisers import Optimiser
from zoo.train.schedules import Schedule
from zoo.train.start import check_classes, open_network
from zoo.train.task import Task
from zoo.vision.images import Preprocess
from zoo.vision.model import CLASS_TOKEN, MaskedAutoencoder, ViT
from zoo.vision.patches import Patches
from zoo.vision.published import preprocess_of


class Classification(Task):
    """A ViT on images with classes. An image counts as one token.

    `label_smoothing` spreads that share of the true target over all classes (Szegedy et al. 2016, section 7); mixed
    images have the shares of both classes. Validation and test give accuracy and loss of the mean of the heads; a test
    writes how often each class was taken for which.

    `teacher`: the run of a ViT for the same classes and images of the same size, which sees each training image as the
    student does, in its own normalisation. With `distillation` the second head learns the class that it takes (Touvron
    et al. 2021, section 4, hard distillation; never smoothed). Without, half of the loss is the cross entropy with its
    probabilities, the logits of both divided by `temperature` and that half multiplied by its square (Hinton et al.
    2015, section 2).
    """

    kind = "ViT"
    entries = ("scores", "features")
    carried = ("stack", "patches", "prefix")

    def __init__(
        self,
        stack: StackConfig,
        patches: Patches,
        classes: int,
        image_size: int,
        channels: int,
        class_token: bool = True,
        distillation: bool = False,
        registers: int = 0,
        prefix_placed: bool = True,
        pool: Pool = CLASS_TOKEN,
        head_norm: Norm | None = None,
        label_smoothing: float = 0.0,
        teacher: Path | None = None,
        temperature: float = 1.0,
        compile: bool = False,
        optimizer: Optimiser | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(optimizer, schedule)
        check_label_smoothing(label_smoothing)
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature ({temperature}) must be above 0")
        self.network = ViT(
            stack,
            classes,
            image_size,
            patches,
            channels=channels,
            class_token=class_token,
            distillation=distillation,
            registers=registers,
            prefix_placed=prefix_placed,
            pool=pool,
            head_norm=head_norm,
        )
        self.label_smoothing, self.temperature = label_smoothing, temperature
        self.run = None if teacher is None else Path(teacher)
        # in a list, so that it is no part of what is trained, saved and averaged
        self.teacher = [] if self.run is None else [taught_by(self.run, self.network)]
        self.fits: tuple[Preprocess, Preprocess] | None = None  # the student's and the teacher's, where they differ
        if compile:
            self.network.stack.compile()
        self.found: dict[int, tuple[int, int]] = {}  # of each image the class that is right and the one found

    def loss(self, batch: Any) -> TokenLoss:
        return self.judged(self.network.scores(batch.images).float(), batch)

    def judged(self, scores: Tensor, batch: Any) -> TokenLoss:
        """The loss of each head's logits, "k b v"."""
        lessons = self.lessons(scores, batch)
        loss = sum(weight * F.cross_entropy(made, right, reduction="sum") for made, right, weight in lessons)
        mean = scores.detach().mean(0)
        return TokenLoss(
            loss=loss / len(lessons),
            nll=F.cross_entropy(mean, batch.targets, reduction="sum"),
            correct=(mean.argmax(-1) == batch.labels).sum(),
            tokens=torch.tensor(len(mean), device=mean.device),
        )

    def lessons(self, scores: Tensor, batch: Any) -> list[tuple[Tensor, Tensor, float]]:
        """Of which the loss is the mean: logits and what they should be, "b v" each, and a weight.

        A lesson for each head is the true target; in training with a teacher there are two, the second by what it says.
        """
        true = batch.targets * (1 - self.label_smoothing) + self.label_smoothing / batch.targets.shape[-1]
        if not (self.training and self.teacher):
            return [(head, true, 1.0) for head in scores]
        said = self.said(batch.images)
        if len(scores) > 1:
            return [(scores[0], true, 1.0), (scores[1], F.one_hot(said.argmax(-1), said.shape[-1]).to(true.dtype), 1.0)]
        t = self.temperature
        return [(scores[0], true, 1.0), (scores[0] / t, (said / t).softmax(-1), t**2)]

    @torch.no_grad()
    def said(self, images: Tensor) -> Tensor:
        """The teacher's logits, "b v", of images as the student takes them."""
        if self.fits is not None:
            ours, theirs = self.fits
            images = theirs.normalise(ours.denormalise(images))
        return self.teacher[0].to(images.device)(images).float()

    def prepare_data(self) -> None:
        # the one hook of a training that comes before its folder is written
        if self.run is not None and self.trainer.state.fn == TrainerFn.FITTING:
            try:
                check_classes(self.run, self.trainer.datamodule)  # type: ignore[attr-defined]
            except UserError as error:
                raise UserError(f"teacher: {error}") from None

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if self.run is not None and stage == "fit":
            ours, theirs = self.trainer.datamodule.preprocess, preprocess_of(self.run)  # type: ignore[attr-defined]
            if theirs is not None and (ours.mean, ours.std) != (theirs.mean, theirs.std):
                self.fits = (ours, theirs)

    def on_test_epoch_start(self) -> None:
        self.found = {}

    def test_step(self, batch: Any, batch_idx: int) -> None:
        scores = self.network.scores(batch.images).float()
        self.log_score(self.judged(scores, batch), "test")
        pairs = zip(batch.labels.tolist(), scores.mean(0).argmax(-1).tolist(), strict=True)
        self.found |= zip(batch.index.tolist(), pairs, strict=True)

    def on_test_epoch_end(self) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        table = confusion(self.gather(self.found).values(), len(data.names))
        result = {
            "accuracy": accuracy(table),
            "nll": float(self.trainer.callback_metrics["test/nll"]),
            "images": int(table.sum()),
        }
        if self.trainer.is_global_zero:
            path = Path(self.trainer.default_root_dir) / "confusion.json"
            about = {"classes": list(data.names), "rows are right, columns made": table.tolist()}
            write_atomically(path, json.dumps(about) + "\n")
        self.report(result)

    def on_predict_epoch_start(self) -> None:
        self.made: dict[int, tuple[int, float]] = {}

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        found = self.network(batch.images).float().softmax(-1).max(-1)
        rows = zip(found.indices.tolist(), found.values.tolist(), strict=True)
        self.made |= dict(zip(batch.index.tolist(), rows, strict=True))

    def on_predict_epoch_end(self) -> None:
        """Each test image with the name of its class and how likely that is, in the order of the set."""
        made = self.gather(self.made)
        if self.trainer.is_global_zero:
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            held = data.held("test")
            for row in sorted(made):
                best, likely = made[row]
                print(held.where(row), data.names[best], f"{likely:.3f}", sep="\t")


def taught_by(run: Path, student: ViT) -> ViT:
    """The ViT of a run folder, in eval mode; UserError where it is none, or not for the student's images."""
    try:
        teacher = open_network(run, ViT)
    except UserError as error:
        raise UserError(f"teacher: {error}") from None
    for name in ("classes", "image_size", "channels"):
        theirs, ours = teacher.settings[name], student.settings[name]
        if theirs != ours:
            raise UserError(f"teacher: {run} has {name} {theirs}, the student has {ours}")
    return teacher.requires_grad_(False)


class MaskedImages(Task):
    """A MaskedAutoencoder on images, whose classes it does not look at. He et al. 2022.

    A token is a hidden patch; its loss, `mse`, is the mean square of what was painted less what is there.
    In validation and test the same patches of an image are hidden every time.
    """

    kind = "MaskedAutoencoder"
    carried = ("stack", "patches", "prefix")

    def __init__(
        self,
        stack: StackConfig,
        decoder: StackConfig,
        patches: Patches,
        image_size: int,
        channels: int,
        class_token: bool = True,
        prefix_placed: bool = True,
        hidden: float = 0.75,
        normalised: bool = True,
        optimizer: Optimiser | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(optimizer, schedule)
        if not 0 < hidden < 1:
            raise ValueError(f"hidden ({hidden}) must be in (0, 1): it is the share of patches to paint")
        self.network = MaskedAutoencoder(
            stack,
            decoder,
            image_size,
            patches,
            channels=channels,
            class_token=class_token,
            prefix_placed=prefix_placed,
            normalised=normalised,
        )
        self.hidden = hidden

    def loss(self, batch: Any) -> TokenLoss:
        return self.painted(batch.images, self.network.draw(len(batch.images), self.hidden))

    def painted(self, images: Tensor, keep: Tensor) -> TokenLoss:
        """The loss over the hidden patches."""
        made = self.network(images, keep).float()
        error = (made - self.network.target(images)).square().mean(-1)[~keep].sum()
        return TokenLoss(loss=error, nll=error.detach(), correct=None, tokens=(~keep).sum(), name="mse")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._score(batch, "val", batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._score(batch, "test", batch_idx)

    def _score(self, batch: Any, stage: str, number: int) -> None:
        same = torch.Generator(batch.images.device).manual_seed(number)
        out = self.painted(batch.images, self.network.draw(len(batch.images), self.hidden, same))
        self.log_score(out, stage)

    def on_test_epoch_end(self) -> None:
        self.report({"mse": float(self.trainer.callback_metrics["test/mse"]), "of": "hidden patches"})
