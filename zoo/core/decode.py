"""Decoding: greedy, sampling and beam search over any model that can take a step. One loop for every domain.

Axes: b sequences, w beams of a sequence, v vocabulary; a token may have further axes of its own (codebooks).

What decodes gives `Step`: scores of the next token for the tokens just chosen, and `reorder`, which lets it go on with
chosen rows. How it remembers (a cache, nothing at all) is its own affair.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from einops import rearrange, repeat
from torch import Tensor

from zoo.errors import UserError

NO_NUMBERS = "the model's scores are not numbers (NaN, infinite): its weights, or what it computes with, are not either"


class Step(Protocol):
    """A model in the middle of writing."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """Take the tokens just chosen ("r ...") and score the next ones: "r ... v", logits or log probabilities."""
        ...

    def reorder(self, rows: Tensor) -> None:
        """Go on with these rows, which may be repeated."""
        ...


# Changes the scores of the next token, given all tokens so far: (tokens "r n ...", scores "r ... v") -> scores.
Constraint = Callable[[Tensor, Tensor], Tensor]


def barring(tokens: Sequence[int], then: Constraint | None = None) -> Constraint:
    """Under which these tokens are never chosen; of the others, what another constraint lets."""

    def barred(chosen: Tensor, scores: Tensor) -> Tensor:
        left = scores.clone()
        for token in tokens:  # few; a tensor of them would be copied to the device at every step
            left[..., token] = float("-inf")
        return left if then is None else then(chosen, left)

    return barred


def check_scores(scores: Tensor) -> None:
    """UserError where scores "... v" of next tokens are no finite numbers. A token may be ruled out by -inf, not all.

    Asked at every step: a sum costs a small part of what finding the best token does.
    """
    if math.isfinite(float(scores.sum(dtype=torch.float32))):  # one wait for the device
        return
    if not bool(scores.amax(-1).isfinite().all()):
        raise UserError(NO_NUMBERS)


def stop_tokens(end: int | None, others: Sequence[int]) -> tuple[int, ...]:
    """The tokens at which writing stops, each once: `end`, where there is one, comes first."""
    return tuple(dict.fromkeys([*([] if end is None else [end]), *others]))


def _are_ends(tokens: Tensor, ends: tuple[int, ...]) -> Tensor:
    """Which tokens are one of `ends`: few, and a tensor of them would be copied to the device at every step."""
    found = torch.zeros_like(tokens, dtype=torch.bool)
    for end in ends:
        found |= tokens == end
    return found


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How one token is drawn from its scores. ValueError where a number makes no sense.

    `temperature` 0 takes the best. Of the others, each cuts the distribution in turn: `top_k` best tokens; the fewest
    that hold `top_p` of the probability (Holtzman et al. 2020); those with at least `min_p` of the best one's
    probability (Nguyen et al. 2024). Equal seeds draw equal tokens on one device.
    """

    temperature: float = 1.0
    top_k: int = 0  # 0: all
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature != 0 and not 1e-30 <= self.temperature <= 1e30:  # scores stay finite in float32
            raise ValueError(f"temperature ({self.temperature}) must be at least 0: 0 itself, or 1e-30 to 1e30")
        if self.top_k < 0:
            raise ValueError(f"top_k ({self.top_k}) must be at least 0")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p ({self.top_p}) must be in (0, 1]")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p ({self.min_p}) must be in [0, 1]")
        if not -(2**63) <= self.seed < 2**64:
            raise ValueError(f"seed ({self.seed}) must be in [-2**63, 2**64)")

    def cut(self, scores: Tensor) -> Tensor:
        """Scores "... v" with temperature, and -inf for the tokens that may not be drawn."""
        scores = scores.float() / self.temperature
        if 0 < self.top_k < scores.shape[-1]:
            scores = scores.masked_fill(scores < scores.topk(self.top_k).values[..., -1:], float("-inf"))
        if self.top_p < 1:
            best, order = scores.sort(descending=True)
            held = best.softmax(-1)
            before = held.cumsum(-1) - held  # the best token has nothing before it, so it always stays
            drop = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= self.top_p)
            scores = scores.masked_fill(drop, float("-inf"))
        if self.min_p > 0:
            share = scores.softmax(-1)
            scores = scores.masked_fill(share < self.min_p * share.amax(-1, keepdim=True), float("-inf"))
        return scores

    def drawer(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """A function that draws tokens "..." from scores "... v", with a random state of its own."""
        if self.temperature == 0:
            return lambda scores: scores.max(-1).indices  # argmax takes longer on a CPU
        generator = torch.Generator(device).manual_seed(self.seed)

        def draw(scores: Tensor) -> Tensor:
            share = self.cut(scores).softmax(-1)
            drawn = torch.multinomial(share.flatten(0, -2), 1, generator=generator)
            return drawn.view(share.shape[:-1])

        return draw


GREEDY = Sampling(temperature=0.0)


def stream(
    step: Step,
    scores: Tensor,
    *,
    length: int,
    ends: tuple[int, ...] = (),
    sampling: Sampling = GREEDY,
    constraint: Constraint | None = None,
) -> Iterator[Tensor]:
    """Tokens "b ..." as they are chosen, at most `length`, until every sequence has chosen one of `ends`.

    `scores`: "b ... v", those of the first token. A sequence that has ended goes on as the first end. ValueError where
    the constraint bars every token of a sequence that has not, UserError where scores are no finite numbers.
    """
    draw = sampling.drawer(scores.device)
    chosen = torch.empty(len(scores), 0, *scores.shape[1:-1], dtype=torch.long, device=scores.device)
    ended = torch.zeros(scores.shape[:-1], dtype=torch.bool, device=scores.device)
    for count in range(length):
        check_scores(scores)
        if constraint is not None:
            scores = _to_draw(constraint(chosen, scores), ended, count)
        tokens = draw(scores)
        if ends:
            tokens = tokens.masked_fill(ended, ends[0])
            ended |= _are_ends(tokens, ends)
        yield tokens
        if count + 1 == length or (ends and bool(ended.all())):
            return
        if constraint is not None:
            chosen = torch.cat((chosen, tokens.unsqueeze(1)), 1)
        scores = step(tokens)


def _to_draw(scores: Tensor, ended: Tensor, count: int) -> Tensor:
    """Scores that a token can be drawn from, whatever a constraint has left where an end takes its place anyway."""
    top = scores.amax(-1)  # NaN where one of them is
    if math.isfinite(float(top.sum())):
        return scores
    stuck = top.isneginf()
    if not bool((stuck | top.isfinite()).all()):
        raise UserError(NO_NUMBERS)
    if bool((stuck & ~ended).any()):
        raise ValueError(f"the constraint leaves no token to choose as number {count + 1}")
    return scores.masked_fill(stuck.unsqueeze(-1), 0.0)


def generate(
    step: Step,
    scores: Tensor,
    *,
    length: int,
    ends: tuple[int, ...] = (),
    sampling: Sampling = GREEDY,
    constraint: Constraint | None = None,
) -> list[Tensor]:
    """What `stream` chooses, as one tensor "n ..." a sequence, without the steps that are all ends."""
    steps = list(stream(step, scores, length=length, ends=ends, sampling=sampling, constraint=constraint))
    if not steps:
        return [torch.empty(0, *scores.shape[1:-1], dtype=torch.long, device=scores.device) for _ in scores]
    tokens = torch.stack(steps, 1)
    real = ~_are_ends(tokens, ends)
    if tokens.dim() > 2:
        real = real.flatten(2).any(-1)
    return [row[: int(own.sum())] for row, own in zip(tokens, real, strict=True)]


@dataclass(frozen=True)
class Hypothesis:
    """One result of a beam search: its tokens without the end, the score that ranks it, its log probability."""

    tokens: list[int]
    score: float
    log_prob: float = field(compare=False)


def check_length_penalty(penalty: float, length: int) -> None:
    """ValueError where scores over `length` tokens would leave float32."""
    if not abs(penalty) * math.log10(max(length, 1)) <= 30:
        raise ValueError(
            f"length_penalty ({penalty}) is too much for {length} tokens: {length} ** {abs(penalty)} must be below 1e30"
        )


def beam_search(
    step: Step,
    scores: Tensor,
    *,
    beams: int,
    length: int,
    ends: tuple[int, ...] = (),
    length_penalty: float = 1.0,
    nbest: int = 1,
    constraint: Constraint | None = None,
) -> list[list[Hypothesis]]:
    """The `nbest` best hypotheses of each sequence, best first: log probability / tokens ** length_penalty.

    `scores`: "b v", those of the first token. A hypothesis ends with one of `ends`, and two may differ in that alone.
    Tokens count with their end, without prompt or padding. A hypothesis that reaches `length` tokens without an end
    counts as it is. A sentence is finished when none of its beams can still beat what it holds, so that the batch it
    stands in changes nothing. A beam that is barred from every token is left. ValueError where a number makes no
    sense, UserError where scores are no finite numbers.
    """
    if not 1 <= nbest <= beams:
        raise ValueError(f"nbest ({nbest}) must be between 1 and beams ({beams})")
    if length < 1:
        raise ValueError(f"length ({length}) must be at least 1")
    check_length_penalty(length_penalty, length)
    batch, vocab = scores.shape
    wide = (1 + len(ends)) * beams  # every beam may end once with each: among so many, `beams` go on
    device, none = scores.device, float("-inf")
    first_row = torch.arange(0, batch * beams, beams, device=device).unsqueeze(-1)
    step.reorder(torch.arange(batch, device=device).repeat_interleave(beams))
    scores = repeat(scores, "b v -> (b w) v", w=beams)
    total = torch.full((batch, beams), none, device=device)  # log probability of each running beam
    total[:, 0] = 0.0  # all beams begin alike: one of them goes on
    tokens = torch.empty(batch, beams, 0, dtype=torch.long, device=device)
    done = _Done(batch, beams, length, device)
    for count in range(1, length + 1):
        check_scores(scores)
        if constraint is not None:
            scores = constraint(rearrange(tokens, "b w n -> (b w) n"), scores)
        each, choice = scores.float().log_softmax(-1).topk(min(wide, vocab))
        if constraint is not None and bool((lost := each.isnan().any(-1)).any()):  # a beam that is let go nowhere
            if not bool(scores[lost].isneginf().all()):
                raise UserError(NO_NUMBERS)
            each = each.masked_fill(lost.unsqueeze(-1), none)
        reached = total.unsqueeze(-1) + rearrange(each, "(b w) c -> b w c", w=beams)
        best, place = rearrange(reached, "b w c -> b (w c)").topk(min(wide, beams * vocab))
        parent = place // each.shape[-1]
        token = rearrange(choice, "(b w) c -> b (w c)", w=beams).gather(1, place)
        longer = torch.cat((_take(tokens, parent), token.unsqueeze(-1)), -1)
        last = _are_ends(token, ends)
        # An end outranked by w others is no better than beams that go on: it does not count (as in common practice).
        ended = best.masked_fill(~last, none)[:, :beams]
        done.add(longer[:, :beams], ended, count, length_penalty)
        total, keep = best.masked_fill(last, none).topk(min(beams, best.shape[1]))
        if total.shape[1] < beams:
            total = torch.nn.functional.pad(total, (0, beams - total.shape[1]), value=none)
            keep = torch.nn.functional.pad(keep, (0, beams - keep.shape[1]))
        tokens, parent = _take(longer, keep), parent.gather(1, keep)
        if count == length:
            done.add(tokens, total, count, length_penalty)
            break
        # Log probabilities only fall, so no beam can do better than its own over the most favourable length.
        ahead = length if length_penalty > 0 else count + 1
        if bool((done.score[:, nbest - 1] >= total[:, 0] / ahead**length_penalty).all()):
            break
        step.reorder((first_row + parent).flatten())
        scores = step(rearrange(tokens[..., -1], "b w -> (b w)"))
    return done.hypotheses(nbest, ends)


class _Done:
    """The finished hypotheses of each sentence, best first."""

    def __init__(self, batch: int, beams: int, length: int, device: torch.device):
        self.score = torch.full((batch, beams), float("-inf"), device=device)
        self.log_prob = self.score.clone()
        self.size = torch.zeros(batch, beams, dtype=torch.long, device=device)
        self.tokens = torch.zeros(batch, beams, length, dtype=torch.long, device=device)

    def add(self, tokens: Tensor, log_prob: Tensor, count: int, length_penalty: float) -> None:
        score = torch.cat((self.score, log_prob / count**length_penalty), 1)
        self.score, keep = score.topk(self.score.shape[1])
        padded = torch.nn.functional.pad(tokens, (0, self.tokens.shape[-1] - count))
        self.tokens = _take(torch.cat((self.tokens, padded), 1), keep)
        self.log_prob = torch.cat((self.log_prob, log_prob), 1).gather(1, keep)
        self.size = torch.cat((self.size, torch.full_like(tokens[..., 0], count)), 1).gather(1, keep)

    def hypotheses(self, nbest: int, ends: tuple[int, ...]) -> list[list[Hypothesis]]:
        """Fewer than `nbest` where fewer exist at all."""
        rows = zip(self.tokens.tolist(), self.size.tolist(), self.score.tolist(), self.log_prob.tolist(), strict=True)
        return [
            [
                Hypothesis([t for t in tokens[:size] if t not in ends], score, log_prob)
                for tokens, size, score, log_prob in list(zip(*row, strict=True))[:nbest]
                if score > float("-inf")
            ]
            for row in rows
        ]


def _take(tokens: Tensor, which: Tensor) -> Tensor:
    """Hypotheses "b w n" by their number "b x"."""
    return tokens.gather(1, repeat(which, "b x -> b x n", n=tokens.shape[-1]))
