"""What a model learns to undo: masked tokens (BERT) and dropped spans (T5). Pure functions of what they are given.

Axes: b sequences, n positions. A token is a number here, whatever it stands for.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

IGNORED = -100  # label of a token that nothing is learned from


class Masked(NamedTuple):
    """Rows with some tokens changed, and those tokens as they were."""

    ids: Tensor  # "b n"
    labels: Tensor  # "b n": the token where one was chosen, IGNORED elsewhere


def mask_tokens(
    ids: Tensor,
    may: Tensor,
    *,
    mask: int,
    random: tuple[int, int],
    rate: float = 0.15,
    shares: tuple[float, float] = (0.8, 0.1),
    generator: torch.Generator | None = None,
) -> Masked:
    """Choose `rate` of the tokens of each row of `ids` "b n" that `may` ("b n") be chosen, at least one of a row that
    has any. Of the chosen the first share becomes `mask`, the second a token drawn from range(*random), the rest stays.

    Devlin et al. 2019, section 3.1 and appendix A.1. Equal generators (None: torch's own) choose equally. ValueError
    for a rate or shares that are none.
    """
    if not 0 < rate <= 1:
        raise ValueError(f"rate ({rate}) must be in (0, 1]")
    if min(shares) < 0 or sum(shares) > 1:
        raise ValueError(f"shares {shares} must not be negative nor exceed 1 together")
    device = ids.device
    count = may.sum(-1, keepdim=True)
    wanted = (rate * count).round().clamp(min=1)
    order = torch.rand(ids.shape, generator=generator, device=device).masked_fill(~may, 2.0)
    chosen = (order.argsort(-1).argsort(-1) < wanted) & may
    draw = torch.rand(ids.shape, generator=generator, device=device)
    others = torch.randint(*random, ids.shape, generator=generator, device=device)
    changed = torch.where(draw < shares[0], mask, torch.where(draw < sum(shares), others, ids))
    return Masked(torch.where(chosen, changed, ids), ids.masked_fill(~chosen, IGNORED))


def draw_spans(
    length: int, random: np.random.Generator, *, density: float = 0.15, mean: float = 3.0
) -> list[tuple[int, int]]:
    """Spans [begin, end) that cover `density` of `length` tokens (rounded), `mean` tokens long on average.

    At least one token stands between two spans; every such choice is as likely as any other. Raffel et al. 2020,
    section 3.3.4, but for one thing: their code's last span always ends the row, which a row of one span cannot bear.
    ValueError where there is no token to leave or none to drop.
    """
    if not 0 < density < 1 or mean < 1:
        raise ValueError(f"density ({density}) must be in (0, 1), mean ({mean}) at least 1")
    if length < 2:
        raise ValueError(f"{length} tokens are too few to drop some and leave some")
    noise = min(max(round(length * density), 1), length - 1)
    left = length - noise
    count = min(max(round(noise / mean), 1), left + 1)
    dropped = _pieces(noise, count, random)
    gaps = _pieces(left + 2, count + 1, random)  # both ends may be empty: there one too many was drawn
    gaps[0] -= 1
    ends = np.cumsum(dropped + gaps[:-1])
    return [(int(end - size), int(end)) for end, size in zip(ends, dropped, strict=True)]


def _pieces(total: int, count: int, random: np.random.Generator) -> np.ndarray:
    """`total` as a sum of `count` numbers of at least 1, each such sum as likely as any other."""
    cuts = np.sort(random.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff(np.concatenate(([0], cuts, [total])))


def drop_spans(
    ids: Sequence[int], spans: Sequence[tuple[int, int]], sentinels: Sequence[int]
) -> tuple[list[int], list[int]]:
    """A row with each span replaced by a sentinel, in their order; and the spans, each behind its sentinel, with one
    more sentinel at the end. Raffel et al. 2020, section 3.1.4 and figure 2.

    `spans` are [begin, end), ascending, apart by at least one token. ValueError where they are not, or where there are
    too few sentinels.
    """
    if len(sentinels) <= len(spans):
        raise ValueError(f"{len(spans)} spans need {len(spans) + 1} sentinels, there are {len(sentinels)}")
    kept: list[int] = []
    dropped: list[int] = []
    last = 0
    for number, (sentinel, (begin, end)) in enumerate(zip(sentinels, spans, strict=False)):
        if not last + (number > 0) <= begin < end <= len(ids):
            raise ValueError(f"span ({begin}, {end}) of {len(ids)} tokens does not stand apart behind token {last}")
        kept += [*ids[last:begin], sentinel]
        dropped += [sentinel, *ids[begin:end]]
        last = end
    return [*kept, *ids[last:]], [*dropped, sentinels[len(spans)]]


def fill_spans(kept: Sequence[int], dropped: Sequence[int], sentinels: Sequence[int]) -> list[int]:
    """What `drop_spans` was given: each sentinel of `kept` replaced by what stands behind it in `dropped`.

    What a model wrote may lack a sentinel: then nothing stands in its place.
    """
    special = set(sentinels)
    return [i for token in kept for i in (span(dropped, token, sentinels) if token in special else [token])]


def span(dropped: Sequence[int], sentinel: int, sentinels: Sequence[int]) -> list[int]:
    """What stands behind a sentinel, up to the next one; nothing where it is missing."""
    special = set(sentinels)
    behind = list(dropped[dropped.index(sentinel) + 1 :]) if sentinel in dropped else []
    return list(takewhile(lambda token: token not in special, behind))
