"""Going on with what was read: what the language models of every domain share.

Axes: b sequences, n positions, t real tokens, m positions of a context, s its real states, v vocabulary; a token may
have further axes of its own (codebooks), which then stand before n.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from zoo.core.cache import Cache
from zoo.core.decode import GREEDY, Constraint, Sampling, stop_tokens, stream
from zoo.core.layout import Layout, check_rows
from zoo.core.network import Network, unrecorded
from zoo.core.stack import Stack, check_context
from zoo.errors import UserError


@dataclass(frozen=True, eq=False)
class Context:
    """What a stack with cross attention looks at: real states "s d" and their layout."""

    states: Tensor
    layout: Layout


class Writer(Network):
    """A network that reads tokens from left to right through a causal `stack`, and can go on with them.

    Subclasses give `stack`, `head` (states "t d" to scores "t ... v"), `end` (the token that ends a sequence, or None),
    `ends` where further tokens do, and `hidden`. Where the stack looks at a context, `hidden` takes it as `context`,
    made by `look`.
    """

    stack: Stack
    head: nn.Module
    end: int | None
    ends: tuple[int, ...] = ()

    @property
    def stops(self) -> tuple[int, ...]:
        """The tokens at which writing stops; a sequence that has ended is filled up with the first."""
        return stop_tokens(self.end, self.ends)

    def hidden(self, ids: Tensor, keep: Tensor | None = None, cache: Cache | None = None) -> tuple[Tensor, Layout]:
        """States "t d" of the real tokens of "b ... n" (`keep`: "b n") before the head, with their layout.

        With a `cache` they go on from what it holds.
        """
        raise NotImplementedError

    def look(self, context: Tensor, context_keep: Tensor | None = None) -> Context:
        """States "b m d" to look at (True in `context_keep` = real state) as `hidden` takes them."""
        layout = Layout.of(context, context_keep)
        return Context(layout.take(context, context_keep), layout)

    def stream(
        self,
        prompts: Tensor,
        keep: Tensor | None = None,
        *,
        length: int,
        sampling: Sampling = GREEDY,
        constraint: Constraint | None = None,
        context: Tensor | None = None,
        context_keep: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Tokens "b ..." as they are chosen, at most `length`, after prompts "b ... n" (padding in them on any side).

        `context`: "b m d", what a stack with cross attention looks at, with True in `context_keep` for a real state.
        UserError where prompt and `length` together are more than the model can place, ValueError where a context is
        missing or not expected.
        """
        check_rows(prompts)
        check_context(self.stack.config.cross, context)
        given = prompts.shape[-1] if keep is None else int(keep.sum(-1).max())
        longest = self.stack.position.longest
        if longest is not None and given + length - 1 > longest:  # the last token is written, and not read again
            raise UserError(f"{given} tokens of prompt and {length} to write: the model can place {longest}")
        if not given or (keep is not None and not bool(keep.any(-1).all())):
            raise UserError("the prompt is empty: give at least one token")

        def write() -> Iterator[Tensor]:
            hidden: Reading = self.hidden
            if context is not None:
                hidden = partial(hidden, context=self.look(context, context_keep))
            continuing = Continuing(hidden, self.head, Cache(self.stack, len(prompts), given + length))
            states, layout = hidden(prompts, keep, cache=continuing.cache)
            scores = self.head(layout.last(states))
            yield from stream(
                continuing,
                scores,
                length=length,
                ends=self.stops,
                sampling=sampling,
                constraint=constraint,
            )

        for tokens in unrecorded()(write)():
            yield tokens.clone()  # a tensor of inference could not be trained on

    def generate(
        self,
        prompts: Tensor,
        keep: Tensor | None = None,
        *,
        length: int,
        sampling: Sampling = GREEDY,
        constraint: Constraint | None = None,
        context: Tensor | None = None,
        context_keep: Tensor | None = None,
    ) -> Tensor:
        """What `stream` chooses, together: new tokens "b ... m", m at most `length`, without the prompts.

        A sequence that has ended is filled up with the first of `stops`.
        """
        steps = self.stream(
            prompts,
            keep,
            length=length,
            sampling=sampling,
            constraint=constraint,
            context=context,
            context_keep=context_keep,
        )
        written = list(steps)
        return torch.stack(written, -1) if written else prompts[..., :0]


Reading = Callable[..., tuple[Tensor, Layout]]  # a writer's `hidden`, which may have been given its context already


@dataclass(eq=False)
class Continuing:
    """A writer in the middle of writing: the `Step` of zoo.core.decode."""

    hidden: Reading
    head: nn.Module
    cache: Cache

    def __call__(self, tokens: Tensor) -> Tensor:
        states, _ = self.hidden(tokens.unsqueeze(-1), cache=self.cache)
        scores: Tensor = self.head(states)
        return scores

    def reorder(self, rows: Tensor) -> None:
        self.cache.reorder(rows)
