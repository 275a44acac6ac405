"""The race of music models is fair: as many weights each, the same work, and every case runs."""

import pytest
import torch

from zoo.bench import harness, music

pytest.importorskip("x_transformers")
pytest.importorskip("transformers")


@pytest.mark.parametrize("length", [1024, 2048])
def test_weights_are_nearly_as_many(length: int) -> None:
    counts = {name: sum(p.numel() for p in make().parameters()) for name, make in music.models(length).items()}
    middle = sorted(counts.values())[1]
    assert all(abs(count / middle - 1) < 0.02 for count in counts.values()), counts


def test_every_case_runs_and_writes_as_much_as_asked() -> None:
    cpu = torch.device("cpu")
    cases = {race.case: race for race in music.races(torch.float32, cpu, quick=True)}
    assert len(cases) == 2
    for race in cases.values():
        for name, make in race.entries.items():
            out = make()()
            if "writing" in race.case:
                assert out.shape[-1] in (32, 33), name  # with the prompt, or without
    assert {bound.case for bound in music.BOUNDS} <= {" ".join(case.split()[:2]) for case in cases}


def test_relative_attention_holds_no_tensor_of_pairs_and_channels() -> None:
    """Peak memory of a training step beside rotary's: a few n x n maps of scores more, and no n x n x e."""
    length = 256
    peaks = {}
    for name, make in music.training(length, torch.float32, torch.device("cpu")).items():
        if name.startswith("zoo"):
            step = make()
            step()
            peaks[name] = harness.peak_bytes(step, torch.device("cpu"))
    pairs = 4 * 2 * music.HEADS * length**2  # bytes of one map of scores of the batch
    width = music.DIM // music.HEADS
    assert peaks["zoo relative"] - peaks["zoo rotary"] < pairs * (music.DEPTH * 6) < pairs * width
