"""The peers of `zoo bench lm` do the same work: as many weights within a race, and every case runs."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from zoo.bench import core, lm

CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"VOCAB": 60, "DIM": 24, "DEPTH": 2, "HEADS": 4}.items():
        monkeypatch.setattr(lm, name, value)
    for name in ("T5", "LLAMA", "BERT"):
        monkeypatch.setattr(lm, name, getattr(lm, name).replace(dim=24, depth=2, heads=4))
    models = core.language_models(1, torch.float32, CPU, 16)
    monkeypatch.setattr(lm, "language_models", lambda *sizes: models)


@pytest.mark.usefixtures("small")
def test_every_case_runs() -> None:
    cases = []
    for race in lm.races(torch.float32, CPU, quick=True):
        cases.append(race.case)
        for make in race.entries.values():
            make()()
    assert len(cases) == len(set(cases)) == 8
    sizes = f"{lm.DIM}x{lm.DEPTH} T 64"
    bounds = [bound.case.replace("bfloat16", "float32").replace("384x6 T 256", sizes) for bound in lm.BOUNDS]
    assert all(any(case.startswith(bound) for case in cases) for bound in bounds)


@pytest.mark.parametrize("race", [lm.masked, lm.spans])
def test_equal_weights(race: Callable[..., dict], monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {}
    for name, make in race(1, 16, torch.float32, CPU).items():
        monkeypatch.setattr(lm, "training_step", lambda model, *rest, n=name: counts.update({n: count(model)}))
        make()
    reference = next(iter(counts.values()))
    assert all(abs(n - reference) <= 0.05 * reference for n in counts.values()), counts


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
