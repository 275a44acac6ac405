"""Averages of weights: what is saved is their mean, and a run that was interrupted goes on exactly."""

from collections.abc import Iterator
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from tests.test_bad_input import one_line
from tests.test_traps import Bench, CrashError, crash, settings
from zoo.train.callbacks import AverageLast, ExponentialMovingAverage

OVERLAYS = Path(__file__).parents[2] / "configs" / "overlay"


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
    expected = torch.stack(own[first:]).mean(0)
    torch.testing.assert_close(saved[-1]["state_dict"][name], expected)
    assert (saved[-1]["state_dict"][name] - own[-1]).abs().max() > 1e-4


class Steps(L.LightningModule):
    """Its weight is the number of steps that it has made."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return -self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def averaged(callback: Callback, steps: int) -> float:
    model = Steps()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = L.Trainer(max_steps=steps, callbacks=[callback], accelerator="cpu", **quiet)
    trainer.fit(model, torch.utils.data.DataLoader(torch.zeros(steps, 1)))
    return model.weight.item()


@pytest.mark.parametrize(
    ("last", "every", "terms"), [(0.2, 10, [81, 91]), (0.2, 7, [81, 88, 95]), (1.0, 50, [1, 51]), (0.01, 10, [100])]
)
def test_terms_of_the_mean_are_of_the_last_part_alone(last: float, every: int, terms: list[int]) -> None:
    assert averaged(AverageLast(last, every), 100) == pytest.approx(sum(terms) / len(terms))


@pytest.mark.parametrize(("decay", "steps"), [(0.998, 3), (0.998, 60), (0.9, 200)])
def test_a_moving_average_of_a_short_run_is_of_its_end(decay: float, steps: int) -> None:
    expected = 1.0
    for step in range(2, steps + 1):
        share = min(decay, step / (9 + step))  # (1 + t) / (10 + t) after t = step - 1
        expected = share * expected + (1 - share) * step
    found = averaged(ExponentialMovingAverage(decay), steps)
    assert found == pytest.approx(expected, rel=1e-5)
    assert steps * 0.85 < found < steps  # a tenth of the run behind its end, or less
    if decay == 0.9:
        assert found == pytest.approx(steps - 9, abs=1e-3)  # far from the beginning: decay / (1 - decay) steps


@pytest.mark.parametrize("more", [[], ["--config", OVERLAYS / "ema.yaml"]], ids=["last", "moving"])
def test_a_run_goes_on_exactly(bench: Bench, monkeypatch: pytest.MonkeyPatch, more: list) -> None:
    assert bench.fit(*more, run="whole") == 0
    with monkeypatch.context() as patch:
        bench.stop_at(patch, 9, crash)
        with pytest.raises(CrashError):
            bench.fit(*more)
    assert bench.fit(*more, "--resume", "last") == 0
    assert torch.equal(bench.weights(), bench.weights("whole"))


def test_a_new_end_is_said_where_the_mean_goes_by_it(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """The schedule knows no end here."""
    assert bench.fit("--trainer.max_epochs", 1) == 0
    assert bench.fit("--trainer.max_epochs", 2, "--resume", "last") == 0
    said = "trainer.max_epochs was 1, is 2: learning rates, and what is averaged, go by the new end from here on"
    assert said in capsys.readouterr().err


def test_senseless_settings_are_one_line(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    plain = settings()
    plain["trainer"]["callbacks"] = [{"class_path": "AverageLast", "init_args": {"last": 2.0}}]
    assert bench.fit(config=bench.write("wrong.yaml", plain)) == 2
    assert "last (2.0) must be in (0, 1]" in one_line(capsys, 2)
    plain["trainer"]["callbacks"] = [{"class_path": "ExponentialMovingAverage", "init_args": {"decay": 1.0}}]
    assert "decay (1.0) must be in [0, 1)" in one_line(capsys, bench.fit(config=bench.write("wrong.yaml", plain)))
