"""Where data is kept, and reading text files that strangers wrote."""

import gzip
import os
import zlib
from pathlib import Path

import pooch

from zoo.errors import UserError

LONGEST = 100_000  # characters of a line


def data_folder() -> Path:
    """`ZOO_DATA`, or the user's cache folder: fetched files and tokenizers stand there."""
    return Path(os.environ.get("ZOO_DATA") or pooch.os_cache("zoo"))


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file (.gz is unpacked), without their ends; lines end at \\n or \\r\\n only.

    UserError names file and line: not UTF-8, a NUL, a line over 100,000 characters; and an empty file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not gzip, or cut short ({error})") from None
    if not raw.strip():
        raise UserError(f"{path}: the file is empty")
    lines = []
    for number, line in enumerate(raw.removesuffix(b"\n").split(b"\n"), 1):
        try:
            text = line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, line {number}: not UTF-8 (byte {error.object[error.start]:#04x})") from None
        if "\0" in text:
            raise UserError(f"{path}, line {number}: holds a NUL character")
        if len(text) > LONGEST:
            raise UserError(f"{path}, line {number}: {len(text):,} characters, a line may have {LONGEST:,}")
        lines.append(text.removeprefix("\ufeff") if number == 1 else text)
    return lines
