"""Faults that are not bugs. Standard library only: every floor may import it."""

import difflib


class UserError(ValueError):
    """A fault in what the user gave, said in one line: what, where, what would be right. Exit code 2."""


class TrainingError(RuntimeError):
    """A run that must not go on (a loss that is not a number), said in one line. Exit code 1."""


def if_yours(module: str = "MODULE") -> str:
    """A hint for a name that only the user's own code can have given a meaning."""
    return f"; if it is your own, name its module: zoo --import {module} ..., or import it before zoo.load"


def nearest(name: str, allowed: list[str]) -> str:
    """A hint for a mistyped name: `; did you mean 'x'?`, or what is allowed where nothing is near."""
    close = difflib.get_close_matches(name, allowed, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; allowed: {', '.join(sorted(allowed))}"
