"""Texts in, the probabilities of their classes out: in batches, the order of the input kept."""

from collections.abc import Iterator, Sequence

import torch

from zoo.text.encoder import TextClassifier
from zoo.text.tokens import Tokenizer, check_readable, rows_of


@torch.no_grad()
def classify(
    model: TextClassifier, tokenizer: Tokenizer, texts: Sequence[str], *, batch: int = 32
) -> Iterator[list[float]]:
    """The probability of each class, for each text. UserError names one that is longer than the model can read."""
    device, longest = next(model.parameters()).device, model.trunk.stack.position.longest
    for begin in range(0, len(texts), batch):
        ids = [tokenizer.around(row) for row in tokenizer.encode_batch(texts[begin : begin + batch])]
        check_readable(ids, longest, model.trunk.embedding.num_embeddings, begin + 1)
        rows, keep = (x.to(device) for x in rows_of(ids, tokenizer.pad))
        yield from model(rows, keep).float().softmax(-1).tolist()
