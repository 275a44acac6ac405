"""`zoo bench attend`: which attention kernel is fastest here, who multiplies matrices of float32 fastest, and the table
that makes the core go by it."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import torch

from zoo.atomic import write_atomically
from zoo.bench.harness import Bound, Race, Result, Step
from zoo.core import Layout, attend
from zoo.core.attend import KERNELS
from zoo.core.kernels import Library, Threshold
from zoo.core.linear import product

BOUNDS: tuple[Bound, ...] = ()
WIDTHS, LENGTHS = (16, 32, 64, 128), (64, 128, 256, 512, 1024)
TOKENS = 2048
GAIN = 0.9  # a kernel takes a row of the table only where it saves a tenth
PRODUCTS = "float32 products"


def races(dtype: torch.dtype, device: torch.device, *, quick: bool) -> Iterator[Race]:
    """Products of a network 512 wide. Every kernel over head widths and lengths, with four heads and the same number of
    tokens in each."""
    if dtype == torch.float32 and device.type == "cpu":
        for rows in (1, 128) if quick else (1, 16, 128, 2048):
            yield Race(f"{PRODUCTS} of {rows} rows", _products(rows))
    for training in (True, False):
        for width in (16, 64) if quick else WIDTHS:
            for length in (64, 256) if quick else LENGTHS:
                yield Race(_case(dtype, training, width, length), _kernels(dtype, device, training, width, length))


def _products(rows: int) -> dict[str, Callable[[], Step]]:
    """A feed-forward's two products and their gradients, of as many weights as no cache holds: 24 MB."""
    generator = torch.Generator().manual_seed(0)

    def make(by: Library) -> Step:
        x = torch.randn(rows, 512, generator=generator)
        weights = [torch.randn(shape, generator=generator).div_(32) for shape in ((2048, 512), (512, 2048)) * 3]

        def step() -> object:
            states = [x]
            for weight in weights:
                states.append(product(states[-1], weight, by=by))
            if rows == 1:  # a step of writing
                return states
            grad = states.pop()
            for weight, state in zip(reversed(weights), reversed(states), strict=True):
                product(grad.t(), state.t(), by=by)
                grad = product(grad, weight.t(), by=by)
            return grad

        return torch.no_grad()(step)

    return {by: lambda by=by: make(by) for by in get_args(Library)}


def _case(dtype: torch.dtype, training: bool, width: int, length: int) -> str:
    return f"{str(dtype).removeprefix('torch.')} {'training' if training else 'inference'} e {width} T {length}"


def _kernels(
    dtype: torch.dtype, device: torch.device, training: bool, width: int, length: int
) -> dict[str, Callable[[], Step]]:
    layout = Layout.dense(TOKENS // length, length, device=device)
    generator = torch.Generator(device).manual_seed(0)

    def make(kernel: str) -> Step:
        q, k, v = (
            torch.randn(TOKENS, 4, width, device=device, generator=generator).to(dtype).requires_grad_(training)
            for _ in range(3)
        )
        like = torch.ones_like(q)

        def step() -> object:
            out = attend(q, k, v, queries=layout, keys=layout, scale=width**-0.5, kernel=kernel)
            return torch.autograd.grad(out, (q, k, v), like) if training else out

        return step if training else torch.no_grad()(step)

    names = ["fused", *(n for n in KERNELS if n != "fused" and (n != "float32" or dtype != torch.float32))]
    return {name: lambda name=name: make(name) for name in names}  # type: ignore[misc]


def thresholds(results: Sequence[Result]) -> list[Threshold]:
    """Rows for the table: for each head width the fastest kernel up to a length, where it beats the fused one clearly.

    A width stands for all from the last one measured up to it. Behind rows of `blocks` stand those that there would be
    without that kernel: it does not serve all that is asked of it.
    """
    raced = [result for result in results if not result.case.startswith(PRODUCTS)]
    rows = _winners(raced, lambda name: True)
    if any(row.kernel == "blocks" for row in rows):
        rows += [row for row in _winners(raced, lambda name: name != "blocks") if row not in rows]
    return rows


def _winners(results: Sequence[Result], may: Callable[[str], bool]) -> list[Threshold]:
    best: dict[tuple[str, bool, int], list[tuple[int, str]]] = {}
    for result in results:
        dtype, mode, _, width, _, length = result.case.split()
        winner = min(filter(may, result.seconds), key=result.median)
        if result.ratio(winner) > GAIN:
            winner = "fused"
        best.setdefault((dtype, mode == "training", int(width)), []).append((int(length), winner))
    rows = []
    for (dtype, training, width), found in best.items():
        widths = sorted({w for d, t, w in best if (d, t) == (dtype, training)})
        low = max((w for w in widths if w < width), default=0) + 1
        high = width if width != widths[-1] else 256
        runs: list[tuple[int, str]] = []  # the longest length of each stretch that one kernel wins
        for length, winner in sorted(found):
            if runs and runs[-1][1] == winner:
                runs.pop()
            runs.append((length, winner))
        if {winner for _, winner in runs} != {"fused"}:
            rows += [Threshold(dtype, training, low, high, length, winner) for length, winner in runs]
    return rows


def multiplier(results: Sequence[Result]) -> Library | None:
    """Who multiplies: oneDNN where it saves a tenth in the geometric mean over numbers of rows. None where none was
    raced."""
    ratios = [result.ratio("onednn", "torch") for result in results if result.case.startswith(PRODUCTS)]
    if not ratios:
        return None
    return "onednn" if math.prod(ratios) ** (1 / len(ratios)) <= GAIN else "torch"


def save(results: Sequence[Result], path: Path, about: dict[str, object]) -> None:
    """Write the table where the core looks for it."""
    table: dict[str, object] = {"machine": about, "thresholds": [asdict(row) for row in thresholds(results)]}
    if library := multiplier(results):
        table["products"] = library
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(table, indent=2) + "\n")
