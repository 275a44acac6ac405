"""Texts with gaps in, the likeliest fillings out: one token by a masked language model, any number by a span writer."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.core import Stack
from zoo.data.corruption import span
from zoo.errors import UserError
from zoo.text.encoder import MaskedLM
from zoo.text.model import Seq2Seq
from zoo.text.tokens import Tokenizer, check_readable

GAP = "[MASK]"
LONGEST = 20  # tokens of a span that is written, on average


@dataclass(frozen=True)
class Filling:
    """One way to fill a gap, and its probability: of a span, that of all spans it was written with."""

    text: str
    share: float


def fill(model: MaskedLM | Seq2Seq, tokenizer: Tokenizer, text: str, *, top: int = 5) -> list[list[Filling]]:
    """For each gap of a text its `top` fillings, best first.

    A MaskedLM finds one token for each gap, each gap by itself. A Seq2Seq that was trained on dropped spans writes all
    gaps in one go, from a beam of `top`. UserError where a text has no gap, where it is longer than the model can read,
    and where a Seq2Seq does something else.
    """
    pieces = text.split(GAP)
    if len(pieces) < 2:
        raise UserError(f"no {GAP} in {text!r}: write it where something is to be found")
    way = _spans if isinstance(model, Seq2Seq) else _tokens
    with torch.no_grad():
        return way(model, tokenizer, pieces, top)


def _tokens(model: MaskedLM, tokenizer: Tokenizer, pieces: list[str], top: int) -> list[list[Filling]]:
    ids, gaps = tokenizer.join(pieces, [tokenizer.mask] * (len(pieces) - 1))
    before = tokenizer.around([-1]).index(-1)  # what stands around a text moves it
    row = _row(model.trunk.embedding, tokenizer.around(ids), model.trunk.stack)
    # by their places: a word that is not known may have the same token as a gap
    best = model(row)[0, [before + gap for gap in gaps]].float().softmax(-1).topk(min(top, tokenizer.vocab_size))
    return [
        [Filling(tokenizer.decode([token]), share) for token, share in zip(tokens, shares, strict=True)]
        for tokens, shares in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _spans(model: Seq2Seq, tokenizer: Tokenizer, pieces: list[str], top: int) -> list[list[Filling]]:
    gaps = tokenizer.sentinels[: len(pieces) - 1]
    if len(gaps) < len(pieces) - 1:
        raise UserError(f"this model can write {len(gaps)} spans, not {len(pieces) - 1} (it has a sentinel for each)")
    row = _row(model.source_embedding, tokenizer.closed(tokenizer.join(pieces, gaps)[0]), model.encoder)
    (found,) = model.generate(row, length=LONGEST * len(pieces), beams=top, nbest=top)
    written = [({gap: span(h.tokens, gap, tokenizer.sentinels) for gap in gaps}, math.exp(h.log_prob)) for h in found]
    return [[Filling(tokenizer.decode(spans[gap]), share) for spans, share in written] for gap in gaps]


def _row(table: nn.Embedding, ids: list[int], stack: Stack) -> Tensor:
    check_readable([ids], stack.position.longest, table.num_embeddings)
    return torch.tensor([ids], device=table.weight.device)
