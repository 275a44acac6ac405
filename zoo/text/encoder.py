"""Text models that read a whole text at once: MaskedLM and TextClassifier on one trunk. No Lightning here.

Axes: b texts, n positions, t real tokens, d width, v vocabulary or classes.

A trunk is a table of tokens (with a table of segments beside it where wanted) under a stack that looks both ways. On
it, MaskedLM has the head of Devlin et al. 2019 (BERT); TextClassifier pools a text's states into one and maps it to
classes. What one has learned the other can begin with: the trunk's weights have the same names in both.
"""

import math

from torch import Tensor, nn

from zoo.core import First, Layout, Mean, Network, Pool, Stack, StackConfig, TransformHead
from zoo.core.dropout import Dropout
from zoo.core.feedforward import Activation
from zoo.core.init import Scheme, initialise
from zoo.core.linear import Linear
from zoo.core.network import arguments

FIRST, MEAN = First(), Mean()


class Trunk(nn.Module):
    """Token ids to states. ValueError where the stack looks at a context.

    `types`: segments that a token may belong to (0: it belongs to none); `embed_scale`: embeddings of tokens are
    multiplied by sqrt(d).
    """

    def __init__(self, stack: StackConfig, vocab_size: int, *, types: int, embed_scale: bool):
        super().__init__()
        if stack.cross:
            raise ValueError("these models read a text and nothing beside it: leave cross unset")
        self.embedding = nn.Embedding(vocab_size, stack.dim)
        self.segments = Segments(types, stack.dim) if types else NoSegments()
        self.scale = math.sqrt(stack.dim) if embed_scale else 1.0
        self.stack = Stack(stack)

    def forward(self, ids: Tensor, keep: Tensor | None = None, types: Tensor | None = None) -> tuple[Tensor, Layout]:
        """Ids "b n" (True in `keep` = real token; `types` "b n": segments, all 0 where not given) to states "t d"."""
        layout = Layout.of(ids, keep)
        segments = None if types is None else layout.take(types, keep)
        x = self.segments(self.embedding(layout.take(ids, keep)) * self.scale, segments)
        return self.stack(x, layout), layout


class Segments(nn.Module):
    """Adds the embedding of the segment that a token belongs to. Devlin et al. 2019, section 3."""

    def __init__(self, types: int, dim: int):
        super().__init__()
        self.embedding = nn.Embedding(types, dim)

    def forward(self, x: Tensor, types: Tensor | None) -> Tensor:
        return x + (self.embedding.weight[0] if types is None else self.embedding(types))


class NoSegments(nn.Module):
    def forward(self, x: Tensor, types: Tensor | None) -> Tensor:
        if types is not None:
            raise ValueError("this model knows no segments (types): leave them out")
        return x


class MaskedLM(Network):
    """A model that says what stood at each position: BERT. ValueError where the stack is causal or looks at a context.

    `types`: segments; `pool`: how `pooled` makes one state of a text's (BERT's own: Pooler); `activation`: of the head,
    whose norm is the stack's; `tied`: its last map is the table of embeddings.
    """

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: int,
        *,
        types: int = 0,
        pool: Pool = FIRST,
        activation: Activation = "gelu",
        tied: bool = True,
        head_bias: bool = True,
        embed_scale: bool = False,
        init: Scheme = "normal",
    ):
        super().__init__()
        self.settings = arguments(locals())
        if stack.causal:
            raise ValueError("a masked language model looks both ways: leave causal unset")
        self.trunk = Trunk(stack, vocab_size, types=types, embed_scale=embed_scale)
        self.pool = pool.build(stack)
        self.head = TransformHead(stack.dim, vocab_size, activation=activation, norm=stack.norm, bias=head_bias)
        initialise(self, init, std=1 / math.sqrt(stack.dim) if embed_scale else 0.02)
        if tied:
            self.head.out.weight = self.trunk.embedding.weight

    def hidden(self, ids: Tensor, keep: Tensor | None = None, types: Tensor | None = None) -> tuple[Tensor, Layout]:
        """States "t d" of the real tokens of "b n" before the head, with their layout."""
        states: tuple[Tensor, Layout] = self.trunk(ids, keep, types)
        return states

    def pooled(self, ids: Tensor, keep: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """One state for each text: "b d"."""
        out: Tensor = self.pool(*self.trunk(ids, keep, types))
        return out

    def forward(self, ids: Tensor, keep: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Ids "b n" (True in `keep` = real token) to logits of the token at each position, "b n v", 0 at padding."""
        states, layout = self.trunk(ids, keep, types)
        return layout.give(self.head(states), keep)


class TextClassifier(Network):
    """One of `classes` for a text. ValueError where its pooling takes a token that has not seen the text.

    `pool`: First takes a class token's state, which must then stand first; Pooler BERT's; Last that of a causal stack
    that has seen the text; the others those of all tokens. `dropout`: of the pooled state. `head_bias`: published
    classifiers by a causal stack have none, and what begins with a language model has as that has. The rest as for
    MaskedLM.
    """

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: int,
        classes: int,
        *,
        types: int = 0,
        pool: Pool = MEAN,
        dropout: float = 0.0,
        head_bias: bool = True,
        embed_scale: bool = False,
        init: Scheme = "normal",
    ):
        super().__init__()
        self.settings = arguments(locals())
        if stack.causal and pool.of_first():
            raise ValueError(
                f"the first token of a causal stack sees itself alone: {type(pool).__name__} cannot pool it (Last can)"
            )
        self.trunk = Trunk(stack, vocab_size, types=types, embed_scale=embed_scale)
        self.pool = pool.build(stack)
        self.dropout = Dropout(dropout)
        self.head = Linear(stack.dim, classes, bias=head_bias)
        initialise(self, init, std=1 / math.sqrt(stack.dim) if embed_scale else 0.02)

    def adapt(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """A CausalLM's table and stack are a trunk."""
        return {f"trunk.{n}" if n.startswith(("embedding.", "stack.")) else n: value for n, value in weights.items()}

    def hidden(self, ids: Tensor, keep: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """One state for each text before the head: "b d"."""
        out: Tensor = self.dropout(self.pool(*self.trunk(ids, keep, types)))
        return out

    def forward(self, ids: Tensor, keep: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Ids "b n" (True in `keep` = real token) to logits "b v" of the classes."""
        logits: Tensor = self.head(self.hidden(ids, keep, types))
        return logits
