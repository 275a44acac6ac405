"""Which kernel of zoo/core/attend.py serves which sizes on a CPU: a table of what was measured, ours or the user's."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

KernelName = Literal["explicit", "fused", "float32", "blocks"]


@dataclass(frozen=True)
class Threshold:
    """On a CPU: use `kernel` for this type of numbers, up to these sizes. The first row that fits is taken.

    Not asked for one query without a bias, which learns nothing: a step of writing takes `fused`.
    """

    dtype: str  # "float32", "bfloat16"
    training: bool  # gradients are wanted
    min_width: int  # e at least
    max_width: int  # e at most
    max_length: int  # n and m at most
    kernel: KernelName


# Medians over interleaved rounds; where no row fits, `fused`. The rows hold on x86 with AMX (2 cores): explicit
# takes 0.19-0.67 of fused's time up to 256 tokens and 1.3-2.7 of it from 512 on; float32 copies 0.56 at width 16.
# Explicit rounds its scores to bfloat16 before the softmax, which fused does not: docs/design.md says what that costs.
THRESHOLDS = (
    Threshold("bfloat16", True, 64, 256, 256, "explicit"),
    Threshold("bfloat16", True, 1, 16, 8192, "float32"),
)


def thresholds_file() -> Path:
    """Where the user's own measured table stands: `ZOO_KERNELS`, or kernels.json in the user's cache folder.

    RuntimeError where neither is said and there is no home directory.
    """
    if named := os.environ.get("ZOO_KERNELS"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zoo" / "kernels.json"


def load_thresholds(path: Path) -> tuple[Threshold, ...]:
    """The table of a file that `zoo bench attend --save` wrote; ours where there is none. ValueError where it is not
    one."""
    if not path.is_file():
        return THRESHOLDS
    try:
        rows = tuple(Threshold(**row) for row in json.loads(path.read_text())["thresholds"])
        for row in rows:
            sizes = (row.min_width, row.max_width, row.max_length)
            if row.kernel not in get_args(KernelName) or any(type(size) is not int for size in sizes):
                raise ValueError(f"no row of it: {row}")
        return rows
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path}: not a table of kernels ({error}); write it anew with 'zoo bench attend --save'"
        ) from None


def thresholds_here() -> tuple[Threshold, ...]:
    """The user's own where it can be read: a broken file is said, and keeps nobody from importing this."""
    try:
        return load_thresholds(thresholds_file())
    except RuntimeError:  # nobody's home: a container's user without a name
        return THRESHOLDS
    except ValueError as error:
        print(f"{error}; until then the built-in table is used", file=sys.stderr)
        return THRESHOLDS
