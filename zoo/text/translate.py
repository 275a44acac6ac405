"""Texts in, translations out: batches by length, the order of the input kept, however many there are."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.core.decode import Sampling
from zoo.data.batches import rows_of
from zoo.errors import UserError
from zoo.text.model import Seq2Seq
from zoo.text.tokens import Tokenizer, check_readable

WINDOW = 2048  # texts that are sorted by length at a time


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
    names a text that is longer than the model can read, before any is translated.
    """
    how = _How(beams, nbest, length, length_penalty, sampling, batch)
    return list(_in_order(model, tokenizer, _ids(model, tokenizer, texts, prefix, 0), texts, 0, how))


def translations(
    model: Seq2Seq,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    beams: int = 4,
    nbest: int = 1,
    length: int = 128,
    length_penalty: float = 1.0,
    sampling: Sampling | None = None,
    batch: int = 32,
    prefix: str = "",
) -> Iterator[list[tuple[float, str]]]:
    """What `translate` gives, in the order of the texts, each as soon as it and those before it are translated.

    Texts are read as they are needed, at most 2,048 ahead; the first windows are smaller, so that the first
    translations come soon. A UserError is raised when its text is reached.
    """
    how = _How(beams, nbest, length, length_penalty, sampling, batch)
    rest, first, size = iter(texts), 0, batch
    while window := list(islice(rest, size)):
        fault = None
        try:
            ids = _ids(model, tokenizer, window, prefix, first)
        except UserError as error:  # of a text behind others that can be translated: those first
            fault, ids = error, []
            with suppress(UserError):
                for i, text in enumerate(window):
                    ids += _ids(model, tokenizer, [text], prefix, first + i)
            window = window[: len(ids)]
        yield from _in_order(model, tokenizer, ids, window, first, how)
        if fault is not None:
            raise fault
        first, size = first + len(window), max(min(2 * size, WINDOW), batch)


class _How(NamedTuple):
    """How texts are translated: as `translate` has it."""

    beams: int
    nbest: int
    length: int
    length_penalty: float
    sampling: Sampling | None
    batch: int


def _in_order(
    model: Seq2Seq, tokenizer: Tokenizer, ids: Sequence[list[int]], texts: Sequence[str], first: int, how: _How
) -> Iterator[list[tuple[float, str]]]:
    """The translations of texts, which are `ids`, in batches of similar length; each is given as soon as it and those
    before it are done. `first`: how many texts stand before these."""
    device = next(model.parameters()).device
    done = {i: [(0.0, "")] * how.nbest for i, text in enumerate(texts) if not text.strip()}
    order = sorted((i for i in range(len(texts)) if i not in done), key=lambda i: len(ids[i]))
    given = 0
    for begin in range(0, len(order), how.batch):
        rows = order[begin : begin + how.batch]
        source, keep = (x.to(device) for x in rows_of([ids[i] for i in rows], tokenizer.pad))
        if how.sampling is None:
            found = model.generate(
                source,
                keep,
                length=how.length,
                beams=how.beams,
                nbest=how.nbest,
                length_penalty=how.length_penalty,
            )
        else:
            again = [x.repeat_interleave(how.nbest, 0) for x in (source, keep)]
            seeds = tuple((how.sampling.seed, first + i, number) for i in rows for number in range(how.nbest))
            drawn = model.generate(*again, length=how.length, sampling=_Apart(**asdict(how.sampling), seeds=seeds))
            found = [[row[0] for row in drawn[i : i + how.nbest]] for i in range(0, len(drawn), how.nbest)]
        for i, hypotheses in zip(rows, found, strict=True):
            decoded = tokenizer.decode_batch([h.tokens for h in hypotheses])
            done[i] = [(h.score, text) for h, text in zip(hypotheses, decoded, strict=True)]
        while given in done:
            yield done.pop(given)
            given += 1
    yield from (done[i] for i in range(given, len(texts)))  # those behind the last that is not empty


def _ids(model: Seq2Seq, tokenizer: Tokenizer, texts: Sequence[str], prefix: str, first: int) -> list[list[int]]:
    """Texts as the model reads them. UserError names one that it cannot read by its number, of which `first` stand
    before these."""
    ids = [tokenizer.closed(row) for row in tokenizer.encode_batch([prefix + text for text in texts])]
    check_readable(ids, model.encoder.position.longest, model.source_embedding.num_embeddings, first + 1)
    return ids


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
