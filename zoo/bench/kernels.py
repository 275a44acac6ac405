"""`zoo bench attend`: which attention kernel is fastest here, and the table that makes `attend` use it."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from zoo.atomic import write_atomically
from zoo.bench.harness import Bound, Race, Result, Step
from zoo.core import Layout, attend
from zoo.core.attend import KERNELS
from zoo.core.kernels import Threshold

BOUNDS: tuple[Bound, ...] = ()
WIDTHS, LENGTHS = (16, 32, 64, 128), (64, 128, 256, 512, 1024)
TOKENS = 2048
GAIN = 0.9  # a kernel takes a row of the table only where it saves a tenth


def races(dtype: torch.dtype, device: torch.device, *, quick: bool) -> Iterator[Race]:
    """Every kernel over head widths and lengths, four heads, the same number of tokens in each."""
    for training in (True, False):
        for width in (16, 64) if quick else WIDTHS:
            for length in (64, 256) if quick else LENGTHS:
                yield Race(_case(dtype, training, width, length), _kernels(dtype, device, training, width, length))


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

    # blocks are for a bias that learns, and there is none here
    other = (n for n in KERNELS if n not in ("fused", "blocks") and (n != "float32" or dtype != torch.float32))
    names = ["fused", *other]
    return {name: lambda name=name: make(name) for name in names}  # type: ignore[misc]


def thresholds(results: Sequence[Result]) -> list[Threshold]:
    """Rows for the table: for each head width the fastest kernel up to a length, where it beats the fused one clearly.

    A width stands for all from the last one measured up to it.
    """
    best: dict[tuple[str, bool, int], list[tuple[int, str]]] = {}
    for result in results:
        dtype, mode, _, width, _, length = result.case.split()
        winner = min(result.seconds, key=result.median)
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


def save(results: Sequence[Result], path: Path, about: dict[str, object]) -> None:
    """Write the table where `attend` looks for it."""
    rows = [asdict(row) for row in thresholds(results)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"machine": about, "thresholds": rows}, indent=2) + "\n")
