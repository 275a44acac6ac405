"""Training a language model: the loss of the next token, over the whole held-out text."""

import json
import math
from pathlib import Path
from typing import Any

from zoo.atomic import write_atomically
from zoo.core import StackConfig
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
        tied: bool = True,
        z_loss: float = 0.0,
        compile: bool = False,
        optimizer: Optimiser | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(optimizer, schedule)
        self.network = CausalLM(stack, vocab_size, tied=tied)
        self.z_loss = z_loss
        if compile:
            self.network.stack.compile()

    def loss(self, batch: Any) -> TokenLoss:
        states, _ = self.network.hidden(batch.ids)
        head = self.network.head
        return token_loss(states, head.weight, batch.labels.flatten(), head.bias, z_loss=self.z_loss)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.score(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.score(batch, "test")

    def on_test_epoch_end(self) -> None:
        nll = float(self.trainer.callback_metrics["test/nll"])
        if self.trainer.is_global_zero:
            path = Path(self.trainer.default_root_dir) / "test.json"
            result = {"nll": nll, "perplexity": math.exp(nll)}
            write_atomically(path, json.dumps(result, indent=2) + "\n")
            for name, value in result.items():
                print(f"{name}: {value}")
