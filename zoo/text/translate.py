"""Texts in, translations out: batches by length, the order of the input kept."""

from collections.abc import Sequence

import torch

from zoo.text.model import Seq2Seq
from zoo.text.tokens import Tokenizer


def translate(
    model: Seq2Seq,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    beams: int = 4,
    nbest: int = 1,
    length: int = 128,
    length_penalty: float = 1.0,
    batch: int = 32,
) -> list[list[tuple[float, str]]]:
    """`nbest` translations of each text, best first, with their scores; an empty text translates to itself.

    Texts of similar length go together, `batch` at a time, on the model's device.
    """
    device = next(model.parameters()).device
    ids = [[*row, tokenizer.end] for row in tokenizer.encode_batch(list(texts))]
    results: list[list[tuple[float, str]]] = [[(0.0, "")] for _ in texts]
    order = sorted((i for i, text in enumerate(texts) if text.strip()), key=lambda i: len(ids[i]))
    for begin in range(0, len(order), batch):
        rows = order[begin : begin + batch]
        width = max(len(ids[i]) for i in rows)
        source = torch.full((len(rows), width), tokenizer.pad)
        for place, i in enumerate(rows):
            source[place, : len(ids[i])] = torch.tensor(ids[i])
        lengths = torch.tensor([len(ids[i]) for i in rows])
        keep = torch.arange(width) < lengths.unsqueeze(-1)
        found = model.generate(
            source.to(device), keep.to(device), length=length, beams=beams, nbest=nbest, length_penalty=length_penalty
        )
        for i, hypotheses in zip(rows, found, strict=True):
            decoded = tokenizer.decode_batch([h.tokens for h in hypotheses])
            results[i] = [(h.score, text) for h, text in zip(hypotheses, decoded, strict=True)]
    return results
