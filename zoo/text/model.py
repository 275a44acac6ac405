"""Text models: tokens in, logits out; between them the core. No Lightning here.

Axes: b sequences, n target positions, m source positions, t real tokens of the target, s of the source, d width,
v vocabulary.

Seq2Seq is the encoder-decoder of Vaswani et al. 2017: embeddings times sqrt(d) (section 3.4), shared between source,
target and output where wanted; all else is in the two stacks' settings. CausalLM is the decoder of Radford et al. 2019
(GPT-2): one causal stack between a table of tokens and the map back to them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.core import Cache, Layout, Network, Stack, StackConfig
from zoo.core.decode import GREEDY, Constraint, Hypothesis, Sampling, barring, beam_search, generate, stop_tokens
from zoo.core.init import Scheme, initialise
from zoo.core.linear import Linear
from zoo.core.network import arguments, unrecorded
from zoo.core.writer import Writer


def shifted_right(labels: Tensor, start: int) -> Tensor:
    """What a decoder reads as it writes `labels` "b n" (Vaswani et al. 2017, figure 1)."""
    return torch.cat([torch.full_like(labels[:, :1], start), labels[:, :-1]], 1)


class Seq2Seq(Network):
    """An encoder-decoder over token ids. ValueError where the stacks do not fit each other: they have one `dim`, and
    the decoder alone is `causal` and `cross`.

    `share_embeddings`: source and target have one vocabulary and one table. `tied`: the output map is the target's
    table. `embed_scale`: embeddings are multiplied by sqrt(d); `head_scale`: states are divided by it before the output
    map (Raffel et al. 2020's code, where that map is tied). `start` may be `pad` (T5, Marian). `ends`: the tokens at
    which writing stops, besides `end` if that is not among them. `unwritten`: tokens that `generate` never writes,
    whatever their scores.
    """

    def __init__(
        self,
        encoder: StackConfig,
        decoder: StackConfig,
        vocab_size: int,
        *,
        source_vocab_size: int | None = None,
        share_embeddings: bool = True,
        tied: bool = True,
        embed_scale: bool = True,
        head_scale: bool = False,
        head_bias: bool = False,
        pad: int = 0,
        start: int = 1,
        end: int = 2,
        ends: tuple[int, ...] = (),
        unwritten: tuple[int, ...] = (),
        init: Scheme = "xavier",
    ):
        super().__init__()
        self.settings = arguments(locals())
        if encoder.causal or encoder.cross:
            raise ValueError("the encoder reads the whole source: it must be neither causal nor cross")
        if not (decoder.causal and decoder.cross):
            raise ValueError("the decoder writes from left to right and looks at the source: set causal and cross")
        if encoder.dim != decoder.dim:
            raise ValueError(f"encoder ({encoder.dim}) and decoder ({decoder.dim}) must have the same dim")
        if share_embeddings and source_vocab_size not in (None, vocab_size):
            raise ValueError(f"shared embeddings need one vocabulary, got {source_vocab_size} and {vocab_size} tokens")
        self.pad, self.start, self.end, self.ends, self.unwritten = pad, start, end, ends, unwritten
        if bad := [token for token in unwritten if not 0 <= token < vocab_size or token in self.stops]:
            said = f"tokens are 0 to {vocab_size - 1}, and {', '.join(map(str, self.stops))} end texts"
            raise ValueError(f"unwritten holds {bad[0]}: {said}")
        self.encoder, self.decoder = Stack(encoder), Stack(decoder)
        self.target_embedding = nn.Embedding(vocab_size, decoder.dim)
        self.source_embedding = (
            self.target_embedding if share_embeddings else nn.Embedding(source_vocab_size or vocab_size, encoder.dim)
        )
        self.head = Linear(decoder.dim, vocab_size, bias=head_bias)
        self.scale = math.sqrt(decoder.dim) if embed_scale else 1.0
        self.head_scale = 1 / math.sqrt(decoder.dim) if head_scale else 1.0
        initialise(self, init, std=1 / math.sqrt(decoder.dim) if embed_scale else 0.02)
        if tied:
            self.head.weight = self.target_embedding.weight

    @property
    def stops(self) -> tuple[int, ...]:
        """The tokens at which writing stops."""
        return stop_tokens(self.end, self.ends)

    def encode(self, source: Tensor, source_keep: Tensor | None = None) -> tuple[Tensor, Layout]:
        """Source ids "b m" (True in `source_keep` = real token) to states "s d" and their layout."""
        layout = Layout.of(source, source_keep)
        x = self.source_embedding(layout.take(source, source_keep)) * self.scale
        return self.encoder(x, layout), layout

    def hidden(
        self,
        source: Tensor,
        target: Tensor,
        source_keep: Tensor | None = None,
        target_keep: Tensor | None = None,
    ) -> tuple[Tensor, Layout]:
        """States "t d" of the real target tokens before the head, with their layout: what a loss needs.

        What `encode` and `decode` give one after the other, but for the tables: see `_embed`.
        """
        reading, layout = Layout.of(source, source_keep), Layout.of(target, target_keep)
        x, y = self._embed(reading.take(source, source_keep), layout.take(target, target_keep))
        context = self.encoder(x * self.scale, reading)
        return self._decode(y, layout, context, reading), layout

    def _embed(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of both sides "s" and "t" to rows of their tables, "s d" and "t d". A table that they share is looked
        into once: for each look it would get a gradient of its own size."""
        if self.source_embedding is not self.target_embedding:
            return self.source_embedding(source), self.target_embedding(target)
        x, y = self.target_embedding(torch.cat((source, target))).split((len(source), len(target)))
        return x, y

    def decode(
        self, tokens: Tensor, layout: Layout, context: Tensor, context_layout: Layout, cache: Cache | None = None
    ) -> Tensor:
        """Target tokens "t" to the states "t d" that the head maps."""
        return self._decode(self.target_embedding(tokens), layout, context, context_layout, cache)

    def _decode(
        self, y: Tensor, layout: Layout, context: Tensor, context_layout: Layout, cache: Cache | None = None
    ) -> Tensor:
        states = self.decoder(y * self.scale, layout, context=context, context_layout=context_layout, cache=cache)
        return states * self.head_scale

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        source_keep: Tensor | None = None,
        target_keep: Tensor | None = None,
    ) -> Tensor:
        """Source ids "b m" and the decoder's input "b n" (first `start`) to logits "b n v", zero at padding."""
        states, layout = self.hidden(source, target, source_keep, target_keep)
        return layout.give(self.head(states), target_keep)

    def generate(
        self,
        source: Tensor,
        source_keep: Tensor | None = None,
        *,
        length: int,
        beams: int = 1,
        length_penalty: float = 1.0,
        nbest: int = 1,
        sampling: Sampling = GREEDY,
        constraint: Constraint | None = None,
    ) -> list[list[Hypothesis]]:
        """At most `length` tokens (and no more than the decoder can place) for each source "b m": `nbest` hypotheses,
        best first.

        With one beam `sampling` draws (greedy unless told otherwise), and scores are not kept: they are 0. `constraint`
        sees the tokens written so far, without `start`. ValueError where these do not go together.
        """
        if min(beams, length) < 1:
            raise ValueError(f"beams ({beams}) and length ({length}) must be at least 1")
        if not 1 <= nbest <= beams:
            raise ValueError(
                f"nbest ({nbest}) must be between 1 and beams ({beams}); to draw several, repeat the source"
            )
        if beams > 1 and sampling.temperature > 0:
            raise ValueError(f"{beams} beams search and do not draw: leave sampling out, or give beams=1")
        if self.decoder.position.longest is not None:
            length = min(length, self.decoder.position.longest)
        if self.unwritten:
            constraint = barring(self.unwritten, constraint)
        with unrecorded():
            step, scores = Seq2SeqStep.begin(self, source, source_keep, length)
            if beams > 1:
                return beam_search(
                    step,
                    scores,
                    beams=beams,
                    length=length,
                    ends=self.stops,
                    length_penalty=length_penalty,
                    nbest=nbest,
                    constraint=constraint,
                )
            drawn = generate(step, scores, length=length, ends=self.stops, sampling=sampling, constraint=constraint)
        return [[Hypothesis(row.tolist(), 0.0, 0.0)] for row in drawn]


@dataclass(eq=False)
class Seq2SeqStep:
    """A Seq2Seq in the middle of writing: the `Step` of zoo.core.decode."""

    model: Seq2Seq
    context: Tensor
    context_layout: Layout
    cache: Cache

    @classmethod
    def begin(
        cls, model: Seq2Seq, source: Tensor, source_keep: Tensor | None, length: int
    ) -> tuple["Seq2SeqStep", Tensor]:
        """Read the sources; give the writing and the scores "b v" of the first token."""
        context, layout = model.encode(source, source_keep)
        writing = cls(model, context, layout, Cache(model.decoder, len(source), length))
        return writing, writing(torch.full_like(source[:, 0], model.start))

    def __call__(self, tokens: Tensor) -> Tensor:
        layout = self.cache.next(device=tokens.device)
        states = self.model.decode(tokens, layout, self.context, self.context_layout, self.cache)
        scores: Tensor = self.model.head(states)
        return scores

    def reorder(self, rows: Tensor) -> None:
        self.cache.reorder(rows)


class CausalLM(Writer):
    """A language model that reads from left to right. ValueError where the stack is not causal or looks at a context.

    `tied`: the output map is the table of embeddings. `embed_scale`: embeddings are multiplied by sqrt(d). `start` and
    `end`: the tokens that texts begin and end with, None where they do not. `ends`: the tokens at which writing stops
    (the end of a turn), besides `end` if that is not among them; ValueError where there are some and no `end`.
    """

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: int,
        *,
        tied: bool = True,
        embed_scale: bool = False,
        head_bias: bool = False,
        start: int | None = None,
        end: int | None = None,
        ends: tuple[int, ...] = (),
        init: Scheme = "normal",
    ):
        super().__init__()
        self.settings = arguments(locals())
        if not stack.causal or stack.cross:
            raise ValueError("a language model reads the past alone: set causal, and leave cross unset")
        if ends and end is None:
            raise ValueError(f"ends {ends} are tokens that end a text: set end too")
        self.start, self.end, self.ends = start, end, ends
        self.stack = Stack(stack)
        self.embedding = nn.Embedding(vocab_size, stack.dim)
        self.head = Linear(stack.dim, vocab_size, bias=head_bias)
        self.scale = math.sqrt(stack.dim) if embed_scale else 1.0
        initialise(self, init, std=1 / math.sqrt(stack.dim) if embed_scale else 0.02)
        if tied:
            self.head.weight = self.embedding.weight

    def hidden(self, ids: Tensor, keep: Tensor | None = None, cache: Cache | None = None) -> tuple[Tensor, Layout]:
        """States "t d" of the real tokens of "b n" before the head, with their layout."""
        layout = Layout.of(ids, keep) if cache is None else cache.next(ids.shape[1], keep, ids.device)
        return self.stack(self.embedding(layout.take(ids, keep)) * self.scale, layout, cache=cache), layout

    def forward(self, ids: Tensor, keep: Tensor | None = None) -> Tensor:
        """Ids "b n" (True in `keep` = real token) to logits of the token after each, "b n v", zero at padding."""
        states, layout = self.hidden(ids, keep)
        return layout.give(self.head(states), keep)
