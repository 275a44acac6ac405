"""The peers of `zoo bench vision` have as many parameters and give logits for the same images; every case runs."""

import pytest
import torch

from zoo.bench import vision

CPU = torch.device("cpu")
SIZES = {"size": 32, "patch": 4, "dim": 192, "depth": 2, "heads": 3}


@pytest.mark.parametrize("name", vision.MODELS)
def test_a_peer_has_as_many_parameters(name: str) -> None:
    counted = {
        which: sum(p.numel() for p in vision.built(vision.MODELS[which], SIZES, CPU).parameters())
        for which in (name, "zoo")
    }
    assert counted[name] == pytest.approx(counted["zoo"], rel=0.01)
    assert vision.built(vision.MODELS[name], SIZES, CPU)(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_every_case_runs() -> None:
    cases = []
    for race in vision.races(torch.float32, CPU, quick=True):
        cases.append(race.case)
        for make in race.entries.values():
            make()()
    assert len(set(cases)) == 3
