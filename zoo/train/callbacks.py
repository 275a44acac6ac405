"""Callbacks of every run: the run folder, throughput, and what to do when told to stop."""

import json
import math
import os
import platform
import shlex
import signal
import sys
import threading
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from filelock import BaseFileLock, FileLock, Timeout
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

import zoo
from zoo.atomic import write_atomically
from zoo.core.block import Block
from zoo.errors import UserError
from zoo.provenance import commit, device_name
from zoo.train.checkpoint import CONFIG, LOCK, check_free
from zoo.train.start import say_other_data
from zoo.train.task import Task

PACKAGES = ("torch", "lightning", "jsonargparse", "einops", "tokenizers", "sacrebleu")


class RunFolder(Callback):
    """Writes what a run needs to be understood, opened and repeated, before its first step and once its data was read:
    what stops before leaves nothing.

    config.yaml (`settings`, merged), config.json (the network's settings and the names of
    classes, read by `zoo.load`), run.json (command, versions, seed, hash of the data; when training ends its steps and
    seconds; when it goes on, by which command), and what the data module brings of its own (a tokenizer). UserError
    where another process trains in the folder.
    """

    def __init__(self, folder: Path, command: list[str], *, resumed: bool = False):
        self.folder, self.command, self.resumed = folder, command, resumed
        self.settings = ""  # known once the command line was read
        self.lock: BaseFileLock | None = None  # while training, of the process that writes

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "fit" or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, Task)
        path = self.folder / "run.json"
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        manifest = data.manifest()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(self.folder / LOCK)  # the system's, so that a killed process leaves none
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"{self.folder}: another zoo fit trains in this run; give another --run FOLDER") from None
        except (NotImplementedError, OSError):  # a file system without locks
            self.lock = None
        if self.resumed and path.is_file():  # a run that goes on keeps how it began
            before = json.loads(path.read_text())
            say_other_data(self.folder, before, manifest)
            again = [*before.get("resumed", []), {"command": shlex.join(["zoo", *self.command]), "commit": commit()}]
            write_atomically(path, json.dumps(before | {"resumed": again}, indent=2) + "\n")
            write_atomically(self.folder / CONFIG, self.settings)
            return
        if not self.resumed:
            check_free(self.folder)  # again: another may have begun and ended since
        about = {
            "command": shlex.join(["zoo", *self.command]),
            "commit": commit(),
            "seed": int(os.environ.get("PL_GLOBAL_SEED", 0)),
            "versions": {"python": platform.python_version(), "zoo": zoo.__version__}
            | {name: version(name) for name in PACKAGES},
            "device": device_name(pl_module.device),
            "parameters": sum(p.numel() for p in pl_module.network.parameters()),
            "data": manifest,
        }
        described = pl_module.describe() | data.describe()
        write_atomically(path, json.dumps(about, indent=2) + "\n")  # first: by it a folder is known as a run's
        write_atomically(self.folder / CONFIG, self.settings)
        write_atomically(self.folder / "config.json", json.dumps(described, indent=2, ensure_ascii=False) + "\n")
        data.save(self.folder)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.begun, self.first = time.time(), trainer.global_step

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        # told to stop, with a checkpoint (StopOnSignal)
        if isinstance(exception, SystemExit) and hasattr(self, "begun"):
            self.on_train_end(trainer, pl_module)
        self._unlock()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._unlock()

    def _unlock(self) -> None:
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            path = self.folder / "run.json"
            before = json.loads(path.read_text())
            leg = {"from": self.first, "to": trainer.global_step, "seconds": round(time.time() - self.begun, 1)}
            legs = [*before.get("legs", []), leg]  # seconds of training and validation; a leg that crashed has none
            write_atomically(path, json.dumps(before | {"legs": legs}, indent=2) + "\n")


class Throughput(Callback):
    """Logs tokens per second and the share of the device's peak that they use (model-FLOP utilisation).

    Tokens are those that the loss is over: hidden ones of a masked model, images of a classifier. FLOPs of a token:
    6 N, N the parameters of matrices (forward 2 N, backward 4 N; Kaplan et al. 2020, section 2.1); attention's own
    products, convolutions, and tokens without a loss are left out, so the share is on the low side, far below for those
    two. The peak is that of the device's data sheet where it is known, else a matrix product timed here. Both are said
    once, beside the first figure.
    """

    def __init__(self, every: int = 50):
        self.every = every

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Task)
        self.matrices = sum(p.numel() for p in pl_module.network.parameters() if p.ndim == 2)
        self.peak, said = peak_flops(pl_module.device, str(trainer.precision))
        self.tokens, self.time = pl_module.seen_tokens, time.perf_counter()
        if trainer.is_global_zero:
            parameters = sum(p.numel() for p in pl_module.network.parameters())
            print(f"{pl_module.kind}: {parameters:,} parameters on {device_name(pl_module.device)}", file=sys.stderr)
            print(f"MFU = 6 x {self.matrices:,} x tokens/s / {self.peak:.3g} FLOP/s ({said})", file=sys.stderr)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Task)
        if (batch_idx + 1) % self.every:
            return
        rate = (pl_module.seen_tokens - self.tokens) / (time.perf_counter() - self.time)
        self.tokens, self.time = pl_module.seen_tokens, time.perf_counter()
        pl_module.log_dict(
            {"train/tokens_per_s": rate, "train/mfu": 6 * self.matrices * rate / self.peak}, batch_size=1
        )


class Checkpoints(ModelCheckpoint):
    """Lightning's own, whose last is the last one: since 2.6 it writes last.ckpt only beside a better checkpoint, so
    that going on with a run that did not improve would begin far behind its end."""

    @property
    def state_key(self) -> str:
        """That of Lightning's class, under which runs have kept what the best was."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self._write_last(trainer, at_epoch_end=False)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self._write_last(trainer, at_epoch_end=True)

    def _write_last(self, trainer: L.Trainer, *, at_epoch_end: bool) -> None:
        """Where it was the time to save, and nothing was. Who asks for one every so many steps gets those alone."""
        turn = self._every_n_epochs >= 1 and (trainer.current_epoch + 1) % self._every_n_epochs == 0
        turn = turn and self._should_save_on_train_epoch_end(trainer) == at_epoch_end
        if turn and not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))


class StopOnSignal(Callback):
    """SIGTERM and Ctrl-C: leave a checkpoint at the end of the step, exit with 128 + the signal, as clusters expect.

    The checkpoint is written at once, for who asked may not wait. Where a validation or the end of an epoch belongs to
    the batch, those are done first, with the checkpoint that they write. A second Ctrl-C does not wait. Several
    processes, which hear a signal behind different batches or not at all, agree behind each one.
    """

    def __init__(self, checkpoint: Path):
        self.checkpoint = checkpoint
        self.received: int | None = None
        self.due = False  # all that belongs to the step is done when the next batch begins
        self.before: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._interrupt)

    def _interrupt(self, number: int, frame: Any) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, before in self.before.items():
            if signal.getsignal(number) == self._interrupt:
                signal.signal(number, before)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._restore()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loop = trainer.fit_loop.epoch_loop
        if loop._should_accumulate():  # gradients of half a step are in no checkpoint
            return
        if self.received is None and trainer.received_sigterm:  # before the first batch Lightning listens
            self.received = signal.SIGTERM
        number = self.received  # a signal may come while the processes are asked: its turn is the next step
        if trainer.world_size > 1:
            heard = torch.tensor(number or 0, device=trainer.strategy.root_device)
            number = int(trainer.strategy.reduce(heard, reduce_op="max")) or None
        if number is None:
            return
        self.received = number
        trainer.save_checkpoint(self.checkpoint)
        self.due = trainer.is_last_batch or loop._should_check_val_fx(trainer.fit_loop._data_fetcher)  # type: ignore[arg-type]
        if not self.due:
            trainer._logger_connector.on_batch_end()  # or this step would be missing among the metrics
            trainer._logger_connector.update_train_step_metrics()
            self._leave(trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.due:
            self._leave(trainer)

    def _leave(self, trainer: L.Trainer) -> None:
        if trainer.is_global_zero:
            print(f"stopped at step {trainer.global_step}; go on with --resume last", file=sys.stderr)
        assert self.received is not None
        raise SystemExit(128 + self.received)


class ActivationCheckpointing(Callback):
    """Trains in less memory and more time, to the same weights: each block keeps its input alone, and is computed a
    second time as the gradients go back (Chen et al. 2016)."""

    def __init__(self) -> None:
        self.turned: list[Block] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        blocks = [part for part in pl_module.modules() if isinstance(part, Block)]
        if not blocks:
            raise UserError(f"ActivationCheckpointing: {type(pl_module).__name__} has no blocks of zoo.core to go by")
        self.turned = [block for block in blocks if not block.checkpointed]
        for block in self.turned:
            block.checkpointed = True

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for block in self.turned:
            block.checkpointed = False


class Average(WeightAveraging):
    """Base of what validates, tests and saves a mean of the weights. Lightning's callback keeps both in a checkpoint,
    so that a run goes on exactly."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if isinstance(trainer.strategy, ModelParallelStrategy):
            name = type(self).__name__
            raise UserError(f"{name} needs whole weights on each process: it does not go with sharded training")
        super().setup(trainer, pl_module, stage)


class AverageLast(Average):
    """The mean of the weights over the last part of training (Vaswani et al. 2017, 6.1).

    `last`: the share of all steps that is averaged over; `every`: steps between two terms of the mean, the first of
    which is the first step of that part. Until then the mean is the model itself.
    """

    def __init__(self, last: float = 0.2, every: int = 10):
        if not 0 < last <= 1:
            raise ValueError(f"last ({last}) must be in (0, 1]: it is the share of training that is averaged over")
        if every < 1:
            raise ValueError(f"every ({every}) must be at least 1 step")
        super().__init__(use_buffers=False)
        self.last, self.every, self.first = last, every, 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        total = trainer.estimated_stepping_batches
        if math.isinf(total):
            raise UserError("AverageLast must know the last step: set trainer.max_steps or trainer.max_epochs")
        self.first = int((1 - self.last) * total)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        if step_idx is None:
            return False
        if step_idx <= self.first:
            self._average_model.n_averaged.zero_()  # this term is taken as it is
            return True
        return (step_idx - self.first) % self.every == 0


class ExponentialMovingAverage(Average):
    """The mean of the weights of all steps, each of which counts `decay` times as much as the next; of early steps the
    less, so that a short run does not keep weights of its beginning.

    After t steps the decay is at most (1 + t) / (10 + t), which is how TensorFlow's moving averages begin.
    """

    def __init__(self, decay: float = 0.998):
        if not 0 <= decay < 1:
            raise ValueError(f"decay ({decay}) must be in [0, 1)")
        super().__init__(use_buffers=False, avg_fn=partial(_decayed, decay))


def _decayed(decay: float, before: Tensor, now: Tensor, steps: Tensor) -> Tensor:
    return before + (now - before) * (1 - ((1 + steps) / (10 + steps)).clamp(max=decay))


# Dense peaks of data sheets, FLOP/s: half precision, float32 (tensor cores at TF32 where torch uses them by default).
PEAKS = {"H200": (989e12, 67e12), "H100": (989e12, 67e12), "A100": (312e12, 19.5e12), "L4": (121e12, 30.3e12)}


def peak_flops(device: torch.device, precision: str) -> tuple[float, str]:
    """The device's peak in FLOP/s for this precision, and where the figure is from."""
    half = "16" in precision
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for known, (low, full) in PEAKS.items():
            if known in name:
                return (low if half else full), f"data sheet of {known}, {'half precision' if half else 'float32'}"
    a = torch.randn(1024, 1024, device=device, dtype=torch.bfloat16 if half else torch.float32)
    rates = []
    for _ in range(5):
        begin = time.perf_counter()
        (a @ a).sum().item()
        rates.append(2 * 1024**3 / (time.perf_counter() - begin))
    return max(rates), f"a 1024 x 1024 product timed here, {'bfloat16' if half else 'float32'}"
