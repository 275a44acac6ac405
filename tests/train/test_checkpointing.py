"""Activation checkpointing through the command line: a switch of memory and time, never of what is computed."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

import zoo.core.block
from tests.test_bad_input import one_line
from tests.test_traps import Bench, CrashError, crash
from zoo.core import Stack, StackConfig
from zoo.errors import UserError
from zoo.train.callbacks import ActivationCheckpointing
from zoo.train.fit import _what_counts

SWITCH = "--trainer.callbacks+=ActivationCheckpointing"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each block that is kept for a second time."""
    counted: list[int] = []
    real = zoo.core.block.checkpoint

    def checkpoint(*args: Any, **kwargs: Any) -> Any:
        counted.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr("zoo.core.block.checkpoint", checkpoint)
    return counted


def test_a_run_may_go_on_with_it_and_without(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, seconds: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.fit(run="whole") == 0
    assert not seconds
    for name, first, then in (("taken up", [], [SWITCH]), ("left", [SWITCH], [])):
        with monkeypatch.context() as patch:
            bench.stop_at(patch, 9, crash)
            with pytest.raises(CrashError):
                bench.fit(*first, run=name)
        assert bool(seconds) == bool(first)
        seconds.clear()
        config = bench.folder / name / "config.yaml"
        assert bench.fit("--resume", "last", *then, config=bench.config if first else config, run=name) == 0
        assert bool(seconds) == bool(then)
        seconds.clear()
        assert torch.equal(bench.weights(name), bench.weights("whole"))
    capsys.readouterr()
    code = bench.fit("--resume", "last", SWITCH, "--trainer.callbacks+=AverageLast", run="whole")
    assert "--resume goes on with the same settings: trainer.callbacks was None" in one_line(capsys, code)


def test_one_callback_is_a_list_of_one(bench: Bench, seconds: list[int]) -> None:
    assert bench.fit("--trainer.callbacks", "ActivationCheckpointing", "--trainer.max_steps", 2) == 0
    assert seconds
    assert [one["class_path"] for one in bench.merged()["trainer"]["callbacks"]] == [
        "zoo.train.callbacks.ActivationCheckpointing"
    ]
    assert bench.fit("--resume", "last", "--trainer.max_steps", 3) == 0


def test_another_of_that_name_counts() -> None:
    mine = {"class_path": "mine.ActivationCheckpointing"}
    ours = {"class_path": "zoo.train.callbacks.ActivationCheckpointing"}
    assert _what_counts([ours, mine]) == [mine]
    assert _what_counts([ours]) is None


def test_blocks_are_as_they_were_afterwards() -> None:
    class Task(L.LightningModule):
        def __init__(self, network: torch.nn.Module):
            super().__init__()
            self.network = network

    task, callback = Task(Stack(StackConfig(dim=8, depth=2, heads=2))), ActivationCheckpointing()
    task.network.blocks[1].checkpointed = True  # by whoever made it
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    callback.setup(trainer, task, "fit")
    assert [block.checkpointed for block in task.network.blocks] == [True, True]
    callback.teardown(trainer, task, "fit")
    assert [block.checkpointed for block in task.network.blocks] == [False, True]
    with pytest.raises(UserError, match="Task has no blocks"):
        callback.setup(trainer, Task(torch.nn.Linear(2, 2)), "fit")
