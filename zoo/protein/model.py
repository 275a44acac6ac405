"""Protein models: residues in, scores of tokens, labels or values out; between them the core. No Lightning here.

Axes: b sequences, n positions (start and end included), t real tokens, d width, v vocabulary, c outputs, l layers,
h heads.

ProteinLM is ESM-2's language model (Lin et al. 2023): a table of tokens, token dropout, a stack, BERT's head over the
same table. With a causal stack it reads from left to right, without token dropout and with the plain head, and can
write. Its trunk (all before the head) is what ResidueModel and SequenceModel put a linear map on.
"""

import torch
from torch import Tensor, nn

from zoo.core import Cache, Layout, Network, Stack, StackConfig
from zoo.core.head import TransformHead
from zoo.core.init import Scheme, initialise
from zoo.core.linear import Linear
from zoo.core.network import arguments
from zoo.core.pool import Mean, Pool
from zoo.core.writer import Writer
from zoo.protein.contacts import ContactRegression
from zoo.protein.tokens import Residues

MEAN = Mean()
TRAINED = 0.12  # of all tokens that are shown as the mask in training: 80 % of the 15 % that are predicted


class TokenDropout(nn.Module):
    """Embeddings of mask tokens zeroed, the others scaled so that their sum does not tell how many were masked.

    x (1 - 0.12) / (1 - share of this sequence's tokens that are the mask): ESM-2's code, Lin et al. 2023.
    """

    def __init__(self, mask: int):
        super().__init__()
        self.mask = mask

    def forward(self, x: Tensor, tokens: Tensor, layout: Layout) -> Tensor:
        """Embeddings "t d" of `tokens` "t"."""
        masked = tokens == self.mask
        rows = layout.pad(masked.to(x.dtype))
        length = rows.shape[1] if layout.lengths is None else layout.lengths
        # a sequence of nothing but masks is all zero, whatever it is divided by
        shown = (1 - rows.sum(1) / length).clamp(min=torch.finfo(x.dtype).tiny)
        return x.masked_fill(masked.unsqueeze(-1), 0) * layout.spread((1 - TRAINED) / shown).unsqueeze(-1)


class NoTokenDropout(nn.Module):
    def forward(self, x: Tensor, tokens: Tensor, layout: Layout) -> Tensor:
        return x


class Trunk(nn.Module):
    """Tokens to states: the table, token dropout, the stack."""

    def __init__(self, stack: StackConfig, vocab_size: int, *, token_dropout: bool):
        super().__init__()
        if stack.cross:
            raise ValueError("a protein model looks at no context: leave cross unset")
        if stack.causal and token_dropout:
            raise ValueError("token dropout counts the masks of the whole sequence: a causal stack takes none")
        self.embedding = nn.Embedding(vocab_size, stack.dim)
        self.token_dropout = TokenDropout(Residues.mask) if token_dropout else NoTokenDropout()
        self.stack = Stack(stack)

    def forward(self, ids: Tensor, keep: Tensor | None = None, cache: Cache | None = None) -> tuple[Tensor, Layout]:
        """Ids "b n" (True in `keep` = real token) to states "t d" of the real tokens, with their layout."""
        layout = Layout.of(ids, keep) if cache is None else cache.next(ids.shape[1], keep, ids.device)
        tokens = layout.take(ids, keep)
        x = self.token_dropout(self.embedding(tokens), tokens, layout)
        return self.stack(x, layout, cache=cache), layout


class ProteinLM(Writer):
    """A language model of proteins, masked or (with a causal stack) from left to right.

    `tied`: the output map is the table of tokens. ValueError for token dropout in a causal stack.
    """

    start, end = Residues.cls, Residues.end

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: int = Residues.vocab_size,
        *,
        token_dropout: bool = True,
        tied: bool = True,
        init: Scheme = "normal",
    ):
        super().__init__()
        self.settings = arguments(locals())
        self.trunk = Trunk(stack, vocab_size, token_dropout=token_dropout)
        self.head: Linear | TransformHead = (
            Linear(stack.dim, vocab_size, bias=False)
            if stack.causal
            else TransformHead(stack.dim, vocab_size, activation="gelu", norm=stack.norm)
        )
        self.contacts = ContactRegression(stack.depth * stack.heads)
        initialise(self, init)
        if tied:
            last = self.head.out if isinstance(self.head, TransformHead) else self.head
            last.weight = self.trunk.embedding.weight

    @property
    def stack(self) -> Stack:  # type: ignore[override]
        return self.trunk.stack

    @property
    def causal(self) -> bool:
        return self.stack.config.causal

    def hidden(self, ids: Tensor, keep: Tensor | None = None, cache: Cache | None = None) -> tuple[Tensor, Layout]:
        """States "t d" of the real tokens of "b n" before the head, with their layout."""
        return self.trunk(ids, keep, cache)

    def forward(self, ids: Tensor, keep: Tensor | None = None) -> Tensor:
        """Ids "b n" (True in `keep` = real token) to logits "b n v", zero at padding: of each token, or (causal) of
        the one after."""
        states, layout = self.hidden(ids, keep)
        return layout.give(self.head(states), keep)


class ResidueModel(Network):
    """One of `classes` labels for every residue: a trunk and a linear map."""

    def __init__(
        self,
        stack: StackConfig,
        classes: int,
        vocab_size: int = Residues.vocab_size,
        *,
        token_dropout: bool = False,
        init: Scheme = "normal",
    ):
        super().__init__()
        self.settings = arguments(locals())
        self.trunk = Trunk(stack, vocab_size, token_dropout=token_dropout)
        self.head = Linear(stack.dim, classes)
        initialise(self, init)

    def hidden(self, ids: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Layout]:
        """States "t d" of the real tokens of "b n" before the head, with their layout."""
        return self.trunk(ids, keep)

    def forward(self, ids: Tensor, keep: Tensor | None = None) -> Tensor:
        """Ids "b n" to scores "b n c" of each token's label, zero at padding."""
        states, layout = self.hidden(ids, keep)
        return layout.give(self.head(states), keep)


class SequenceModel(Network):
    """Values or a class of a whole sequence: a trunk, one state of a sequence's states, a linear map to `outputs`.

    `centre` and `spread` are those of the values it is trained on: what the map gives is in units of the spread.
    """

    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        stack: StackConfig,
        outputs: int = 1,
        vocab_size: int = Residues.vocab_size,
        *,
        pool: Pool = MEAN,
        token_dropout: bool = False,
        init: Scheme = "normal",
    ):
        super().__init__()
        self.settings = arguments(locals())
        self.trunk = Trunk(stack, vocab_size, token_dropout=token_dropout)
        self.pool = pool.build(stack)
        self.head = Linear(stack.dim, outputs)
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))
        initialise(self, init)

    def scale_to(self, centre: float, spread: float) -> None:
        """Give values of this mean and standard deviation from now on. ValueError where they do not vary."""
        if not spread > 0:
            raise ValueError("the values to learn are all the same")
        self.centre.fill_(centre)
        self.spread.fill_(spread)

    def hidden(self, ids: Tensor, keep: Tensor | None = None) -> Tensor:
        """One state of each sequence before the head: "b d"."""
        state: Tensor = self.pool(*self.trunk(ids, keep))
        return state

    def forward(self, ids: Tensor, keep: Tensor | None = None) -> Tensor:
        """Ids "b n" (True in `keep` = real token) to "b c"."""
        scores: Tensor = self.head(self.hidden(ids, keep))
        return scores * self.spread + self.centre
