"""Training a language model: the loss of the next token, over the whole held-out text."""

import math
from typing import Any

import torch

from zoo.core import StackConfig
from zoo.core.init import Scheme
from zoo.data.corruption import IGNORED
from zoo.text.model import CausalLM
from zoo.train.losses import TokenLoss, token_loss
from zoo.train.optimisers import Optimiser
from zoo.train.schedules import Schedule
from zoo.train.task import Task


class LanguageModel(Task):
    """A CausalLM on running text. Validation and test give the loss in nats per token, and the perplexity exp(loss).

    Tests give bits per byte too, where the tokenizer knows how many bytes of the text its tokens stand for: by them
    models of other tokens can be compared. What it costs to end a document is in them, while an end has no bytes.

    `ends`: the tokens at which its writing stops, as those of the model that it begins with, besides the end of the
    data's documents; the first of them takes that one's place where the data is running text, which has none.
    """

    kind = "CausalLM"
    entries = ("hidden",)

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: int,
        start: int | None = None,
        end: int | None = None,
        ends: tuple[int, ...] = (),
        tied: bool = True,
        embed_scale: bool = False,
        init: Scheme = "normal",
        z_loss: float = 0.0,
        compile: bool = False,
        optimizer: Optimiser | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(optimizer, schedule)
        self.network = CausalLM(
            stack,
            vocab_size,
            tied=tied,
            embed_scale=embed_scale,
            start=start,
            end=ends[0] if end is None and ends else end,
            ends=ends,
            init=init,
        )
        self.z_loss = z_loss
        if compile:
            self.network.stack.compile()

    def loss(self, batch: Any) -> TokenLoss:
        states, layout = self.network.hidden(batch.ids, batch.keep)
        head, labels = self.network.head, layout.take(batch.labels, batch.keep)
        return token_loss(states, head.weight, labels, head.bias, z_loss=self.z_loss)

    def on_test_start(self) -> None:
        tokenizer = getattr(getattr(self.trainer, "datamodule", None), "tokenizer", None)
        sizes = getattr(tokenizer, "sizes", None)
        self.sizes = None if sizes is None else torch.tensor(sizes, device=self.device)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        out = self.score(batch, "test")
        if self.sizes is not None:
            size = self.sizes[batch.labels[batch.labels != IGNORED]].sum() / out.tokens.clamp(min=1)
            self.log("test/bytes", size, batch_size=int(out.tokens), sync_dist=True)  # a token, as the loss is

    def on_test_epoch_end(self) -> None:
        found = self.trainer.callback_metrics
        nll = float(found["test/nll"])
        size = float(found.get("test/bytes", 0.0))
        by_byte = {"bits_per_byte": nll / size / math.log(2)} if size else {}
        self.report({"nll": nll, "perplexity": math.exp(nll)} | by_byte)
