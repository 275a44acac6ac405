"""What a mutation does, as a language model of proteins sees it. Five conventions, each under its own name.

Scores are nats, and above 0 the model likes the variant better than the wild type. T: the places where they differ.

    wildtype-marginals   sum over T of log p(new) - log p(old), given the wild type with nothing hidden
    masked-marginals     the same, given the wild type with all of T hidden
    masked-additive      the same, each place of T hidden alone: of one mutation what masked-marginals gives, of several
                         the sum of what each gives by itself
    mutant-marginals     the same, given the variant with nothing hidden
    pseudo-perplexity    mean over its residues of log p(residue | all others), each hidden in turn: the variant's minus
                         the wild type's, which is log of the wild type's pseudo-perplexity over the variant's
    likelihood           log p(variant) - log p(wild type), of a model that reads from left to right
    predicted            no difference: what a model that was trained on measured values says of the variant itself

The marginals: Meier et al. 2021, section 2 and appendix; the additive score is what scripts give that hide each place
of the wild type once. These four need residues that are replaced one for one.
Pseudo-perplexity (Salazar et al. 2020) and likelihood serve insertions and deletions too.

Proteins longer than the model's window are read in windows, each place in the one where it stands deepest; what fits
is read whole.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from zoo.errors import UserError
from zoo.progress import bar
from zoo.protein.classify import whole
from zoo.protein.files import Protein
from zoo.protein.model import ProteinLM, SequenceModel
from zoo.protein.reading import BUDGET, read, window_of
from zoo.protein.tokens import Residues
from zoo.protein.variants import Variant, Wildtype

MASKED = ("wildtype-marginals", "masked-marginals", "masked-additive", "mutant-marginals", "pseudo-perplexity")
CAUSAL = ("likelihood",)
LEARNED = ("predicted",)


def methods(model: ProteinLM | SequenceModel) -> tuple[str, ...]:
    """The conventions that a model can serve, the first by default."""
    if isinstance(model, SequenceModel):
        return LEARNED
    return CAUSAL if model.causal else ("masked-marginals", *(m for m in MASKED if m != "masked-marginals"))


def score(
    model: ProteinLM | SequenceModel,
    wildtype: Wildtype,
    variants: Sequence[Variant],
    method: str,
    *,
    longest: int | None = None,
    name: str = "",
) -> list[float | None]:
    """A score for each variant, in their order; None where the convention has none (an insertion, a deletion).

    `longest`: tokens of a window. UserError for a convention that the model cannot serve.
    """
    if method not in methods(model):
        if isinstance(model, SequenceModel):
            does = "was trained on values"
        else:
            does = "reads from left to right" if model.causal else "looks both ways"
        raise UserError(f"a model that {does} gives no {method}; it gives {', '.join(methods(model))}")
    made = [wildtype.apply(variant) for variant in variants]
    if isinstance(model, SequenceModel):
        if longest is not None:
            raise UserError("a model of values reads proteins whole, in no windows: leave out the length of one")
        return _values(model, made, name)
    places = [wildtype.places(variant) for variant in variants]
    reading = Reading(model, longest, name)
    wild = reading.frame(wildtype.sequence)
    if method in ("pseudo-perplexity", "likelihood"):
        distinct = list(dict.fromkeys([wildtype.sequence, *made]))
        mean = method == "pseudo-perplexity"
        each = dict(zip(distinct, reading.pseudo(distinct) if mean else reading.likelihood(distinct), strict=True))
        return [each[sequence] - each[wildtype.sequence] for sequence in made]
    if method == "mutant-marginals":
        rows = [reading.frame(s) for s, p in zip(made, places, strict=True) if p]
        asked = [_framed(p) for p in places if p]
        tables = iter(reading.tables(rows, asked))
        shown = [next(tables) if p else None for p in places]
    elif method in ("wildtype-marginals", "masked-additive"):
        everywhere = sorted({place for p in places if p for place in p})
        if method == "masked-additive":
            alone = [_framed([place]) for place in everywhere]
            found = [one[0] for one in reading.tables([_hidden(wild, p) for p in alone], alone)]
        else:
            found = list(reading.tables([wild], [_framed(everywhere)])[0]) if everywhere else []
        table = dict(zip(everywhere, found, strict=True))
        shown = [torch.stack([table[place] for place in p]) if p else None for p in places]
    else:
        sets = list(dict.fromkeys(tuple(p) for p in places if p))
        rows = [_hidden(wild, _framed(p)) for p in sets]
        table = dict(zip(sets, reading.tables(rows, [_framed(p) for p in sets]), strict=True))
        shown = [table[tuple(p)] if p else None for p in places]
    return [
        None if p is None else 0.0 if log is None else _difference(log, wild, reading.frame(sequence), p)
        for p, log, sequence in zip(places, shown, made, strict=True)
    ]


def agreement(scores: Sequence[float | None], measured: Sequence[float | None]) -> tuple[float, int]:
    """Rank correlation of scores with what was measured, over the variants that have both, and how many these are."""
    both = np.array([pair for pair in zip(scores, measured, strict=True) if None not in pair], dtype=float)
    return (spearman(*both.T), len(both)) if len(both) else (0.0, 0)


def _values(model: SequenceModel, sequences: Sequence[str], name: str) -> list[float | None]:
    """What a model of values says of each sequence. UserError for one of classes."""
    if model.head.out_features != 1:
        raise UserError(f"a model of {model.head.out_features} classes gives no value: ask it with zoo classify")
    distinct = {sequence: Protein(f"variant {i}", sequence) for i, sequence in enumerate(sequences, 1)}
    found = dict(whole(model, Residues(), list(distinct.values()), budget=BUDGET, name=name))
    values = dict(zip(distinct, (found[index].item() for index in range(len(distinct))), strict=True))
    return [values[sequence] for sequence in sequences]


def _framed(places: Sequence[int]) -> list[int]:
    return [place + 1 for place in places]


def _hidden(ids: Sequence[int], places: Sequence[int]) -> list[int]:
    hidden = list(ids)
    for place in places:
        hidden[place] = Residues.mask
    return hidden


def _difference(log: Tensor, wild: Sequence[int], made: Sequence[int], places: Sequence[int]) -> float:
    """Sum over places of log p(new) - log p(old), from log probabilities "places v"."""
    row, at = torch.arange(len(places)), _framed(places)
    return float((log[row, [made[p] for p in at]] - log[row, [wild[p] for p in at]]).sum())


class Reading:
    """A model that reads framed proteins, in windows where they are long."""

    def __init__(self, model: ProteinLM, longest: int | None, name: str):
        self.model, self.name = model, name
        self.longest, self.overlap = window_of(model, longest)
        self.device = next(model.parameters()).device
        self.tokenizer = Residues()

    def frame(self, sequence: str) -> list[int]:
        return self.tokenizer.frame(sequence)

    def log_probabilities(self, ids: Tensor, keep: Tensor) -> Tensor:
        return self.model(ids, keep).float().log_softmax(-1)

    def tables(self, rows: Sequence[Sequence[int]], places: Sequence[Sequence[int]]) -> list[Tensor]:
        """Log probabilities "places v" at the given places of each row."""
        tables = [torch.empty(len(p), Residues.vocab_size) for p in places]
        where = [{place: i for i, place in enumerate(p)} for p in places]
        for index, cut, out in self._read(rows, places):
            for place in where[index].keys() & set(range(cut.first, cut.last)):
                tables[index][where[index][place]] = out[place - cut.first].cpu()
        return tables

    def pseudo(self, sequences: Sequence[str]) -> list[float]:
        """The mean log probability of each sequence's residues, each hidden in turn."""
        means = []
        shown = bar(sequences, self.name, "protein")
        self.name = ""  # one bar: over proteins
        for sequence in shown:
            ids = self.frame(sequence)
            places = [[place] for place in range(1, len(ids) - 1)]
            tables = self.tables([_hidden(ids, p) for p in places], places)
            means.append(sum(float(t[0, ids[p[0]]]) for t, p in zip(tables, places, strict=True)) / len(places))
        return means

    def likelihood(self, sequences: Sequence[str]) -> list[float]:
        """The log probability of each whole sequence, its end included."""
        rows = [self.frame(sequence) for sequence in sequences]
        totals = [0.0] * len(rows)
        for index, cut, out in self._read(rows, None):
            nexts = rows[index][cut.first + 1 : cut.last + 1]
            # the difference of two sums of thousands: in float32 it is off by a thousandth
            totals[index] += float(out[torch.arange(len(nexts)), nexts].cpu().double().sum())
        return totals

    def _read(self, rows: Sequence[Sequence[int]], places: Sequence[Sequence[int]] | None):  # type: ignore[no-untyped-def]
        return read(
            self.log_probabilities,
            rows,
            longest=self.longest,
            overlap=self.overlap,
            device=self.device,
            name=self.name,
            wanted=places,
        )


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; equal values share their mean rank. 0 where one side does not vary."""
    ranks = [_ranks(x) for x in (a, b)]
    if min(np.ptp(r) for r in ranks) == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (count.cumsum() - (count - 1) / 2)[place]
