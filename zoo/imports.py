"""Modules of the user's own, named on the command line: `zoo --import MODULE VERB ...`. Standard library only.

A setting, task or data module of one's own is known once its module was imported. No file that zoo opens may name a
module to import (a model's folder may be anybody's); who types the command may.
"""

import importlib
import os
import sys
import traceback
from itertools import accumulate

from zoo.errors import UserError

OPTION = "--import"
brought: list[str] = []  # what the command line has named


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """The modules that options before the verb name, and what is left of the command line."""
    named, rest = [], list(argv)
    while rest and rest[0].partition("=")[0] == OPTION:
        _, sign, name = rest.pop(0).partition("=")
        named.append(name if sign or not rest else rest.pop(0))
    return named, rest


def options() -> list[str]:
    """The options that name again what was brought: part of the command that repeats a run."""
    return [word for name in brought for word in (OPTION, name)]


def bring(name: str) -> None:
    """Import a module, from the current folder or where Python finds modules. UserError says what is wrong with it."""
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        raise UserError(f"{OPTION} {name}: name a module as Python does, as {OPTION} mine for mine.py in this folder")
    if os.getcwd() not in sys.path:  # as with python -m; an installed command has its own folder there
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(name)
    except Exception as error:  # a module may fail in any way
        if isinstance(error, ModuleNotFoundError) and error.name in [*accumulate(name.split("."), "{}.{}".format)]:
            raise UserError(f"{OPTION} {name}: no such module, in {os.getcwd()} or installed") from None
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if isinstance(error, SyntaxError) else f" ({last.filename}, line {last.lineno})"
        raise UserError(f"{OPTION} {name}: {type(error).__name__}: {error}{where}") from None
    if name not in brought:
        brought.append(name)
