"""Going on with what was read: what the language models of every domain share.

Axes: b sequences, n positions, t real tokens, v vocabulary; a token may have further axes of its own (codebooks), which
then stand before n.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.core.cache import Cache
from zoo.core.decode import GREEDY, Constraint, Sampling, stream
from zoo.core.layout import Layout
from zoo.core.network import Network
from zoo.core.stack import Stack
from zoo.errors import UserError


class Writer(Network):
    """A network that reads tokens from left to right through a causal `stack`, and can go on with them.

    Subclasses give `stack`, `head` (states "t d" to scores "t ... v"), `end` (the token that ends a sequence, or None)
    and `hidden`.
    """

    stack: Stack
    head: nn.Module
    end: int | None

    def hidden(self, ids: Tensor, keep: Tensor | None = None, cache: Cache | None = None) -> tuple[Tensor, Layout]:
        """States "t d" of the real tokens of "b ... n" (`keep`: "b n") before the head, with their layout.

        With a `cache` they go on from what it holds.
        """
        raise NotImplementedError

    @torch.no_grad()
    def stream(
        self,
        prompts: Tensor,
        keep: Tensor | None = None,
        *,
        length: int,
        sampling: Sampling = GREEDY,
        constraint: Constraint | None = None,
    ) -> Iterator[Tensor]:
        """Tokens "b ..." as they are chosen, at most `length`, after prompts "b ... n" (padding in them on any side).

        UserError where prompt and `length` together are more than the model can place.
        """
        room, longest = prompts.shape[-1] + length, self.stack.position.longest
        if longest is not None and room > longest:
            raise UserError(
                f"{prompts.shape[-1]} tokens of prompt and {length} to write: the model can place {longest}"
            )
        if keep is not None and not bool(keep.any(-1).all()):
            raise UserError("a prompt without any token cannot be gone on with")
        continuing = Continuing(self, Cache(self.stack, len(prompts), room))
        states, layout = self.hidden(prompts, keep, continuing.cache)
        scores = self.head(layout.last(states))
        yield from stream(continuing, scores, length=length, end=self.end, sampling=sampling, constraint=constraint)

    def generate(
        self,
        prompts: Tensor,
        keep: Tensor | None = None,
        *,
        length: int,
        sampling: Sampling = GREEDY,
        constraint: Constraint | None = None,
    ) -> Tensor:
        """What `stream` chooses, together: "b ... m"."""
        steps = list(self.stream(prompts, keep, length=length, sampling=sampling, constraint=constraint))
        return torch.stack(steps, -1)


@dataclass(eq=False)
class Continuing:
    """A writer in the middle of writing: the `Step` of zoo.core.decode."""

    writer: Writer
    cache: Cache

    def __call__(self, tokens: Tensor) -> Tensor:
        states, _ = self.writer.hidden(tokens.unsqueeze(-1), cache=self.cache)
        scores: Tensor = self.writer.head(states)
        return scores

    def reorder(self, rows: Tensor) -> None:
        self.cache.reorder(rows)
