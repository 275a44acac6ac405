"""Files that are whole or not there. Standard library only: every floor may import it."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write beside the target, synced and put in its place in one move at the end; gone where that fails.

    A crash leaves the old file or the new one. Processes that write the same target do not meet. An OSError of a disk
    that is full names the target.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            error.filename = str(path)
        raise
    finally:
        beside.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file in one move."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
