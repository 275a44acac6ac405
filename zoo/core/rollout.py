"""From the maps of all layers to one: how much each token at the end looks at each token at the beginning.

Axes: b sequences, h heads, n queries, m keys.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.core.record import Map


def rollout(maps: Sequence[Map]) -> Tensor:
    """Self-attention maps of consecutive layers, the first first, as one, "b n n"; rows sum to 1.

    Each layer passes half of a token on as it is (the residual) and mixes the other half by the mean of its heads.
    Abnar & Zuidema 2020, section 3.
    """
    whole = _same(maps[0].weights)
    for found in maps:
        mean = found.weights.mean(1)
        half = (mean + _same(found.weights)) / 2
        whole = half / half.sum(-1, keepdim=True) @ whole
    return whole


def weighted_rollout(maps: Sequence[Map]) -> Tensor:
    """Relevance "b n n" for what was differentiated: maps weighted by their gradients, where those are positive.

    R = R + mean over heads of (gradient x map)+ R, from the identity on. Chefer et al. 2021 (Generic attention-model
    explainability), equations 5 and 6. ValueError where no backward has come through.
    """
    whole = _same(maps[0].weights)
    for found in maps:
        whole = whole + weighted(found) @ whole
    return whole


def weighted(found: Map) -> Tensor:
    """One layer's map, its heads weighted by their gradients: "b n m"."""
    if found.gradient is None:
        raise ValueError(f"{found.name} has no gradient: record(gradients=True), and differentiate what comes after")
    return (found.gradient * found.weights).clamp(min=0).mean(1)


def _same(weights: Tensor) -> Tensor:
    """Every token itself, "1 n n"."""
    return torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device).unsqueeze(0)
