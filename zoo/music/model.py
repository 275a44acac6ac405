"""A language model of music: one stream of tokens, or several codebooks at once. No Lightning here.

Axes: b sequences, n positions, t real tokens, k codebooks, m positions of a context, c its width, d width,
v vocabulary.

The decoder of Huang et al. 2019 (Music Transformer) with one stream, of Copet et al. 2023 (MusicGen, section 2.2) with
several: the embeddings of a position's codebooks are summed, and every codebook has a head of its own.
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from zoo.core import Cache, Layout, Stack, StackConfig
from zoo.core.init import Scheme, initialise
from zoo.core.linear import Linear
from zoo.core.network import arguments
from zoo.core.writer import Context, Writer


class MusicLM(Writer):
    """A causal model of music over tokens 0 to v - 1, and v itself, which is read and never written.

    With one codebook ids are "b n" and v is the start of a piece; with k of them codes are "b k n" and v stands where a
    pattern (zoo/music/codebooks.py) has no code yet. With `cross` in the stack it looks at states "b m c" given as
    `context`; `context_dim` (c) puts a linear map before them, None takes them as they are (c = d). `embed_scale`:
    embeddings are multiplied by sqrt(d). `end`: the token that ends a piece, None where pieces have no end.
    ValueError where the settings do not fit each other.
    """

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: int,
        *,
        codebooks: int = 1,
        context_dim: int | None = None,
        embed_scale: bool = False,
        end: int | None = None,
        init: Scheme = "normal",
    ):
        super().__init__()
        self.settings = arguments(locals())
        if not stack.causal:
            raise ValueError("music is written from left to right: set causal")
        if codebooks < 1:
            raise ValueError(f"codebooks ({codebooks}) must be at least 1")
        if context_dim is not None and not stack.cross:
            raise ValueError("context_dim is the width of what cross attention looks at: set cross, or leave it unset")
        if codebooks > 1 and end is not None:
            raise ValueError("codebooks end together, by length: leave end unset")
        self.codebooks, self.vocab_size, self.end = codebooks, vocab_size, end
        self.start = vocab_size  # the token that is read and never written
        self.stack = Stack(stack)
        self.embedding = Tables(codebooks, vocab_size + 1, stack.dim)
        self.project = nn.Identity() if context_dim is None else Linear(context_dim, stack.dim)
        self.head = Heads(codebooks, stack.dim, vocab_size)
        self.scale = math.sqrt(stack.dim) if embed_scale else 1.0
        initialise(self, init, std=1 / math.sqrt(stack.dim) if embed_scale else 0.02)

    def look(self, context: Tensor, context_keep: Tensor | None = None) -> Context:
        """States "b m c" to look at (True in `context_keep` = real state), brought to the model's width."""
        found = super().look(context, context_keep)
        return Context(self.project(found.states), found.layout)

    def hidden(
        self, ids: Tensor, keep: Tensor | None = None, cache: Cache | None = None, context: Context | None = None
    ) -> tuple[Tensor, Layout]:
        """States "t d" of the real tokens of "b n" or "b k n" before the head, with their layout."""
        expected = 2 if self.codebooks == 1 else 3
        if ids.dim() != expected or (expected == 3 and ids.shape[1] != self.codebooks):
            axes = "b n" if expected == 2 else f"b {self.codebooks} n"
            raise ValueError(f'this model reads tokens "{axes}", got the shape {tuple(ids.shape)}')
        rows = ids.unsqueeze(-1) if expected == 2 else rearrange(ids, "b k n -> b n k")
        layout = Layout.of(rows, keep) if cache is None else cache.next(rows.shape[1], keep, rows.device)
        x = self.embedding(layout.take(rows, keep)) * self.scale
        if context is None:
            return self.stack(x, layout, cache=cache), layout
        return self.stack(x, layout, context=context.states, context_layout=context.layout, cache=cache), layout

    def forward(
        self,
        ids: Tensor,
        keep: Tensor | None = None,
        context: Tensor | None = None,
        context_keep: Tensor | None = None,
    ) -> Tensor:
        """Ids "b n" to scores of the token after each, "b n v"; codes "b k n" to "b k n v". Zero at padding.

        `keep` "b n" and `context_keep` "b m" are True where something real stands.
        """
        found = None if context is None else self.look(context, context_keep)
        states, layout = self.hidden(ids, keep, context=found)
        scores = layout.give(self.head(states), keep)
        return scores if self.codebooks == 1 else rearrange(scores, "b n k v -> b k n v")


class Tables(nn.Embedding):
    """The sum of k tables of `rows` rows each: tokens "t k" to "t d". Row i of table j is row j * rows + i."""

    def __init__(self, codebooks: int, rows: int, dim: int):
        super().__init__(codebooks * rows, dim)
        self.rows = rows

    def forward(self, ids: Tensor) -> Tensor:
        # no buffer: what a file does not hold stays empty where a network is made without memory first
        first = torch.arange(0, self.num_embeddings, self.rows, device=ids.device)
        return super().forward(ids + first).sum(-2)


class Heads(Linear):
    """k maps to v scores each, as one product: "t d" to "t k v", or to "t v" where there is one."""

    def __init__(self, codebooks: int, dim: int, vocab_size: int):
        super().__init__(dim, codebooks * vocab_size, bias=False)
        self.codebooks = codebooks

    def forward(self, x: Tensor) -> Tensor:
        scores = super().forward(x)
        return scores if self.codebooks == 1 else rearrange(scores, "... (k v) -> ... k v", k=self.codebooks)
