"""Averaging of the last weights: what is saved is their mean, and a run that was interrupted goes on exactly."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.test_traps import Bench, CrashError, crash, settings


@pytest.fixture
def bench(tmp_path: Path, device: torch.device) -> Iterator[Bench]:
    made = Bench(tmp_path)
    plain = settings()
    plain["trainer"] |= {
        "accelerator": device.type,
        "deterministic": device.type == "cuda",  # or two equal runs may differ in their last bits
        "max_epochs": 2,
        "callbacks": [{"class_path": "AverageLast", "init_args": {"last": 0.5, "every": 1}}],
    }
    plain["checkpoint"] = {"every_n_train_steps": 1, "save_top_k": -1}
    made.config = made.write("average.yaml", plain)
    yield made
    torch.use_deterministic_algorithms(False)


def states(run: Path) -> list[dict]:
    paths = sorted((run / "checkpoints").glob("step=*.ckpt"), key=lambda p: int(p.stem.split("=")[1]))
    return [torch.load(path, weights_only=True) for path in paths]


def test_what_is_saved_is_the_mean_of_the_last_half(bench: Bench) -> None:
    assert bench.fit() == 0
    saved = states(bench.run)
    steps, first = len(saved), len(saved) // 2
    name = "network.encoder.blocks.0.ffn.branch.up.weight"
    own = [state["current_model_state"][name] for state in saved]
    for state, weight in zip(saved[:first], own[:first], strict=True):
        assert torch.equal(state["state_dict"][name], weight)  # nothing is averaged yet
    assert steps >= 6
    # the step before the half begins is the first term
    expected = torch.stack(own[first - 1 :]).mean(0)
    torch.testing.assert_close(saved[-1]["state_dict"][name], expected)
    assert (saved[-1]["state_dict"][name] - own[-1]).abs().max() > 1e-4


def test_a_run_goes_on_exactly(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench.fit(run="whole") == 0
    with monkeypatch.context() as patch:
        bench.stop_at(patch, 9, crash)
        with pytest.raises(CrashError):
            bench.fit()
    assert bench.fit("--resume", "last") == 0
    assert torch.equal(bench.weights(), bench.weights("whole"))


def test_senseless_settings_are_one_line(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    plain = settings()
    plain["trainer"]["callbacks"] = [{"class_path": "AverageLast", "init_args": {"last": 2.0}}]
    assert bench.fit(config=bench.write("wrong.yaml", plain)) == 2
    err = capsys.readouterr().err
    assert "last (2.0) must be in (0, 1]" in err
    assert err.count("\n") == 1
