"""Training through the command line on the device: here the CPU, under `-m gpu` CUDA in each precision."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import zoo
from tests.test_traps import QUIET, Bench, settings
from zoo.cli import main
from zoo.weights.load import device_of

OVERLAYS = Path(__file__).parents[2] / "configs" / "overlay"
DIGITS = {
    "model": {
        "class_path": "Classification",
        "init_args": {
            "stack": {"dim": 16, "depth": 1, "heads": 2, "dropout": 0.1, "position": "Rotary", "norm": "RMSNorm"},
            "patches": {"class_path": "LinearPatches", "init_args": {"size": 4}},
            "optimizer": "Muon",  # whose products are of halves on CUDA
        },
    },
    "data": {"class_path": "Digits", "init_args": {"batch": 32, "augment": {"shift": 1, "rotate": 9, "mix": "Mixup"}}},
    "trainer": {"limit_val_batches": 1, "limit_test_batches": 2},
}
RUNS = {"numbers": settings(), "digits": DIGITS}
# float32 on a CPU is what all other tests train in; halves of float16 need a loss scale, which Lightning has for CUDA
WHERE = [("cpu", "bf16-mixed")] + [
    pytest.param("cuda", precision, marks=pytest.mark.gpu) for precision in ("32-true", "bf16-mixed", "16-mixed")
]


@pytest.fixture
def _repeatable() -> Iterator[None]:
    """Trainer's `deterministic` is torch's, of the whole process: it ends with the test."""
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_repeatable")
@pytest.mark.parametrize(("accelerator", "precision"), WHERE)
@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_exactly_and_opens_on_a_cpu(tmp_path: Path, name: str, accelerator: str, precision: str) -> None:
    """With torch's deterministic kernels, without which backwards on CUDA may differ in their last bits."""
    bench = Bench(tmp_path)
    plain = RUNS[name] | {
        "trainer": RUNS[name]["trainer"]
        | {"accelerator": accelerator, "precision": precision, "deterministic": True, "max_epochs": -1}
    }
    bench.config = bench.write("device.yaml", plain)
    assert bench.fit("--trainer.max_steps", 3) == 0
    assert bench.fit("--resume", "last", "--trainer.max_steps", 5) == 0
    assert bench.fit("--trainer.max_steps", 5, run="whole") == 0
    assert bench.weights().isfinite().all()
    assert torch.equal(bench.weights(), bench.weights("whole"))
    assert main(["test", str(bench.run), *QUIET]) == 0
    model = zoo.load(bench.run).model
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    if accelerator == "cuda":
        assert json.loads((bench.run / "run.json").read_text())["device"] == torch.cuda.get_device_name()
    if name == "numbers":
        assert main(["translate", str(bench.run), "two", "--device", accelerator, "--max-length", "8"]) == 0


@pytest.mark.parametrize("overlay", ["average", "ema"])
def test_averages_are_kept_where_the_weights_are(tmp_path: Path, overlay: str, device: torch.device) -> None:
    bench = Bench(tmp_path)
    short = ["--trainer.max_steps", 4, "--trainer.accelerator", device.type]
    assert bench.fit("--config", OVERLAYS / f"{overlay}.yaml", *short) == 0
    stored = torch.load(bench.run / "checkpoints" / "last.ckpt", weights_only=True)
    assert bench.weights().isfinite().all()
    own = torch.cat([value.flatten().cpu() for value in stored["current_model_state"].values()])
    mean = torch.cat([value.flatten().cpu() for value in stored["state_dict"].values()])
    assert own.shape == mean.shape
    assert overlay == "average" or not torch.equal(own, mean)  # a mean of the last fifth of four steps is the last


def test_a_model_goes_where_it_is_told_and_else_to_cuda_where_there_is_one(device: torch.device) -> None:
    assert device_of(device.type) == torch.device(device.type)
    assert device_of(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
