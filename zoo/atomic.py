"""Files that are whole or not there. Standard library only: every floor may import it."""

import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Write beside the target, sync, replace it in one move: a crash leaves the old file or the new one."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
