"""Told to stop at whatever batch, a run that goes on ends as if it had not been: weights, scores, the best of them."""

import csv
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.test_traps import Bench
from zoo.text.task import Translation
from zoo.train.callbacks import StopOnSignal, Throughput

LONG = ["--trainer.max_epochs", 3, "--trainer.log_every_n_steps", 1, "--checkpoint.monitor", "val/nll"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def rows(bench: Bench, run: str) -> list[tuple[str, str, str]]:
    """What a run has logged of training and validation, by its step."""
    with (bench.folder / run / "metrics.csv").open() as file:
        found = [(row["step"], row.get("train/nll") or "", row.get("val/nll") or "") for row in csv.DictReader(file)]
    return sorted(row for row in found if any(row[1:]))


def test_who_is_told_to_stop_before_the_first_step_takes_it_and_stops(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Throughput.on_train_start

    def told(*given: object) -> None:  # comes before the one that hears it itself
        os.kill(os.getpid(), signal.SIGTERM)
        begin(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(Throughput, "on_train_start", told)
    with pytest.raises(SystemExit, match="143"):
        bench.fit(*LONG)
    assert torch.load(bench.run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 1


def test_a_signal_that_comes_while_processes_agree_is_heard_at_the_next_step(tmp_path: Path) -> None:
    """Most of a short step is waiting for the others: what was asked before it came must not take its place."""
    stop, asked = StopOnSignal(tmp_path / "last.ckpt"), list[int]()

    def reduce(heard: torch.Tensor, reduce_op: str) -> torch.Tensor:
        asked.append(int(heard))
        if len(asked) == 1:
            stop._interrupt(signal.SIGTERM, None)
        return heard

    loop = SimpleNamespace(_should_accumulate=lambda: False, _should_check_val_fx=lambda fetcher: True)
    trainer: Any = SimpleNamespace(
        fit_loop=SimpleNamespace(epoch_loop=loop, _data_fetcher=None),
        received_sigterm=False,
        world_size=2,
        strategy=SimpleNamespace(root_device=torch.device("cpu"), reduce=reduce),
        save_checkpoint=lambda path: None,
        is_last_batch=False,
    )
    model: Any = None
    for _ in range(2):
        stop.on_train_batch_end(trainer, model, None, None, 0)
    assert asked == [0, signal.SIGTERM]
    assert stop.due


@pytest.mark.parametrize(
    ("batch", "options"),
    [
        pytest.param(-1, (), id="last of an epoch"),
        pytest.param(1, (), id="within an epoch"),
        pytest.param(
            1, ("--trainer.check_val_every_n_epoch", "null", "--trainer.val_check_interval", 2), id="validated"
        ),
        pytest.param(0, ("--trainer.accumulate_grad_batches", 2), id="half a step"),
        pytest.param(0, ("--data.tokens_per_batch", 100_000), id="the only one of an epoch"),
    ],
)
def test_a_run_that_was_stopped_ends_as_the_uninterrupted_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, batch: int, options: tuple[object, ...]
) -> None:
    assert bench.fit(*LONG, *options, run="whole") == 0
    step, sent = Translation.training_step, []

    def interrupted(task: Translation, given: object, number: int) -> torch.Tensor:
        if number == batch % task.trainer.num_training_batches and task.current_epoch == 1 and not sent:
            sent.append(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return step(task, given, number)

    monkeypatch.setattr(Translation, "training_step", interrupted)
    with pytest.raises(SystemExit, match="130"):
        bench.fit(*LONG, *options)
    assert bench.fit(*LONG, *options, "--resume", "last") == 0
    assert torch.equal(bench.weights(), bench.weights("whole"))
    assert rows(bench, "run") == rows(bench, "whole")
    kept = [sorted(path.name for path in (bench.folder / run / "checkpoints").iterdir()) for run in ("run", "whole")]
    assert kept[0] == kept[1]
