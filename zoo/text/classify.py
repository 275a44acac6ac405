"""Texts in, the probabilities of their classes out: in batches, the order of the input kept."""

from collections.abc import Iterator, Sequence

import torch

from zoo.errors import UserError
from zoo.text.encoder import TextClassifier
from zoo.text.tokens import Tokenizer, check_readable, rows_of


@torch.no_grad()
def classify(
    model: TextClassifier, tokenizer: Tokenizer, texts: Sequence[str], *, batch: int = 32
) -> Iterator[list[float]]:
    """The probability of each class, for each text. UserError names one that is longer than the model can read, or that
    has no tokens of its own."""
    nothing = tokenizer.encode("")  # what is put around any text
    device, longest = next(model.parameters()).device, model.trunk.stack.position.longest
    for begin in range(0, len(texts), batch):
        found = tokenizer.encode_batch(texts[begin : begin + batch])
        for number, (row, text) in enumerate(zip(found, texts[begin:], strict=False), begin + 1):
            if row == nothing or not text.strip():
                raise UserError(f"text {number}: empty, there is nothing to tell its class by")
        ids = [tokenizer.around(row) for row in found]
        check_readable(ids, longest, model.trunk.embedding.num_embeddings, begin + 1)
        rows, keep = (x.to(device) for x in rows_of(ids, tokenizer.pad))
        yield from model(rows, keep).float().softmax(-1).tolist()
