"""Races: candidates that do the same work take turns, and their medians are compared.

Turns are interleaved, because a machine's speed drifts by more than what is measured; within a round everybody runs
once, beginning with another candidate each time.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from zoo.core.processor import multiplies_halves

Step = Callable[[], object]

HALF_UNITS = "x86 with bfloat16 units"
CUDA = "CUDA"


@dataclass(frozen=True)
class Bound:
    """`ours` may take at most `at_most` of `reference`'s time in the cases whose name begins with `case`.

    `machine`: the class of machine that the bound was set on; None: any.
    """

    case: str
    ours: str
    reference: str
    at_most: float
    machine: str | None = None


@dataclass(frozen=True)
class Race:
    """One case: `entries` by name, the reference first; each makes its step when its turn to be built comes.

    `work`: what a step gets done, in `unit`s (tokens, images), from which come those a second; 0: not said.
    """

    case: str
    entries: Mapping[str, Callable[[], Step]]
    work: float = 0
    unit: str = ""


@dataclass(frozen=True)
class Result:
    """Seconds of every turn by candidate; peak bytes of one step above what stood before; the work of a step."""

    case: str
    seconds: dict[str, list[float]] = field(repr=False)
    peak: dict[str, int]
    work: float = 0
    unit: str = ""

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, reference: str | None = None) -> float:
        """Median time of `name` as a share of the reference's: below 1 is faster."""
        return self.median(name) / self.median(reference or next(iter(self.seconds)))

    def to_plain(self) -> dict[str, Any]:
        return {
            "case": self.case,
            "reference": next(iter(self.seconds)),
            "unit": self.unit,
            "candidates": {
                name: {
                    "median_s": self.median(name),
                    "min_s": min(times),
                    "max_s": max(times),
                    "ratio": self.ratio(name),
                    "rounds": len(times),
                    "peak_bytes": self.peak.get(name),
                    "per_second": self.work / self.median(name) if self.unit else None,
                }
                for name, times in self.seconds.items()
            },
        }


def run(race: Race, *, rounds: int, device: torch.device, least: float = 0.03, memory: bool = False) -> Result:
    """Race. A turn repeats its step until it lasts about `least` seconds, so that the clock is fine enough."""
    steps = {name: make() for name, make in race.entries.items()}
    repeats = {}
    for name, step in steps.items():
        step()
        begin = _now(device)
        step()
        repeats[name] = max(1, round(least / max(_now(device) - begin, 1e-7)))
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(rounds):
            for name in order[turn % len(order) :] + order[: turn % len(order)]:
                begin = _now(device)
                for _ in range(repeats[name]):
                    steps[name]()
                seconds[name].append((_now(device) - begin) / repeats[name])
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    peak = {name: peak_bytes(step, device) for name, step in steps.items()} if memory else {}
    return Result(race.case, seconds, peak, race.work, race.unit)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_bytes(step: Step, device: torch.device) -> int:
    """The most memory for tensors that a step holds at once, above what stood before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events: Any = profile.profiler
    held = peak = 0
    memory = [e for e in events.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(memory, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def machine() -> set[str]:
    """The classes that this machine is of."""
    found = set()
    if torch.cuda.is_available():
        found.add(CUDA)
    if multiplies_halves():
        found.add(HALF_UNITS)
    return found


def judge(results: Sequence[Result], bounds: Sequence[Bound]) -> list[tuple[Bound, str, float, bool | None]]:
    """Every bound with the case it met, the ratio there, and whether it holds (None: not this class of machine)."""
    here = machine()
    found: list[tuple[Bound, str, float, bool | None]] = []
    for bound in bounds:
        for result in results:
            if result.case.startswith(bound.case) and {bound.ours, bound.reference} <= result.seconds.keys():
                ratio = result.ratio(bound.ours, bound.reference)
                applies = bound.machine is None or bound.machine in here
                found.append((bound, result.case, ratio, ratio <= bound.at_most if applies else None))
    return found


def to_plain(results: Sequence[Result], bounds: Sequence[Bound]) -> dict[str, Any]:
    """Bounds and results as plain values."""
    said = [
        {"case": case, "ours": bound.ours, "reference": bound.reference, "at_most": bound.at_most, "ratio": ratio}
        | {"machine": bound.machine, "kept": kept}
        for bound, case, ratio, kept in judge(results, bounds)
    ]
    return {"bounds": said, "results": [result.to_plain() for result in results]}


def table(results: Sequence[Result]) -> str:
    """Cases in rows, each candidate's share of the reference's time."""
    lines = []
    for result in results:
        reference = next(iter(result.seconds))
        others = [
            f"{name} {result.ratio(name):.2f}{_beside(result, name)}" for name in result.seconds if name != reference
        ]
        own = f"{reference} {1000 * result.median(reference):.3g} ms{_beside(result, reference)}"
        lines.append(f"{result.case:<58} {own} = 1; {'; '.join(others)}")
    return "\n".join(lines)


def _beside(result: Result, name: str) -> str:
    """What stands beside a candidate's time: peak memory, work per second."""
    said = [f"{result.peak[name] / 2**20:.0f} MiB"] if result.peak else []
    if result.unit:
        said.append(f"{result.work / result.median(name):,.4g} {result.unit}/s")
    return f" ({', '.join(said)})" if said else ""
