"""The options of a verb. Standard library only."""

import argparse
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from zoo.errors import UserError, nearest


def check_new(option: str, path: Path) -> None:
    """UserError where the file or folder that an option names exists, for nothing is overwritten, or could not be
    written, since the folder that it would stand in does not exist."""
    if path.exists():
        raise UserError(f"{option} {path} exists already: give another name")
    if not path.parent.is_dir():
        raise UserError(f"{option} {path}: no folder {path.parent}")


def check_ours(option: str, path: Path, begins: str) -> None:
    """UserError where the file that an option names exists and is another's: ours of before, which begin so, are
    replaced."""
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder: name a file")
    if path.exists() and not path.read_bytes().startswith(begins.encode()):
        raise UserError(f"{option} {path} exists already and is not one that this verb wrote: give another name")


def numbered(name: str) -> Iterator[str]:
    """A name, then name-2, name-3 and so on, for files that lie over no other."""
    yield name
    yield from (f"{name}-{number}" for number in count(2))


class Options(argparse.ArgumentParser):
    """argparse without abbreviations, whose errors are one line with the nearest name, exit code 2."""

    def __init__(self, **kwargs: Any):
        super().__init__(**({"allow_abbrev": False} | kwargs))

    def error(self, message: str) -> NoReturn:
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            name = message.removeprefix(prefix).split()[0].split("=")[0]
            known = [option for option in self._option_string_actions if option.startswith("--")]
            raise UserError(f"unknown option {name}{nearest(name, known)}")
        raise UserError(message)
