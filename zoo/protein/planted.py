"""How much of a planted family a language model has found: its contacts, and its pair energies."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.protein.contacts import attention_maps, categorical_jacobian, has_attention, jacobian_map, pair_energies
from zoo.protein.model import ProteinLM
from zoo.protein.potts import SEPARATION, Family
from zoo.protein.structures import precision
from zoo.protein.tokens import Residues


@dataclass(frozen=True, kw_only=True)
class Found:
    """Precisions are those of the best L pairs, L contacts being planted: 1 is the best possible."""

    jacobian: float  # precision at L by the categorical Jacobian
    head: float | None  # by the single layer and head that does best, chosen by the truth; None without attention
    chance: float  # share of contacts among all pairs far enough apart
    energies: float  # correlation of learned with planted pair energies, over contacts
    best_nll: float  # nats of a residue given all others, of the family itself
    map: np.ndarray = field(repr=False)  # "n n": the Jacobian's scores

    def to_plain(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "map"}


@torch.no_grad()
def look(model: ProteinLM, family: Family, *, sequences: int = 4, seed: int = 1_000_000) -> Found:
    """Read contacts and energies off a model, over `sequences` fresh ones of the family."""
    device = next(model.parameters()).device
    drawn = family.sample(sequences, seed)
    ids = framed(drawn).to(device)
    jacobian = torch.stack([categorical_jacobian(model, row) for row in ids]).mean(0)
    contacts, scores = family.contacts(), jacobian_map(jacobian).cpu().numpy()
    options = {"separation": SEPARATION, "top": family.length}
    maps = attention_maps(model, ids).mean(0) if has_attention(model) else ()
    heads = [precision(one.cpu().numpy(), contacts, **options)[0] for one in maps]
    found, chance = precision(scores, contacts, **options)
    energies, planted = pair_energies(jacobian).cpu().numpy()[contacts], family.pair_energies()[contacts]
    return Found(
        jacobian=found,
        head=max(heads, default=None),
        chance=chance,
        energies=float(np.corrcoef(energies.ravel(), planted.ravel())[0, 1]),
        best_nll=float(-family.conditional(family.sample(5000, seed)).mean()),
        map=scores,
    )


def framed(drawn: np.ndarray) -> Tensor:
    """Sequences "s n" as indices into RESIDUES to ids "s n + 2"."""
    ids = torch.tensor(Residues.residues)[torch.from_numpy(drawn)]
    edges = (torch.full((len(ids), 1), end) for end in (Residues.cls, Residues.end))
    first, last = edges
    return torch.cat((first, ids, last), 1)
