"""Which residues touch, read off a language model: from its attention maps, and from its categorical Jacobian.

Axes: b sequences, n m residues (start and end left out), l layers, h heads, a b kinds of residue.

Maps are made symmetric and freed of what a row and a column give alone (average-product correction: Dunn et al. 2008);
a logistic regression over all layers and heads turns them into probabilities (Rao et al. 2021, section 3.2). The
categorical Jacobian (Zhang et al. 2024) asks the outputs: how do the scores at m move when the residue at n is put to
each of the 20? It needs no fitting, and its blocks are the pair energies that the model has learned.
"""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from zoo.core.attention import SelfAttention
from zoo.core.record import record
from zoo.protein.structures import SHORT, Backbone
from zoo.protein.tokens import Residues

if TYPE_CHECKING:
    from zoo.protein.model import ProteinLM


class ContactRegression(nn.Module):
    """Logistic regression over maps. Its weights are fitted to a few known structures, not trained by gradient."""

    weight: Tensor
    bias: Tensor

    def __init__(self, maps: int):
        super().__init__()
        self.register_buffer("weight", torch.zeros(1, maps))
        self.register_buffer("bias", torch.zeros(1))

    @property
    def fitted(self) -> bool:
        return bool(self.weight.any())

    def forward(self, maps: Tensor) -> Tensor:
        """Corrected maps "b (l h) n m" to the probability of a contact, "b n m"."""
        return (torch.einsum("b k n m, k -> b n m", maps, self.weight[0]) + self.bias).sigmoid()


def symmetrise(maps: Tensor) -> Tensor:
    """ "... n n" and its transpose, summed."""
    return maps + maps.mT


def correct(maps: Tensor) -> Tensor:
    """Average-product correction of "... n m": what row and column would give alone is subtracted. Of a map that is
    nothing but zeros (a single residue's, which has no other) that is nothing."""
    rows, columns = maps.sum(-1, keepdim=True), maps.sum(-2, keepdim=True)
    total = maps.sum((-1, -2), keepdim=True)
    return maps - rows * columns / total.where(total != 0, 1)


def has_attention(model: "ProteinLM") -> bool:
    return any(isinstance(module, SelfAttention) for module in model.modules())


@torch.no_grad()
def attention_maps(model: "ProteinLM", ids: Tensor) -> Tensor:
    """Symmetric, corrected maps "b (l h) n n" of all layers and heads; ids "b n + 2" of equally long proteins.

    ValueError where the model has no attention.
    """
    if not has_attention(model):
        raise ValueError("the model has no attention: its contacts can be read off the categorical Jacobian only")
    with record(model) as maps:
        model.hidden(ids)
    weights = rearrange([layer.weights for layer in maps], "l b h n m -> b (l h) n m")
    return correct(symmetrise(weights[..., 1:-1, 1:-1]))


def fit_regression(model: "ProteinLM", chains: Sequence[Backbone]) -> None:
    """Fit the model's regression of contacts to chains whose structure is known; twenty of them are enough.

    All pairs at least SHORT apart whose atoms were seen, an L1 penalty (scikit-learn's C = 0.15): the recipe of Rao et
    al. 2021, section 3.2. ValueError where there are no chains or none of their residues touch.
    """
    from sklearn.linear_model import LogisticRegression

    device = model.contacts.weight.device
    features, labels = [], []
    for chain in chains:
        ids = torch.tensor([Residues().frame(chain.sequence)], device=device)
        i, j = np.triu_indices(len(chain.sequence), SHORT)
        seen = chain.seen()[i, j]
        i, j = i[seen], j[seen]
        features.append(attention_maps(model, ids)[0][:, i, j].T.float().cpu().numpy())
        labels.append(chain.contacts()[i, j])
    if not labels or not np.concatenate(labels).any():
        raise ValueError("no residues touch in the chains to fit to")
    fitted = LogisticRegression(penalty="l1", C=0.15, solver="liblinear", random_state=0)
    with warnings.catch_warnings():  # scikit-learn 1.8 wants another word for this penalty, which 1.7 does not know
        warnings.simplefilter("ignore")
        fitted.fit(np.concatenate(features), np.concatenate(labels))
    model.contacts.weight.copy_(torch.from_numpy(fitted.coef_))
    model.contacts.bias.copy_(torch.from_numpy(fitted.intercept_))


def contact_probabilities(model: "ProteinLM", ids: Tensor) -> Tensor:
    """Probabilities "b n n" of the model's own regression; ids "b n + 2". ValueError where it was never fitted."""
    if not model.contacts.fitted:
        raise ValueError("the regression of contacts was not fitted: use the categorical Jacobian")
    return model.contacts(attention_maps(model, ids))


@torch.no_grad()
def categorical_jacobian(model: "ProteinLM", ids: Tensor, *, batch: int = 64) -> Tensor:
    """How the log odds at m answer to the residue at n: "n a m b", ids "n + 2" of one protein.

    Each residue in turn is put to each of the 20; both axes of kinds are centred (the zero-sum gauge). The code of
    Zhang et al. centres the axes of residues too, so that its maps are not the same to the digit.
    """
    kinds = torch.tensor(Residues.residues, device=ids.device)
    n = len(ids) - 2
    # (20 n)^2 numbers, the one thing here that is large: filled and centred in place
    scores = model.trunk.embedding.weight.new_empty(n * len(kinds), n, len(kinds))
    for rows in torch.arange(len(scores), device=ids.device).split(batch):
        changed = ids.repeat(len(rows), 1)
        changed[torch.arange(len(rows)), 1 + rows // len(kinds)] = kinds[rows % len(kinds)]
        scores[rows] = model(changed)[:, 1:-1, kinds]
    jacobian = rearrange(scores, "(n a) m b -> n a m b", n=n)
    jacobian -= jacobian.mean(1, keepdim=True)
    jacobian -= jacobian.mean(3, keepdim=True)
    return jacobian


def pair_energies(jacobian: Tensor) -> Tensor:
    """Pair energies "n m a b" of a Jacobian "n a m b": the mean of what n does to m and m does to n."""
    energies = rearrange(jacobian, "n a m b -> n m a b")
    return (energies + rearrange(jacobian, "m b n a -> n m a b")) / 2


def jacobian_map(jacobian: Tensor) -> Tensor:
    """Scores "n n" of contacts: the size of each block of pair energies (see there), corrected; the diagonal counts as
    nothing."""
    size = torch.stack(  # residue by residue: all pair energies at once would be several times the Jacobian
        [
            ((rearrange(row, "a m b -> m a b") + rearrange(column, "m b a -> m a b")) / 2).square().sum((-1, -2)).sqrt()
            for row, column in zip(jacobian.unbind(0), jacobian.unbind(2), strict=True)
        ]
    )
    return correct(size - torch.diag(size.diagonal()))


@torch.no_grad()
def score_map(model: "ProteinLM", sequence: str, method: str) -> np.ndarray:
    """Scores "n n" of the contacts of one protein. ValueError where the model cannot give that method."""
    if model.causal:
        raise ValueError("a model that reads from left to right sees no later residue: contacts need a masked one")
    placed = model.stack.position.longest
    if placed is not None and len(sequence) + 2 > placed:
        raise ValueError(f"{len(sequence)} residues: the model can place {placed - 2}")
    ids = torch.tensor(Residues().frame(sequence), device=model.trunk.embedding.weight.device)
    if method == "attention":
        return contact_probabilities(model, ids.unsqueeze(0))[0].float().cpu().numpy()
    # a batch of about as many tokens, whatever the length
    return jacobian_map(categorical_jacobian(model, ids, batch=max(16384 // len(ids), 1))).float().cpu().numpy()
