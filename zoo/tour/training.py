"""Training for the tour: as many steps as the time allows, so that slow machines also arrive."""

import copy
import itertools
import logging
import time
import warnings
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from zoo.progress import bar
from zoo.train.task import Task


class Progress(Callback):
    """One bar on stderr, in a log too: a tour is to be watched; keeps the loss of every step."""

    def __init__(self, name: str, steps: int):
        self.bar = bar(doing=name, unit="step", total=steps, delay=0, leave=True, mininterval=1.0, disable=False)
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = float(trainer.callback_metrics["train/nll"])
        self.losses.append(loss)
        self.bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
        self.bar.update()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.bar.close()


def seconds_per_step(task: Task, loader: Any, tries: int = 4) -> float:
    """What a training step takes here, measured on a copy of the task: the median of `tries` after a warm-up."""
    batches = list(itertools.islice(itertools.cycle(loader), tries + 1))
    copied = copy.deepcopy(task)
    optimizer = copied.optimizer_setting.build(copied.network)
    times = []
    for batch in batches:
        begin = time.perf_counter()
        copied.loss(batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - begin)
    return sorted(times[1:])[tries // 2] + 0.005  # the trainer's own doings


def train(task: Task, data: L.LightningDataModule, *, name: str, seconds: float, steps: int, seed: int) -> list[float]:
    """Train for `steps` steps, or as many as fit `seconds`; the loss of each."""
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # its greetings would break the bar
    torch.manual_seed(seed)
    fitting = max(int(seconds / seconds_per_step(task, data.train_dataloader())), 10)
    steps = min(steps, fitting)
    progress = Progress(name, steps)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        callbacks=[progress],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        gradient_clip_val=1.0,
        limit_val_batches=0,
        max_time={"seconds": int(seconds * 1.25)},
    )
    trainer.fit(task, datamodule=data)
    task.eval()
    return progress.losses
