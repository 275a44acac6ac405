"""Training a model of music: the loss of the next token, in nats a token, a note and a time step."""

from typing import Any

from zoo.core import StackConfig
from zoo.music.model import MusicLM
from zoo.train.losses import TokenLoss, token_loss
from zoo.train.optimisers import Optimiser
from zoo.train.schedules import Schedule
from zoo.train.task import Task


class Composing(Task):
    """A MusicLM on pieces of one stream.

    Validation and test go over whole pieces. `nll` is in nats a token (every token of the view, the end of the piece
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
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing ({label_smoothing}) must be in [0, 1)")
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

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._score(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._score(batch, "test")

    def _score(self, batch: Any, stage: str) -> None:
        out = self.score(batch, stage)
        for unit, count in {"note": batch.notes, "step": batch.steps}.items():
            total = int(count.sum())  # weights of a mean over batches: of all nats by all notes, or steps
            self.log(f"{stage}/nll_{unit}", out.nll / max(total, 1), batch_size=max(total, 1), sync_dist=True)

    def on_test_epoch_end(self) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        metrics = self.trainer.callback_metrics
        found = {name: float(metrics[f"test/{name}"]) for name in ("nll", "nll_note", "nll_step", "accuracy")}
        self.report({"test_set": data.test_set} | found, f"test-{data.test_set}.json")
