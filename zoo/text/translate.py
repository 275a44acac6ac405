"""Texts in, translations out: batches by length, the order of the input kept."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from zoo.core.decode import Sampling
from zoo.data.batches import rows_of
from zoo.text.model import Seq2Seq
from zoo.text.tokens import Tokenizer, check_readable


def translate(
    model: Seq2Seq,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    beams: int = 4,
    nbest: int = 1,
    length: int = 128,
    length_penalty: float = 1.0,
    sampling: Sampling | None = None,
    batch: int = 32,
    prefix: str = "",
) -> list[list[tuple[float, str]]]:
    """`nbest` translations of each text, best first, with their scores; an empty text translates to itself.

    A score is the log probability divided by length ** `length_penalty`. With `sampling` there is no beam: `nbest`
    translations are drawn, and scores are 0; each has a seed of its own, made of the given one and of the text's place
    in `texts`, so that nothing hangs on what else is in a batch. Texts of similar length go together, `batch` at a
    time, on the model's device. `prefix` stands before each text, where the model wants to be told its task. UserError
    names a text that is longer than the model can read.
    """
    device = next(model.parameters()).device
    ids = [tokenizer.closed(row) for row in tokenizer.encode_batch([prefix + text for text in texts])]
    check_readable(ids, model.encoder.position.longest, model.source_embedding.num_embeddings)
    results: list[list[tuple[float, str]]] = [[(0.0, "")] * nbest for _ in texts]
    order = sorted((i for i, text in enumerate(texts) if text.strip()), key=lambda i: len(ids[i]))
    for begin in range(0, len(order), batch):
        rows = order[begin : begin + batch]
        source, keep = (x.to(device) for x in rows_of([ids[i] for i in rows], tokenizer.pad))
        if sampling is None:
            found = model.generate(source, keep, length=length, beams=beams, nbest=nbest, length_penalty=length_penalty)
        else:
            again = [x.repeat_interleave(nbest, 0) for x in (source, keep)]
            seeds = [(sampling.seed, i, number) for i in rows for number in range(nbest)]
            drawn = model.generate(*again, length=length, sampling=_Apart(**asdict(sampling), seeds=tuple(seeds)))
            found = [[row[0] for row in drawn[i : i + nbest]] for i in range(0, len(drawn), nbest)]
        for i, hypotheses in zip(rows, found, strict=True):
            decoded = tokenizer.decode_batch([h.tokens for h in hypotheses])
            results[i] = [(h.score, text) for h, text in zip(hypotheses, decoded, strict=True)]
    return results


@dataclass(frozen=True, kw_only=True)
class _Apart(Sampling):
    """Each row of a batch drawn with a random state of its own."""

    seeds: tuple[tuple[int, ...], ...]

    def drawer(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        if self.temperature == 0:
            return super().drawer(device)
        digests = [hashlib.sha256(str(seed).encode()).digest() for seed in self.seeds]
        states = [torch.Generator(device).manual_seed(int.from_bytes(digest[:8])) for digest in digests]

        def draw(scores: Tensor) -> Tensor:
            shares = self.cut(scores).softmax(-1)
            rows = zip(shares, states, strict=True)
            return torch.cat([torch.multinomial(share, 1, generator=state) for share, state in rows])

        return draw
