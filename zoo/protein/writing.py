"""Proteins written residue by residue."""

import torch
from torch import Tensor

from zoo.protein.tokens import Residues


def residues_alone(tokens: Tensor, scores: Tensor) -> Tensor:
    """A constraint (zoo/core/decode.py): of the scores "b v" those of the 20 residues and of the end are left."""
    allowed = torch.zeros(scores.shape[-1], dtype=torch.bool, device=scores.device)
    allowed[[*Residues.residues, Residues.end]] = True
    return scores.masked_fill(~allowed, float("-inf"))
