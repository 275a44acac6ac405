"""One translator that says what several say together: distillation (Hinton et al. 2015) of their mean, token by token.

    zoo --import experiments.multi30k.distil fit --config experiments/multi30k/student.yaml \\
        --init-from runs/multi30k-agreeing-1

The teachers read the training pairs beside the student and without dropout. What the student is to say at a place of
the target is the mean of what they say there, and for the share `true` the token of the reference. Validation and test
are Translation's.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.taught import taught
from zoo.errors import UserError
from zoo.text.model import Seq2Seq, shifted_right
from zoo.text.task import Translation
from zoo.train.losses import TokenLoss
from zoo.weights.load import load


class Taught(Translation):
    """Translation whose targets are chances: of the `teachers` (runs on the same data), and the share `true` of the
    reference."""

    def __init__(self, teachers: list[Path], *args: Any, true: float = 0.3, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.label_smoothing or self.z_loss or self.consistency:
            raise ValueError(
                "label_smoothing, z_loss and consistency belong to Translation's own loss: leave them at 0"
            )
        if not teachers:
            raise ValueError("teachers is empty: name a run at least")
        if not 0 <= true <= 1:
            raise ValueError(f"true ({true}) must be in [0, 1]")
        self.teachers, self.true = teachers, true
        self.opened: list[Seq2Seq] = []  # a list, so that they are no part of the student

    def on_fit_start(self) -> None:
        super().on_fit_start()
        tokens = self.trainer.datamodule.tokenizer  # type: ignore[attr-defined]
        self.opened = []
        for teacher in self.teachers:
            loaded = load(teacher, kind=Seq2Seq)
            if loaded.tokenizer.to_json() != tokens.to_json():
                raise UserError(f"{teacher} writes with other tokens than this student's data has")
            self.opened.append(loaded.model.to(self.device))

    def loss(self, batch: Any) -> TokenLoss:
        if not self.training:
            return super().loss(batch)
        given = (batch.source, shifted_right(batch.labels, self.network.start), batch.source_keep, batch.keep)
        states, layout = self.network.hidden(*given)
        labels = layout.take(batch.labels, batch.keep)
        scores = self.network.head(states).float()
        targets = self.said(*given).mul_(1 - self.true)
        targets.scatter_add_(-1, labels.unsqueeze(-1), torch.full_like(targets[:, :1], self.true))
        return taught(scores, targets, labels)

    @torch.no_grad()
    def said(self, *given: Tensor) -> Tensor:
        """The mean of the teachers' chances, "t v"."""
        both = [teacher.head(teacher.hidden(*given)[0]).float().softmax(-1) for teacher in self.opened]
        return torch.stack(both).mean(0)
