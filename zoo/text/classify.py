"""Texts, or pairs of them, in, the probabilities of their classes out: in batches, the order of the input kept."""

from collections.abc import Iterator, Sequence

import torch

from zoo.data.batches import rows_of
from zoo.data.rows import Rows, in_turns, typed
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
        some = range(begin, min(begin + batch, len(texts)))
        rows, keep = (x.to(device) for x in rows_of([ids[i] for i in some], tokenizer.pad))
        types = None
        if segments and model.settings["types"] > 1:
            types = rows_of([segments[i] for i in some], 0)[0].to(device)
        yield from model(rows, keep, types).float().softmax(-1).tolist()


def _rows(tokenizer: Tokenizer, texts: Sequence[str] | Sequence[tuple[str, str]]) -> tuple[Rows, Rows]:
    """Ids of texts or pairs; of pairs, which of the two each token belongs to."""
    pairs = [text for text in texts if not isinstance(text, str)]
    if not pairs:
        return Rows(map(tokenizer.around, in_turns([*map(str, texts)], tokenizer.encode_batch))), Rows()
    return typed(in_turns(pairs, tokenizer.encode_pairs))
