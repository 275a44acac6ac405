"""Training a model of music: the loss of the next token, in nats per token, per note and per time step."""

from typing import Any

import torch

from zoo.core import StackConfig
from zoo.music.model import MusicLM
from zoo.train.losses import TokenLoss, check_label_smoothing, token_loss
from zoo.train.optimisers import Optimiser
from zoo.train.schedules import Schedule
from zoo.train.task import Task


class Composing(Task):
    """A MusicLM on pieces of one stream.

    Validation and test go over whole pieces. `nll` is in nats per token (every token of the view, the end of the piece
    among them), `nll_note` the same sum over the notes that begin, `nll_step` over the time steps of the grid.
    """

    kind = "MusicLM"
    entries = ("hidden",)

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: int,
        embed_scale: bool = False,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        compile: bool = False,
        optimizer: Optimiser | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(optimizer, schedule)
        check_label_smoothing(label_smoothing)
        self.network = MusicLM(stack, vocab_size, embed_scale=embed_scale, end=vocab_size - 1)
        self.label_smoothing, self.z_loss = label_smoothing, z_loss
        if compile:
            self.network.stack.compile()

    def loss(self, batch: Any) -> TokenLoss:
        states, layout = self.network.hidden(batch.ids, batch.keep)
        labels = layout.take(batch.labels, batch.keep)
        return token_loss(
            states, self.network.head.weight, labels, label_smoothing=self.label_smoothing, z_loss=self.z_loss
        )

    def on_validation_epoch_start(self) -> None:
        self._begin()

    def on_test_epoch_start(self) -> None:
        self._begin()

    def _begin(self) -> None:
        # nats, notes and steps of the epoch; no buffer, which other ranks would overwrite
        self._sums = torch.zeros(3, dtype=torch.float64, device=self.device)

    def score(self, batch: Any, stage: str) -> TokenLoss:
        out = super().score(batch, stage)
        self._sums += torch.stack([out.nll, batch.notes.sum(), batch.steps.sum()])
        return out

    def _by_unit(self) -> dict[str, float]:
        """Nats of the whole epoch, on all ranks, by its notes and by its steps. A batch may have neither: of a piece in
        several windows the first has them all."""
        nats, *counts = self.trainer.strategy.reduce(self._sums.clone(), reduce_op="sum").tolist()
        return {f"nll_{unit}": nats / count for unit, count in zip(("note", "step"), counts, strict=True) if count}

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"val/{name}": value for name, value in self._by_unit().items()}, sync_dist=True)

    def on_test_epoch_end(self) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        by_unit = self._by_unit()
        self.log_dict({f"test/{name}": value for name, value in by_unit.items()}, sync_dist=True)
        nll, right = (float(self.trainer.callback_metrics[f"test/{name}"]) for name in ("nll", "accuracy"))
        self.report({"test_set": data.test_set, "nll": nll, **by_unit, "accuracy": right}, f"test-{data.test_set}.json")
