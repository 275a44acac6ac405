"""Faults that are not bugs. Standard library only: every floor may import it."""

import difflib


class UserError(ValueError):
    """A fault in what the user gave, said in one line: what, where, what would be right. Exit code 2."""


class TrainingError(RuntimeError):
    """A run that must not go on (a loss that is not a number), said in one line. Exit code 1."""


def nearest(name: str, allowed: list[str]) -> str:
    """A hint for a mistyped name: `; did you mean 'x'?`, or what is allowed where nothing is near."""
    close = difflib.get_close_matches(name, allowed, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; allowed: {', '.join(sorted(allowed))}"
