"""Published weights on zoo's networks beside the libraries that published them, as figures.

A reference of random weights is saved by its own library and opened by `zoo.load`; both then see the same batch. The
tests assert what this measures, and `zoo parity` prints it.
"""

import copy
import inspect
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.check.matrix import Finding
from zoo.check.references import VOCAB, Reference
from zoo.core.network import Network
from zoo.text.model import CausalLM, Seq2Seq
from zoo.weights.families import family_of, published
from zoo.weights.load import Loaded, load

# Which slots of a batch hold real tokens.
PADDINGS = {
    "none": ((1, 1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 1, 1, 1)),
    "right": ((1, 1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 0, 0, 0)),
    "left": ((1, 1, 1, 1, 1, 1, 1), (0, 0, 1, 1, 1, 1, 1)),
    "between": ((1, 0, 1, 1, 0, 1, 1), (0, 1, 1, 0, 1, 1, 0)),
}


@dataclass(frozen=True, eq=False)
class Side:
    """A reference and what zoo made of it, in one type of numbers."""

    reference: Reference
    theirs: Any
    ours: Loaded[Any]

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


class Proteins(Language):
    """As Language, with masked tokens in each sequence."""

    sides = ("none", "right", "left")  # their positions count slots, which one can't tell otherwise

    def batch(self, side: str, model: Any) -> dict[str, Tensor]:
        batch = super().batch(side, model)
        batch["ids"][:, 3] = 32
        batch["ids"][0, 5] = 32
        return batch


class Segmented(Language):
    """As Language, with segments."""

    def batch(self, side: str, model: Any) -> dict[str, Tensor]:
        batch = super().batch(side, model)
        return batch | {"types": torch.arange(batch["ids"].shape[1]).ge(3).long().expand_as(batch["ids"])}

    def theirs(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        keep, types = batch["keep"], batch["types"]
        places = (keep.cumsum(-1) - 1).clamp(min=0)
        logits: Tensor = model(batch["ids"], keep.long(), token_type_ids=types, position_ids=places).logits
        return logits[keep]

    def ours(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = model(batch["ids"], batch["keep"], batch["types"])
        return logits[batch["keep"]]


class Classified(Segmented):
    """As Segmented where the model knows segments, logits of a whole text out."""

    def batch(self, side: str, model: Any) -> dict[str, Tensor]:
        kind = Segmented if hasattr(model.config, "type_vocab_size") else Language
        return kind.batch(self, side, model)

    def theirs(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        # one by one: these models take the first slot for the first token, padding or not
        rows = []
        for row, keep in enumerate(batch["keep"]):
            given = {name: batch[own][row][keep].unsqueeze(0) for name, own in self.inputs.items() if own in batch}
            rows.append(model(**given).logits)
        return torch.cat(rows)

    inputs = {"input_ids": "ids", "token_type_ids": "types"}  # noqa: RUF012

    def ours(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = model(batch["ids"], batch["keep"], batch.get("types"))
        return logits


class Pairs(Compared):
    """Sources and targets in, logits of each target token out."""

    def batch(self, side: str, model: Any) -> dict[str, Tensor]:
        keep = torch.tensor(PADDINGS[side], dtype=torch.bool)
        draw = torch.Generator().manual_seed(1)
        return {
            "source": torch.randint(3, VOCAB - 1, keep.shape, generator=draw),
            "source_keep": keep,
            "target": torch.randint(3, VOCAB - 1, (2, 6), generator=draw),
            "target_keep": torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.bool),
        }

    def theirs(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        target_keep = batch["target_keep"]
        rows = []
        for row in range(len(target_keep)):  # one by one: where padding stands first, these models count it
            keep = batch["source_keep"][row]
            target = batch["target"][row][target_keep[row]].unsqueeze(0)
            rows.append(model(batch["source"][row][keep].unsqueeze(0), decoder_input_ids=target).logits[0])
        return torch.cat(rows)

    def ours(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = model(batch["source"], batch["target"], batch["source_keep"], batch["target_keep"])
        return logits[batch["target_keep"]]


class Images(Compared):
    """Images in, logits of classes out."""

    sides = ("none",)

    def batch(self, side: str, model: Any) -> dict[str, Tensor]:
        like = next(model.parameters())
        channels = getattr(model.config, "num_channels", 3) if hasattr(model, "config") else 3
        return {"images": torch.randn(2, channels, 32, 32, generator=torch.Generator().manual_seed(1)).to(like.dtype)}

    def theirs(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        out = model(batch["images"])
        logits: Tensor = out if isinstance(out, Tensor) else out.logits
        return logits

    def ours(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = model(batch["images"])
        return logits


class Codes(Compared):
    """Codes of several codebooks and states to look at in, scores of each code out."""

    sides = ("none",)

    def batch(self, side: str, model: Any) -> dict[str, Tensor]:
        draw, whole = torch.Generator().manual_seed(1), hasattr(model, "text_encoder")
        books = (model.decoder if whole else model).num_codebooks
        width = model.text_encoder.config.d_model if whole else model.config.hidden_size
        states = torch.randn(2, 4, width, generator=draw).to(next(model.parameters()).dtype)
        return {
            "codes": torch.randint(VOCAB + 1, (2, books, 7), generator=draw),
            "context": states,
            "context_keep": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool),
        }

    def theirs(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        keep, codes = batch["context_keep"].long(), batch["codes"].flatten(0, 1)
        if hasattr(model, "text_encoder"):
            given = {"encoder_outputs": (batch["context"],), "attention_mask": keep, "decoder_input_ids": codes}
            logits: Tensor = model(**given).logits
        else:
            logits = model(codes, encoder_hidden_states=batch["context"], encoder_attention_mask=keep).logits
        return logits.flatten(0, -2)

    def ours(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = model(batch["codes"], None, batch["context"], batch["context_keep"])
        return logits.flatten(0, -2)


COMPARED: dict[str, Compared] = {
    "CausalLM": Language(),
    "MaskedLM": Segmented(),
    "MusicLM": Codes(),
    "ProteinLM": Proteins(),
    "Seq2Seq": Pairs(),
    "TextClassifier": Classified(),
    "ViT": Images(),
}


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
    learned = {name for name, p in side.theirs.named_parameters() if p.requires_grad}
    if missing := [n for n in ours if n in learned and n not in both[1] and float(ours[n].abs().max()) > 0]:
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
    found = published(family, holder, side.ours.origin)
    return {name: g for name, g in found.items() if name not in side.ours.origin.unused}


@torch.no_grad()
def greedy(side: Side, length: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """What they write after left-padded prompts, what we write with a cache, and without: "b n" each."""
    batch = Language().batch("left", side.theirs)
    ids, keep = batch["ids"], batch["keep"]
    options = {"max_new_tokens": length, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    theirs = side.theirs.generate(ids, attention_mask=keep.long(), **options)[:, ids.shape[1] :]
    model: Any = side.ours.model
    model.end, model.ends = None, ()
    cached = model.generate(ids, keep, length=length)
    for _ in range(length):
        step = model(ids, keep)[:, -1].argmax(-1, keepdim=True)
        ids, keep = torch.cat((ids, step), 1), F.pad(keep, (0, 1), value=True)
    return theirs, cached, ids[:, -length:]


def beams(
    side: Side,
    width: int,
    *,
    length: int = 10,
    length_penalty: float = 1.0,
    once: bool = False,
    ends: tuple[int, ...] = (),
) -> tuple[list[list[int]], list[list[int]]]:
    """The best hypothesis of each source of a padded batch, theirs and ours, without start, end and padding.

    `once`: no pair of tokens may come twice, which makes models of random weights write less monotonously. `ends`:
    tokens that end a text besides the model's own.
    """
    batch = Pairs().batch("right", side.theirs)
    ids, keep, model = batch["source"], batch["source_keep"], side.ours.model
    assert isinstance(model, Seq2Seq)
    # theirs leaves the probability of what is banned unused unless told; ours gives it to the rest
    options: dict[str, Any] = {"num_beams": width, "max_new_tokens": length, "do_sample": False}
    options |= {"renormalize_logits": True, "bad_words_ids": [[token] for token in model.unwritten] or None}
    if width > 1:  # their default stops a search by a guess, this by a bound, as ours does
        options |= {"early_stopping": "never", "length_penalty": length_penalty}
    if ends:
        options |= {"eos_token_id": [model.end, *ends]}
    if once:
        options |= {"no_repeat_ngram_size": 2}
    found = side.theirs.generate(ids, attention_mask=keep.long(), forced_eos_token_id=None, **options)
    theirs = [[t for t in row[1:] if t not in (model.end, *ends, model.pad)] for row in found.tolist()]
    own, model.ends = model.ends, ends
    ours = model.generate(
        ids,
        keep,
        length=length,
        beams=width,
        length_penalty=length_penalty,
        constraint=partial(_pairs_once, model.start) if once else None,
    )
    model.ends = own
    return theirs, [[t for t in row[0].tokens if t != model.pad] for row in ours]


def _pairs_once(start: int, tokens: Tensor, scores: Tensor) -> Tensor:
    """Scores "r v" without what would repeat a pair of `start` and tokens "r n"."""
    tokens = F.pad(tokens, (1, 0), value=start)
    before, after = tokens[:, :-1], tokens[:, 1:]
    banned = torch.zeros_like(scores, dtype=torch.bool)
    row, place = (before == tokens[:, -1:]).nonzero(as_tuple=True)
    banned[row, after[row, place]] = True
    return scores.masked_fill(banned, float("-inf"))


# -- all of a reference ------------------------------------------------------------------------------------------------


def bound(reference: Reference) -> float:
    """What logits in float64 may differ by."""
    return 1e-6 if reference.tables32 else 1e-9


def gradient_bound(reference: Reference) -> float:
    """What a float32 table rounds, every layer's gradient sees once more."""
    return 5e-6 if reference.tables32 else 1e-9


def measure(reference: Reference) -> dict[str, Finding]:
    """Every comparison of a reference; what does not apply to it is "-"."""
    single, double = (open_pair(reference, dtype) for dtype in (torch.float32, torch.float64))
    star = "*" if reference.tables32 else ""

    def below(value: float, most: float, mark: str = "") -> Finding:
        return Finding((f"{value:.0e}" if value else "0") + mark, value < most)

    found = {
        "float32": below(max(logits(single, side) for side in single.compared.sides), 1e-5),
        "float64": below(max(logits(double, side) for side in double.compared.sides), bound(reference), star),
        "gradients": below(gradients(double), gradient_bound(reference), star),
        "greedy": Finding("-", True),
        "beams": Finding("-", True),
    }
    if isinstance(double.ours.model, CausalLM):
        theirs, *ours = greedy(double)
        equal = sum(int((row == theirs).sum()) for row in ours)
        found["greedy"] = Finding(f"{equal} of {2 * theirs.numel()}", equal == 2 * theirs.numel())
    if isinstance(double.ours.model, Seq2Seq):
        for column, width in (("greedy", 1), ("beams", 4)):
            pairs = []
            for penalty in (0.6, 2.0) if width > 1 else (1.0,):
                for once in (False, True):
                    pairs += zip(*beams(double, width, length_penalty=penalty, once=once), strict=True)
            equal = sum(theirs == ours for theirs, ours in pairs)
            found[column] = Finding(f"{equal} of {len(pairs)} texts", equal == len(pairs))
    return found
