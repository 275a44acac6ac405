"""Training a classifier of texts: from scratch, or from the trunk of a masked language model."""

from typing import Any

import torch

from zoo.core import Mean, Pool, StackConfig
from zoo.core.init import Scheme
from zoo.text.encoder import TextClassifier
from zoo.train.confusion import accuracy, confusion, f1
from zoo.train.losses import TokenLoss, check_consistency, check_label_smoothing, token_loss, twice
from zoo.train.optimisers import Optimiser
from zoo.train.schedules import Schedule
from zoo.train.task import Task


class TextClassification(Task):
    """A TextClassifier on texts with classes; validation and test give loss and accuracy, test the F1 of each class.

    `word_dropout`: that share of the tokens of a training text stands masked. `consistency`: a training text is read
    twice, with two draws of dropout and of masks, and the two are held to say the same with this weight (R-Drop, Liang
    et al. 2021); a step costs twice as much. With `--init-from` the trunk of a MaskedLM (and its pooling, where it has
    weights) begins the training, or all of a CausalLM but its head.
    """

    kind = "TextClassifier"
    entries = ("hidden",)
    carried = ("trunk", "pool")

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: int,
        classes: int,
        mask: int | None,
        ordinary: tuple[int, int],
        types: int = 0,
        pool: Pool | None = None,
        dropout: float = 0.0,
        head_bias: bool = True,
        word_dropout: float = 0.0,
        label_smoothing: float = 0.0,
        consistency: float = 0.0,
        embed_scale: bool = False,
        init: Scheme = "normal",
        compile: bool = False,
        optimizer: Optimiser | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(optimizer, schedule)
        if not 0 <= word_dropout < 1:
            raise ValueError(f"word_dropout ({word_dropout}) must be in [0, 1)")
        check_label_smoothing(label_smoothing)
        check_consistency(consistency)
        if word_dropout and mask is None:
            raise ValueError(f"word_dropout ({word_dropout}) hides tokens, and this tokenizer has none that hides")
        self.network = TextClassifier(
            stack,
            vocab_size,
            classes,
            types=types,
            pool=Mean() if pool is None else pool,
            dropout=dropout,
            head_bias=head_bias,
            embed_scale=embed_scale,
            init=init,
        )
        self.mask, self.ordinary = mask, ordinary
        self.word_dropout, self.label_smoothing, self.consistency = word_dropout, label_smoothing, consistency
        if compile:
            self.network.trunk.stack.compile()
        self.found: dict[int, tuple[int, int]] = {}

    def loss(self, batch: Any) -> TokenLoss:
        consistency = self.consistency if self.training else 0.0
        rows = batch.ids, batch.keep, self._segments(batch), batch.labels
        ids, keep, types, labels = twice(*rows) if consistency else rows
        states = self.network.hidden(self._thinned(ids), keep, types)
        head = self.network.head
        return token_loss(
            states,
            head.weight,
            labels,
            head.bias,
            label_smoothing=self.label_smoothing,
            consistency=consistency,
        )

    def _segments(self, batch: Any) -> torch.Tensor | None:
        """Which of two texts a token belongs to, where the model knows segments."""
        types: torch.Tensor | None = batch.types if self.network.settings["types"] > 1 else None
        return types

    def _thinned(self, ids: torch.Tensor) -> torch.Tensor:
        if not (self.training and self.word_dropout):
            return ids
        first, end = self.ordinary
        gone = (torch.rand(ids.shape, device=ids.device) < self.word_dropout) & (ids >= first) & (ids < end)
        return ids.masked_fill(gone, self.mask)

    def on_test_epoch_start(self) -> None:
        self.found = {}

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.score(batch, "test")
        best = self.network(batch.ids, batch.keep, self._segments(batch)).argmax(-1)
        rows = zip(batch.labels.tolist(), best.tolist(), strict=True)
        self.found |= dict(zip(batch.index.tolist(), rows, strict=True))

    def on_test_epoch_end(self) -> None:
        names = self.trainer.datamodule.names  # type: ignore[attr-defined]
        table = confusion(self.gather(self.found).values(), len(names))
        result: dict[str, Any] = {
            "accuracy": accuracy(table),
            "nll": float(self.trainer.callback_metrics["test/nll"]),
            "texts": int(table.sum()),
            "f1": {name: round(value, 4) for name, value in zip(names, f1(table), strict=True)},
        }
        self.report(result)
