"""Training a Seq2Seq to write the spans that a text lacks: T5's way to learn from text alone."""

import math
from typing import Any

from zoo.core import StackConfig
from zoo.core.init import Scheme
from zoo.text.model import Seq2Seq
from zoo.text.task import Pairs
from zoo.train.optimisers import Optimiser
from zoo.train.schedules import Schedule


class SpanWriting(Pairs):
    """A Seq2Seq on texts that lack spans (SpanCorpus). Raffel et al. 2020, sections 3.1.4 and 3.3.4.

    Validation and test give the loss in nats per target token, sentinels included. The first T5 divides its last states
    by sqrt(d) before a tied map (`head_scale`), version 1.1 has a map of its own (`tied` off).
    """

    def __init__(
        self,
        encoder: StackConfig,
        decoder: StackConfig,
        vocab_size: int,
        pad: int | None = None,
        start: int | None = None,
        end: int | None = None,
        ends: tuple[int, ...] = (),
        tied: bool = True,
        embed_scale: bool = False,
        head_scale: bool = True,
        init: Scheme = "fan_in",
        z_loss: float = 0.0,
        compile: bool = False,
        optimizer: Optimiser | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(optimizer, schedule)
        self.network = Seq2Seq(
            encoder,
            decoder,
            vocab_size,
            tied=tied,
            embed_scale=embed_scale,
            head_scale=head_scale,
            init=init,
            ends=ends,
            **self.marks(pad=pad, start=start, end=end),
        )
        self.z_loss = z_loss
        if compile:
            self.compile_stacks()

    def on_test_epoch_end(self) -> None:
        found: Any = self.trainer.callback_metrics
        nll, accuracy = float(found["test/nll"]), float(found["test/accuracy"])
        self.report({"nll": nll, "perplexity": math.exp(nll), "accuracy": accuracy})
