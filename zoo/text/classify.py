"""Texts, or pairs of them, in, the probabilities of their classes out: in batches, the order of the input kept."""

from collections.abc import Iterator, Sequence

import torch

from zoo.data.batches import rows_of
from zoo.errors import UserError
from zoo.text.encoder import TextClassifier
from zoo.text.tokens import Tokenizer, check_readable


@torch.no_grad()
def classify(
    model: TextClassifier, tokenizer: Tokenizer, texts: Sequence[str] | Sequence[tuple[str, str]], *, batch: int = 32
) -> Iterator[list[float]]:
    """The probability of each class, for each text or each pair of texts, whose tokens belong to the first or second
    segment where the model knows segments. UserError names one that is longer than the model can read, or empty."""
    ids, segments = _rows(tokenizer, texts)
    nothing = tokenizer.around(tokenizer.encode(""))  # what is put around any text
    for number, (text, row) in enumerate(zip(texts, ids, strict=True), 1):  # all of them before the first answer
        sides = [text] if isinstance(text, str) else text
        if row == nothing or not all(side.strip() for side in sides):
            raise UserError(f"text {number}: empty, there is nothing to tell its class by")
    device, longest = next(model.parameters()).device, model.trunk.stack.position.longest
    check_readable(ids, longest, model.trunk.embedding.num_embeddings)
    for begin in range(0, len(texts), batch):
        some = slice(begin, begin + batch)
        rows, keep = (x.to(device) for x in rows_of(ids[some], tokenizer.pad))
        types = None
        if segments and model.settings["types"] > 1:
            types = rows_of(segments[some], 0)[0].to(device)
        yield from model(rows, keep, types).float().softmax(-1).tolist()


def _rows(
    tokenizer: Tokenizer, texts: Sequence[str] | Sequence[tuple[str, str]]
) -> tuple[list[list[int]], list[list[int]]]:
    """Ids of texts or pairs; of pairs, which of the two each token belongs to."""
    pairs = [text for text in texts if not isinstance(text, str)]
    if not pairs:
        return [tokenizer.around(row) for row in tokenizer.encode_batch([str(text) for text in texts])], []
    rows = tokenizer.encode_pairs(pairs)
    return [ids for ids, _ in rows], [types for _, types in rows]
