"""What serves attention (zoo/core/attend.py) and products of matrices (zoo/core/linear.py) fastest on a CPU: tables of
what was measured, ours or the user's."""

import json
import os
import sys
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, get_args

import torch

from zoo.core.processor import units, vendor

KernelName = Literal["explicit", "fused", "float32", "blocks"]
Library = Literal["torch", "onednn"]


@dataclass(frozen=True)
class Threshold:
    """On a CPU: use `kernel` for this type of numbers, up to these sizes. The first row that fits is taken.

    Not asked for one query without a bias, which learns nothing: a step of writing takes `fused`. A row of `blocks`
    does not fit where that kernel gives way: with dropout, under the compiler and transforms, with a bias by an index;
    not to one query; and not in training where its weights would take more than `KEPT` bytes in each layer.
    """

    dtype: str  # "float32", "bfloat16"
    training: bool  # gradients are wanted
    min_width: int  # e at least
    max_width: int  # e at most
    max_length: int  # n and m at most
    kernel: KernelName


KEPT = 2**27  # bytes
# Medians over interleaved rounds; where no row fits, `fused`. Explicit rounds its scores to bfloat16 before the
# softmax, which fused does not: docs/design.md says what that costs.
#
# x86 with AMX (2 cores): explicit takes 0.19-0.67 of fused's time up to 256 tokens and 1.3-2.7 of it from 512 on;
# float32 copies 0.56 at width 16. Also what is taken for processors that are not known.
THRESHOLDS = (
    Threshold("bfloat16", True, 64, 256, 256, "explicit"),
    Threshold("bfloat16", True, 1, 16, 8192, "float32"),
)
# x86 with AVX512_BF16 and no AMX (AMD EPYC, Zen 5, 2 cores), in shares of fused's time where nothing is causal
# (experiments/bench/results/attend-zen5-2-threads.json). bfloat16, training: blocks 0.11-0.24 up to 128 tokens, 0.38 at
# 256, 0.42-0.69 at 1,024; explicit, for what blocks does not serve, as much until 512. bfloat16, inference: blocks
# 0.36-0.78. float32, training: blocks 0.81-0.95 at 64; inference no less than 0.9.
THRESHOLDS_AVX512 = (
    Threshold("bfloat16", True, 1, 256, 2048, "blocks"),
    Threshold("bfloat16", True, 1, 256, 512, "explicit"),
    Threshold("bfloat16", False, 1, 256, 2048, "blocks"),
    Threshold("float32", True, 1, 128, 128, "blocks"),
)


def thresholds_file() -> Path:
    """Where the user's own measured table stands: `ZOO_KERNELS`, or kernels.json in the user's cache folder.

    RuntimeError where neither is said and there is no home directory.
    """
    if named := os.environ.get("ZOO_KERNELS"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zoo" / "kernels.json"


@dataclass(frozen=True)
class Choices:
    """What was measured to be fastest: kernels of attention, and who multiplies matrices of float32."""

    thresholds: tuple[Threshold, ...]
    products: Library


def choices_of(vendor: str, units: Container[str]) -> Choices:
    """Ours for such a processor.

    Products: torch asks MKL for those of float32, whose kernels of 512 bits are for Intel's processors alone. On an AMD
    EPYC of Zen 5 oneDNN takes 0.4 to 0.7 of its time (experiments/bench/results/products-zen5-2-threads.json).
    """
    rows = THRESHOLDS_AVX512 if "avx512_bf16" in units and "amx_bf16" not in units else THRESHOLDS
    has_both = _available(torch.backends.mkl) and _available(torch.backends.mkldnn)
    narrowed = vendor == "AuthenticAMD" and "avx512f" in units
    return Choices(rows, "onednn" if narrowed and has_both else "torch")


def _available(library: ModuleType) -> bool:
    found: bool = library.is_available()
    return found


def load_choices(path: Path) -> Choices:
    """What a file says that `zoo bench attend --save` wrote; ours where there is none, and for what it does not say.
    ValueError where it is no such file."""
    ours = choices_of(vendor(), units())
    if not path.is_file():
        return ours
    try:
        found = json.loads(path.read_text())
        rows = tuple(Threshold(**row) for row in found["thresholds"])
        for row in rows:
            sizes = (row.min_width, row.max_width, row.max_length)
            if row.kernel not in get_args(KernelName) or any(type(size) is not int for size in sizes):
                raise ValueError(f"no row of it: {row}")
        products = found.get("products", ours.products)
        if products not in get_args(Library):
            raise ValueError(f"products by {products!r}, which is none of {', '.join(get_args(Library))}")
        return Choices(rows, products if _available(torch.backends.mkldnn) else "torch")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path}: not a table of kernels ({error}); write it anew with 'zoo bench attend --save'"
        ) from None


def choices_here() -> Choices:
    """The user's own where they can be read: a broken file is said, and keeps nobody from importing this."""
    try:
        return load_choices(thresholds_file())
    except RuntimeError:  # nobody's home: a container's user without a name
        pass
    except ValueError as error:
        print(f"{error}; until then the built-in table is used", file=sys.stderr)
    return choices_of(vendor(), units())


CHOICES = choices_here()
