"""A text in, what a language model goes on with out, piece by piece as it is written."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from zoo.core.decode import GREEDY, Constraint, Sampling
from zoo.core.writer import Writer
from zoo.errors import UserError
from zoo.text.published import Published
from zoo.text.tokens import check_readable

LENGTH = 500  # tokens that are written where nobody says how many


class Cutter(Protocol):
    """What makes tokens of a text, or of a protein, and back."""

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


def start_of(model: Writer, tokenizer: Cutter) -> int | None:
    """The token that texts begin with: the model's, or that of a tokenizer that was published with one."""
    start: int | None = getattr(model, "start", None)
    if start is None and isinstance(tokenizer, Published) and tokenizer.has("start"):
        return tokenizer.start  # one of ours has such a token always, which a model of running text has never seen
    return start


def prompt_of(model: Writer, tokenizer: Cutter, text: str) -> list[int]:
    """Ids that a model goes on from: the text behind what texts begin with, and not ended.

    ValueError where a letter has no token, UserError for an empty text where nothing begins texts.
    """
    ids = tokenizer.encode(text)
    if isinstance(tokenizer, Published) and tokenizer.ends and ids[-1:] == [tokenizer.end]:
        ids = ids[:-1]
    start = getattr(model, "start", None) if ids else start_of(model, tokenizer)
    if start is not None and ids[:1] != [start]:  # a published tokenizer may have begun the text already
        ids = [start, *ids]
    if not ids:
        raise UserError("it is empty: give it at least one character")
    check_readable([ids], None, model.settings.get("vocab_size", tokenizer.vocab_size))
    return ids


def generate(
    model: Writer,
    tokenizer: Cutter,
    text: str,
    *,
    length: int | None = None,
    sampling: Sampling = GREEDY,
    constraint: Constraint | None = None,
) -> Iterator[str]:
    """The continuation of a text, piece by piece: a string for each of at most `length` tokens, and a last one.

        print("ROMEO:", *generate(loaded.model, loaded.tokenizer, "ROMEO:", length=100), sep="")

    The pieces joined are the whole continuation, without the prompt. A piece is "" where its token gives no text, or
    part of a character. `length` None: 500, or as many as the model has positions for. Greedy unless `sampling` says
    otherwise. Errors of `prompt_of` are raised by the call; a UserError is raised with the first piece where prompt and
    `length` together are more than the model has positions for.
    """
    ids = prompt_of(model, tokenizer, text)
    if length is None:
        longest = model.stack.position.longest
        length = LENGTH if longest is None else max(min(LENGTH, longest - len(ids)), 1)
    steps = model.stream(
        torch.tensor([ids], device=next(model.parameters()).device),
        length=length,
        sampling=sampling,
        constraint=constraint,
    )
    return pieces(tokenizer, ids, (int(token) for token in steps))


def pieces(tokenizer: Cutter, before: Sequence[int], tokens: Iterator[int]) -> Iterator[str]:
    """The text of tokens that follow others, for each what it adds; last, half a character that was never finished.

    Of what stands before, no more is decoded than the tokens of the last piece: with them a text keeps the space that
    it begins with, and they end where a character does.
    """
    ids = list(before)
    begin, last = 0, tokenizer.decode(ids)  # of the last piece
    shown, new = len(ids), ""
    for token in tokens:
        ids.append(token)
        new = _added(last, tokenizer.decode(ids[begin:]))
        if not new or new.endswith("\ufffd"):
            yield ""
            continue
        begin, shown = shown, len(ids)
        last = tokenizer.decode(ids[begin:])
        yield new
        new = ""
    yield new


def _added(before: str, whole: str) -> str:
    """What a text has behind the beginning that it shares with another."""
    pairs = enumerate(zip(before, whole, strict=False))
    return whole[next((place for place, (a, b) in pairs if a != b), min(len(before), len(whole))) :]
