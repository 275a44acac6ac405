"""Published weights on zoo's networks beside the libraries that published them, as figures.

A reference of random weights is saved by its own library and opened by `zoo.load`; both then see the same batch. The
tests assert what this measures, and `zoo parity` prints it.
"""

import copy
import inspect
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.check.references import VOCAB, Reference
from zoo.core.network import Network
from zoo.weights.families import family_of, published
from zoo.weights.load import Loaded, load

# Which slots of a batch hold real tokens.
PADDINGS = {
    "none": ((1, 1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 1, 1, 1)),
    "right": ((1, 1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 0, 0, 0)),
    "left": ((1, 1, 1, 1, 1, 1, 1), (0, 0, 1, 1, 1, 1, 1)),
}


@dataclass(frozen=True, eq=False)
class Side:
    """A reference and what zoo made of it, in one type of numbers."""

    reference: Reference
    theirs: Any
    ours: Loaded

    @property
    def compared(self) -> "Compared":
        return COMPARED[self.ours.config["kind"]]


def open_pair(reference: Reference, dtype: torch.dtype) -> Side:
    """Save the reference, load it."""
    theirs = reference.model(dtype)
    with tempfile.TemporaryDirectory() as folder:
        reference.save(theirs, Path(folder))
        return Side(reference, theirs, load(folder))


class Compared:
    """How a kind of network and its references are given the same batch."""

    sides: tuple[str, ...] = tuple(PADDINGS)

    def batch(self, side: str, model: Any) -> dict[str, Tensor]:
        raise NotImplementedError

    def theirs(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits "t v" of the real tokens."""
        raise NotImplementedError

    def ours(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        raise NotImplementedError


class Language(Compared):
    """Ids in, logits of each token out."""

    def batch(self, side: str, model: Any) -> dict[str, Tensor]:
        keep = torch.tensor(PADDINGS[side], dtype=torch.bool)
        ids = torch.randint(3, VOCAB, keep.shape, generator=torch.Generator().manual_seed(1))
        return {"ids": ids, "keep": keep}

    def theirs(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        ids, keep = batch["ids"], batch["keep"]
        # in these libraries positions count slots unless told; ours count the tokens of a sequence
        places = {"position_ids": (keep.cumsum(-1) - 1).clamp(min=0)}
        places = places if "position_ids" in inspect.signature(model.forward).parameters else {}
        logits: Tensor = model(ids, attention_mask=keep.long(), **places).logits
        return logits[keep]

    def ours(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = model(batch["ids"], batch["keep"])
        return logits[batch["keep"]]


COMPARED: dict[str, Compared] = {"CausalLM": Language()}


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, as a share of the largest number."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.no_grad()
def logits(side: Side, padding: str) -> float:
    """How far the logits lie apart: 1e-5 in float32, 1e-9 in float64 (1e-6 with float32 tables)."""
    batch = side.compared.batch(padding, side.theirs)
    return distance(side.compared.ours(side.ours.model, batch), side.compared.theirs(side.theirs, batch))


def gradients(side: Side) -> float:
    """How far the gradients of a loss with respect to every parameter lie apart, of a padded batch."""
    batch = side.compared.batch(side.compared.sides[-1], side.theirs)
    both = []
    for model, run in ((side.ours.model, side.compared.ours), (side.theirs, side.compared.theirs)):
        model.zero_grad()
        out = run(model, batch)
        labels = torch.arange(len(out)) % out.shape[-1]
        F.cross_entropy(out, labels).backward()
        both.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    ours = _named(side, both[0])
    worst = 0.0
    top = max(float(g.abs().max()) for g in both[1].values())
    for name, theirs in both[1].items():
        if name in ours:
            worst = max(worst, float((ours[name] - theirs).abs().max()) / top)
    if missing := [n for n in ours if n not in both[1] and float(ours[n].abs().max()) > 0]:
        raise AssertionError(f"no gradient of {missing[0]} to compare with")
    return worst


def _named(side: Side, grads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of ours under their names."""
    assert side.ours.origin is not None
    holder = copy.deepcopy(side.ours.model)
    assert isinstance(holder, Network)
    with torch.no_grad():
        for value in holder.state_dict().values():
            value.zero_()
        for name, p in holder.named_parameters():
            p.copy_(grads.get(name, torch.zeros_like(p)))
    family = family_of(side.ours.origin.architecture, Path("config.json"))
    return published(family, holder, side.ours.origin)


@torch.no_grad()
def greedy(side: Side, length: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """What they write after left-padded prompts, what we write with a cache, and without: "b n" each."""
    batch = Language().batch("left", side.theirs)
    ids, keep = batch["ids"], batch["keep"]
    options = {"max_new_tokens": length, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    theirs = side.theirs.generate(ids, attention_mask=keep.long(), **options)[:, ids.shape[1] :]
    model: Any = side.ours.model
    model.end = None
    cached = model.generate(ids, keep, length=length)
    for _ in range(length):
        step = model(ids, keep)[:, -1].argmax(-1, keepdim=True)
        ids, keep = torch.cat((ids, step), 1), F.pad(keep, (0, 1), value=True)
    return theirs, cached, ids[:, -length:]
