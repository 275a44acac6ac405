"""Two processes train what one does: with copies of the model (ddp), with one copy shared (fsdp); by the overlays."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import zoo
from tests.test_traps import settings
from zoo.core import Layout, Stack, StackConfig
from zoo.text.data import Numbers
from zoo.text.task import Translation
from zoo.train.optimisers import Muon

OVERLAYS = Path(__file__).parents[2] / "configs" / "overlay"
DATA = {"train": 120, "val": 12, "test": 12, "limit": 400, "tokens_per_batch": 200, "vocab_size": 270}


QUIET = ["--trainer.enable_progress_bar", "false"]
ALONE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}  # sums in one order, whatever the tests have


def fit(folder: Path, name: str, *options: object) -> str:
    command = [sys.executable, "-m", "zoo", "fit", "--config", folder / "base.yaml", "--run", folder / name, *options]
    words = [str(part) for part in command]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | ALONE, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def loss(folder: Path) -> float:
    """Teacher-forced loss of a run's last weights over its validation set, in float64."""
    loaded, data = zoo.load(folder, checkpoint="last"), Numbers(**DATA)
    task = Translation(loaded.model.encoder.config, loaded.model.decoder.config, data.vocab_size)
    task.network = loaded.model.double()
    with torch.no_grad():
        parts = [task.loss(batch) for batch in data.val_dataloader()]
    return float(sum(p.nll for p in parts) / sum(p.tokens for p in parts))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what one process trained, "one", and "other", which made other steps."""
    folder = tmp_path_factory.mktemp("alone")
    plain = settings()
    plain["data"]["init_args"] = DATA
    for side in ("encoder", "decoder"):
        plain["model"]["init_args"][side] |= {"dropout": 0.0}  # ranks draw their own
    plain["trainer"] |= {"max_steps": 6, "max_epochs": -1, "gradient_clip_val": 1.0, "limit_val_batches": None}
    (folder / "base.yaml").write_text(yaml.safe_dump(plain))
    for name, batches in (("one", 2), ("other", 1)):
        fit(folder, name, *QUIET, "--trainer.accumulate_grad_batches", batches)
    return folder


@pytest.mark.parametrize(
    ("overlay", "more"),
    [(overlay, more) for overlay in ("ddp", "fsdp") for more in ([], ["--trainer.callbacks+=ActivationCheckpointing"])],
    ids=["ddp", "ddp checkpointed", "fsdp", "fsdp checkpointed"],
)
def test_the_loss_of_one_process_and_two(alone: Path, tmp_path: Path, overlay: str, more: list[str]) -> None:
    (tmp_path / "base.yaml").write_text((alone / "base.yaml").read_text())
    said = fit(tmp_path, "two", *QUIET, "--config", OVERLAYS / f"{overlay}.yaml", "--trainer.val_check_interval", 6,
               "--trainer.check_val_every_n_epoch", "null", *more)  # fmt: skip
    assert said.count("run: ") == 1
    losses = {run.name: loss(run) for run in (alone / "one", tmp_path / "two", alone / "other")}
    assert losses["two"] == pytest.approx(losses["one"], abs=1e-6)
    assert abs(losses["other"] - losses["one"]) > 1e-4  # other steps would have been seen
    rows = (tmp_path / "two" / "metrics.csv").read_text()
    assert "val/bleu" in rows  # both wrote their half of the validation set, and the scores are of all of it


def turned(stack: Stack) -> dict[str, torch.Tensor]:
    """Weights after a step of Muon."""
    optimizer = Muon(lr=0.01).build(stack)
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    stack(x, Layout.dense(2, 3)).square().sum().backward()
    optimizer.step()
    weights = {name: p.detach() for name, p in stack.named_parameters()}
    return {name: p.full_tensor() if isinstance(p, DTensor) else p for name, p in weights.items()}


def small_stack() -> Stack:
    torch.manual_seed(0)
    return Stack(StackConfig(dim=8, depth=2, heads=2))


def share(rank: int, folder: Path) -> None:
    """One of two processes that share a stack's matrices."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    stack = small_stack()
    for module in (*stack.blocks, stack):
        fully_shard(module, mesh=init_device_mesh("cpu", (2,)))
    found = turned(stack)
    if rank == 0:
        torch.save(found, folder / "shared.pt")
    torch.distributed.destroy_process_group()


def test_muon_turns_matrices_that_processes_share_as_one_does(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(share, (tmp_path,), nprocs=2)
    before, alone, shared = small_stack().state_dict(), turned(small_stack()), torch.load(tmp_path / "shared.pt")
    matrices = [name for name, p in alone.items() if p.dim() == 2]
    assert len(matrices) == 8
    assert min(float((alone[name] - before[name]).abs().max()) for name in matrices) > 2e-3
    for name, p in alone.items():  # within the rounding of bfloat16, in which some processors turn
        torch.testing.assert_close(shared[name], p, rtol=0, atol=2e-4)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, workers: int) -> None:
    """kill -9 at whatever moment it comes after the third checkpoint, in the middle of an epoch."""
    plain = settings()
    plain["data"]["init_args"] = DATA | {"workers": workers}
    plain["trainer"] |= {"max_steps": 80, "max_epochs": -1, "limit_val_batches": 0}
    plain["checkpoint"] = {"every_n_train_steps": 1, "save_top_k": 0}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(plain))
    quiet = ["--trainer.enable_progress_bar", "false"]
    fit(tmp_path, "whole", *quiet)
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    command = [
        sys.executable,
        "-m",
        "zoo",
        "fit",
        "--config",
        tmp_path / "base.yaml",
        "--run",
        tmp_path / "killed",
        *quiet,
    ]
    quiet_streams = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    process = subprocess.Popen([str(part) for part in command], env=os.environ | ALONE, **quiet_streams)
    seen: set[int] = set()
    deadline = time.monotonic() + 200
    while len(seen) < 3 and process.poll() is None and time.monotonic() < deadline:
        if last.is_file():
            seen.add(last.stat().st_mtime_ns)  # not the inode: a file system gives that of the one before out again
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed"
    step = torch.load(last, weights_only=True)["global_step"]
    assert 0 < step < 80
    fit(tmp_path, "killed", *quiet, "--resume", "last")

    def weights(name: str) -> dict[str, torch.Tensor]:
        path = tmp_path / name / "checkpoints" / "last.ckpt"
        state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
        return state

    whole, killed = weights("whole"), weights("killed")
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_processes_that_are_told_to_stop_leave_one_checkpoint_together(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C reaches every process of the terminal, behind whatever batch each is; SIGTERM the first alone."""
    plain = settings()
    plain["data"]["init_args"] = DATA
    plain["trainer"] |= {"max_steps": 100_000, "max_epochs": -1, "limit_val_batches": 0}
    plain["checkpoint"] = {"every_n_train_steps": 20, "save_top_k": 0}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(plain))
    words = ["fit", "--config", tmp_path / "base.yaml", "--config", OVERLAYS / "ddp.yaml", "--run", tmp_path / "run"]
    # a shell gives what it begins in the background SIGINT ignored; a terminal does not
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from zoo.cli import main; sys.exit(main(sys.argv[1:]))"
    (tmp_path / "zoo_fit.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "zoo_fit.py", *map(str, words), "--trainer.enable_progress_bar", "false"],
        env=os.environ | ALONE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    try:
        said = process.communicate(timeout=60)[1]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # who was not stopped would train on
    assert process.returncode == 128 + number, said[-2000:]
    (stopped,) = re.findall(r"stopped at step (\d+); go on with --resume last", said)
    assert torch.load(last, weights_only=True)["global_step"] == int(stopped) > 20
    assert json.loads((tmp_path / "run" / "run.json").read_text())["legs"][0]["to"] == int(stopped)
