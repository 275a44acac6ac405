"""What the verbs that use a trained model share: its options, and opening it. Standard library until it is opened."""

import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zoo.errors import UserError
from zoo.options import Options

if TYPE_CHECKING:
    from zoo.weights.load import Loaded


def add_options(parser: Options) -> None:
    parser.add_argument("model", help="a run folder, or one of published weights")
    parser.add_argument("--checkpoint", default="best", help="best (default), last, or a path")
    parser.add_argument("--device", default=None, help="cpu, cuda ... (default: cuda where there is one)")


def check_counts(given: Namespace, *names: str) -> None:
    """UserError names the first of these options that is given and below 1."""
    for name in names:
        if getattr(given, name) is not None and getattr(given, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(given, name)}")


def inputs(words: list[str]) -> list[str]:
    """What was typed, or the lines of standard input where nothing was; UserError names a line that is not UTF-8."""
    return words or list(lines())


def lines() -> Iterator[str]:
    """The lines of standard input, as they come; UserError names one that is not UTF-8."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise UserError(f"standard input, line {number}: not UTF-8") from None


def texts(words: list[str]) -> list[str]:
    """`inputs` that are texts, and no names of files, which may be any bytes; UserError names one that is not UTF-8."""
    check_texts(words)
    return inputs(words)


def check_texts(words: list[str]) -> None:
    """UserError names the first of what was typed that is not UTF-8."""
    for number, word in enumerate(words, 1):
        check_text(f"text {number}", word)


def check_text(what: str, text: str | None) -> None:
    """UserError where what was typed, if anything, is not UTF-8."""
    if any("\ud800" <= letter <= "\udfff" for letter in text or ""):  # how Python hands over bytes that are not
        raise UserError(f"{what}: not UTF-8")


def open_model(given: Namespace, does: str, *kinds: str) -> "Loaded[Any]":
    """The model on its device; UserError where it is of none of these kinds, or has no tokenizer."""
    from zoo.core import denormals
    from zoo.weights.load import device_of, load, tokenizer_of

    denormals.flush()
    device = device_of(given.device)
    loaded = load(given.model, checkpoint=given.checkpoint)
    if loaded.config["kind"] not in kinds:
        raise UserError(f"{given.model} holds a {loaded.config['kind']}, which does not {does}")
    if loaded.tokenizer is None:
        raise UserError(f"{given.model} holds no {tokenizer_of(loaded.config['kind']).named()}")
    loaded.model.to(device)
    return loaded
