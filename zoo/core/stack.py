"""A stack of blocks: from embedded tokens to states, both "t d". Axes: t tokens, s context tokens, d model width."""

from typing import cast

import torch
from torch import Tensor, nn

from zoo.core.absent import same
from zoo.core.block import Block
from zoo.core.cache import STATELESS, Cache, LayerState
from zoo.core.config import StackConfig
from zoo.core.dropout import Dropout
from zoo.core.layout import Layout
from zoo.core.mixer import Frame


class Stack(nn.Module):
    """`depth` blocks with a position scheme and norms at both ends. An encoder and a decoder are two of these."""

    def __init__(self, config: StackConfig):
        super().__init__()
        self.config = config
        self.position = config.position.build(config)
        self.embed_norm = config.embed_norm.build(config.dim)
        self.dropout = Dropout(config.dropout) if config.dropout else same
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.depth))
        self.final_norm = config.final_norm.build(config.dim)

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        *,
        context: Tensor | None = None,
        context_layout: Layout | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Embedded tokens "t d" to their states "t d".

        `context` "s d" is what cross attention looks at, with its layout: as many sequences as `layout` has, or fewer
        of which each serves several sequences in a row (beams). With a `cache` the tokens continue what it holds.
        ValueError where a context is missing or not expected, or tokens are not as their layout says.
        """
        self._check("x", x, layout)
        if context is not None and context_layout is not None:
            self._check("context", context, context_layout)
        held = cache is not None and cache.filled and context is None  # a cache keeps what was made of a context
        check_context(self.config.cross, context_layout if held else context, context_layout)
        if cache is None:
            keys, writing, states = layout, None, [STATELESS] * len(self.blocks)
        else:
            (keys, writing), states = cache.open(layout), cache.states
        frame = Frame(
            layout=layout,
            keys=keys,
            position=self.position,
            prepared=self.position.prepare(layout, keys),
            context=context,
            context_layout=context_layout,
            writing=writing,
        )
        x = self.dropout(self.embed_norm(self.position.embed(x, layout)))
        for block, state in zip(self.blocks, states, strict=True):
            x = block(x, frame, state)
        if cache is not None:
            cache.close(keys)
        out: Tensor = self.final_norm(x)
        return out

    def _check(self, name: str, x: Tensor, layout: Layout) -> None:
        """ValueError where tokens are not flat, not embedded, or not those of their layout."""
        if x.shape != (layout.tokens, self.config.dim):
            raise ValueError(
                f"{name} is of shape {tuple(x.shape)}, expected ({layout.tokens}, {self.config.dim}) by its layout: "
                "embedded tokens lie flat, (tokens, dim), without padding; layout.take(rows, keep) takes them from rows"
            )

    def new_states(self, batch: int, capacity: int) -> list[LayerState]:
        """Empty states for a cache, one per layer. ValueError where the stack looks ahead: nothing can be continued."""
        if not self.config.causal:
            raise ValueError("only a causal stack can go on from a cache: here every token looks at later ones too")
        first = next(self.parameters())
        like = torch.empty(0, dtype=first.dtype, device=first.device)  # plain, where parameters are sharded too
        return [cast(Block, block).new_state(batch, capacity, like) for block in self.blocks]


def check_context(cross: bool, *given: object) -> None:
    """ValueError where a context is missing or not expected. `given`: the context and its layout, None where not."""
    if cross and any(part is None for part in given):
        raise ValueError("a stack with cross attention needs a context, its states and their layout")
    if not cross and any(part is not None for part in given):
        raise ValueError("a stack without cross attention looks at no context: leave it out, or set cross=True")
