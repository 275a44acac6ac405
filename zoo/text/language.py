"""Training a language model: the loss of the next token, over the whole held-out text."""

import math
from typing import Any

from zoo.core import StackConfig
from zoo.core.init import Scheme
from zoo.text.model import CausalLM
from zoo.train.losses import TokenLoss, token_loss
from zoo.train.optimisers import Optimiser
from zoo.train.schedules import Schedule
from zoo.train.task import Task


class LanguageModel(Task):
    """A CausalLM on running text. Validation and test give the loss in nats a token, and the perplexity exp(loss)."""

    kind = "CausalLM"
    entries = ("hidden",)

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: int,
        start: int | None = None,
        end: int | None = None,
        tied: bool = True,
        embed_scale: bool = False,
        init: Scheme = "normal",
        z_loss: float = 0.0,
        compile: bool = False,
        optimizer: Optimiser | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(optimizer, schedule)
        self.network = CausalLM(stack, vocab_size, tied=tied, embed_scale=embed_scale, start=start, end=end, init=init)
        self.z_loss = z_loss
        if compile:
            self.network.stack.compile()

    def loss(self, batch: Any) -> TokenLoss:
        states, layout = self.network.hidden(batch.ids, batch.keep)
        head, labels = self.network.head, layout.take(batch.labels, batch.keep)
        return token_loss(states, head.weight, labels, head.bias, z_loss=self.z_loss)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.score(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.score(batch, "test")

    def on_test_epoch_end(self) -> None:
        nll = float(self.trainer.callback_metrics["test/nll"])
        self.report({"nll": nll, "perplexity": math.exp(nll)})
