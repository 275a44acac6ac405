"""Proteins in, the probabilities of their classes out: batched by length, the order of the input kept."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from zoo.errors import UserError
from zoo.protein.files import Protein, read_proteins
from zoo.protein.model import SequenceModel
from zoo.protein.reading import read_sequences
from zoo.protein.tokens import Residues


def proteins(inputs: Sequence[str]) -> list[Protein]:
    """The records of files: FASTA, or tables with a column "sequence"; plain or .gz."""
    return [record for file in inputs for record in read_proteins(Path(file))]


def classify(
    model: SequenceModel, tokenizer: Residues, records: Sequence[Protein], *, batch: int = 32
) -> Iterator[list[float]]:
    """The probability of each class, for each protein. UserError names one that is longer than the model can place."""
    found = dict(whole(model, tokenizer, records, budget=batch * 256))
    yield from (found[index].softmax(-1).tolist() for index in range(len(records)))


def whole(
    model: SequenceModel, tokenizer: Residues, records: Sequence[Protein], *, budget: int, name: str = ""
) -> Iterator[tuple[int, torch.Tensor]]:
    """What the model gives for each whole protein, float32 "c", with its index."""
    longest = model.trunk.stack.position.longest
    for record in records:
        if longest is not None and len(record.sequence) + 2 > longest:
            raise UserError(
                f"{record.name}: {len(record.sequence):,} residues, this model reads at most {longest - 2:,} at once"
            )
    rows = [tokenizer.frame(record.sequence) for record in records]
    device = next(model.parameters()).device
    return read_sequences(lambda ids, keep: model(ids, keep).float(), rows, device=device, budget=budget, name=name)
