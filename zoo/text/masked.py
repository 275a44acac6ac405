"""Training a masked language model: some tokens are hidden, and it says what stood there."""

import math
from typing import Any

import torch

from zoo.core import First, Pool, StackConfig
from zoo.core.feedforward import Activation
from zoo.core.init import Scheme
from zoo.data.corruption import IGNORED, mask_tokens
from zoo.text.encoder import MaskedLM
from zoo.train.losses import TokenLoss, token_loss
from zoo.train.optimisers import Optimiser
from zoo.train.schedules import Schedule
from zoo.train.task import Task


class MaskedLanguageModel(Task):
    """A MaskedLM on any texts: running text, documents, or texts with classes, which it does not look at.

    Each time a row is seen, other tokens of it are hidden: `rate` of them, as Devlin et al. 2019 do it (section 3.1).
    Validation and test always hide the same. Loss in nats per hidden token; the head sees hidden positions alone.
    """

    kind = "MaskedLM"
    entries = ("hidden",)
    carried = ("trunk", "pool")

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: int,
        mask: int,
        ordinary: tuple[int, int],
        rate: float = 0.15,
        types: int = 0,
        pool: Pool | None = None,
        activation: Activation = "gelu",
        tied: bool = True,
        embed_scale: bool = False,
        init: Scheme = "normal",
        compile: bool = False,
        optimizer: Optimiser | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(optimizer, schedule)
        if mask is None:
            raise ValueError("the tokenizer has no token for mask, which stands where another is hidden")
        if not 0 < rate <= 1:
            raise ValueError(f"rate ({rate}) must be in (0, 1]")
        self.network = MaskedLM(
            stack,
            vocab_size,
            types=types,
            pool=First() if pool is None else pool,
            activation=activation,
            tied=tied,
            embed_scale=embed_scale,
            init=init,
        )
        self.mask, self.ordinary, self.rate = mask, ordinary, rate
        if compile:
            self.network.trunk.stack.compile()

    def loss(self, batch: Any) -> TokenLoss:
        first, end = self.ordinary
        may = (batch.ids >= first) & (batch.ids < end)
        always = None if self.training else torch.Generator(may.device).manual_seed(int(batch.ids.sum()))
        masked = mask_tokens(batch.ids, may, mask=self.mask, random=self.ordinary, rate=self.rate, generator=always)
        states, layout = self.network.hidden(masked.ids, batch.keep)
        labels = layout.take(masked.labels, batch.keep)
        hidden = labels != IGNORED
        head = self.network.head
        return token_loss(head.features(states[hidden]), head.out.weight, labels[hidden], head.out.bias)

    def on_test_epoch_end(self) -> None:
        found = self.trainer.callback_metrics
        nll, accuracy = float(found["test/nll"]), float(found["test/accuracy"])
        self.report({"nll": nll, "perplexity": math.exp(nll), "accuracy": accuracy, "rate": self.rate})
