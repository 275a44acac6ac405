"""What every domain's training has in common. A task builds no layers: it has a network, a loss and metrics."""

import json
import os
import sys
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning as L
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

from zoo.atomic import write_atomically
from zoo.core import denormals
from zoo.core.block import Block
from zoo.core.network import Network
from zoo.errors import TrainingError, UserError
from zoo.train.losses import TokenLoss
from zoo.train.optimisers import AdamW, Optimiser
from zoo.train.schedules import Constant, Schedule


@runtime_checkable
class Resumable(Protocol):
    """A sampler whose order is known for every `epoch`, and that leaves out that epoch's first `skip` batches once."""

    epoch: int
    skip: int


class Task(L.LightningModule):
    """A network with its loss. Subclasses set `network` and `kind`, and give `loss`, which validation and test log too.

    Losses are *sums* over real tokens; gradients are divided, just before the optimiser's step, by the number of tokens
    that the whole step saw: all ranks, all accumulated batches. So every token weighs the same however the batches
    were cut, and one process and two agree. The step is refused where a gradient is not a finite number.
    """

    network: nn.Module  # a Network, where zoo.load is to open it
    kind: str  # the network's short name in config.json
    entries: tuple[str, ...] = ()  # methods of the network besides `forward` by which it is called
    # Arguments of the task that the data module also has an attribute for, but that are taken from the network that a
    # training begins with or continues ("start", "end" of a Seq2Seq), and are unset where there is none.
    own: tuple[str, ...] = ()
    # Parts of the network ("trunk", "pool") that `--init-from` may take alone, where another kind of model has them.
    # The first must be there; () means all weights or none.
    carried: tuple[str, ...] = ()

    def __init__(self, optimizer: Optimiser | None = None, schedule: Schedule | None = None):
        super().__init__()
        self.optimizer_setting = AdamW() if optimizer is None else optimizer
        self.schedule_setting = Constant() if schedule is None else schedule
        self.register_buffer("step_tokens", torch.zeros((), dtype=torch.float64), persistent=False)
        self.seen_tokens = 0
        self.reported = False  # a test has said what it found

    def setup(self, stage: str) -> None:
        denormals.flush()

    def loss(self, batch: Any) -> TokenLoss:
        """Sums over the batch's real tokens."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        out = self.loss(batch)
        self.step_tokens += out.tokens
        count = int(out.tokens)
        self.seen_tokens += count
        self.log_dict(means(out, "train"), batch_size=count, prog_bar=True)
        # Lightning divides by the accumulated batches and averages over ranks: both are undone, the step's own count
        # divides instead (on_before_optimizer_step).
        return out.loss * self.trainer.accumulate_grad_batches * self.trainer.world_size

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.score(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.score(batch, "test")

    def score(self, batch: Any, stage: str) -> TokenLoss:
        """Log the loss of a batch of `stage` ("val", "test"), which is not trained on; every token weighs the same."""
        out = self.loss(batch)
        self.log_score(out, stage)
        return out

    def log_score(self, out: TokenLoss, stage: str) -> None:
        self.log_dict(means(out, stage), batch_size=int(out.tokens), prog_bar=stage == "val", sync_dist=True)

    def on_train_start(self) -> None:
        self.first_seed = int(os.environ.get("PL_GLOBAL_SEED", torch.initial_seed()))  # as seed_everything was given it
        sampler = self._sampler()
        if sampler is None:
            self._check_ranks()
        if self.trainer.ckpt_path is not None:
            if sampler is None:
                print("the training data keeps no order: the batches of this epoch are drawn anew", file=sys.stderr)
            self._take_up_order()

    def _check_ranks(self) -> None:
        """UserError where every process would train on the same batches."""
        loader = self.trainer.train_dataloader
        batches = getattr(loader, "batch_sampler", None)
        sampler = getattr(loader, "sampler", None)
        if batches is not None:  # torch's own go by a sampler; another may share batches out by itself
            sampler = batches.sampler if type(batches) is BatchSampler else batches
        if self.trainer.world_size > 1 and type(sampler) in (RandomSampler, SequentialSampler):
            raise UserError(
                f"{self.trainer.world_size} processes would train on the same batches: the training loader's sampler "
                f"({type(sampler).__name__}) knows no rank; give it a DistributedSampler, or one of zoo/data/batches.py"
            )

    def on_train_epoch_start(self) -> None:
        # Not by Lightning's count (a sampler's set_epoch), which takes an epoch that the last step cut short for done.
        sampler = self._sampler()
        if sampler is not None:
            seen = self.trainer.fit_loop.epoch_loop.batch_progress.total.processed
            # overfit_batches: the same batches in every epoch (Lightning keeps only its own samplers from shuffling)
            sampler.epoch = 0 if self.trainer.overfit_batches else seen // int(self.trainer.num_training_batches)

    def _sampler(self) -> Resumable | None:
        """The training loader's own sampler, of batches where it has one, if it can be resumed."""
        loader = self.trainer.train_dataloader
        found = [getattr(loader, name, None) for name in ("batch_sampler", "sampler")]
        return next((sampler for sampler in found if isinstance(sampler, Resumable)), None)

    def _take_up_order(self) -> None:
        """Lightning asks for batches before it has read how far the run was: begin the epoch anew, where it stopped."""
        loop = self.trainer.fit_loop
        seen = loop.epoch_loop.batch_progress.total.processed
        sampler = self._sampler()
        if sampler is not None:
            sampler.epoch, sampler.skip = divmod(seen, int(self.trainer.num_training_batches))
            iter(loop._data_fetcher)  # type: ignore[call-overload]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Dropout draws from (seed, batch, rank): a run that was resumed draws what the uninterrupted one would have.
        seen = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready
        seed = (self.first_seed * 1_000_003 + seen * 7_919 + self.global_rank) % 2**63
        if self.device.type == "cpu":
            # torch.manual_seed takes down the call stack for every kind of device that has not begun, in a millisecond
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        tokens = self.trainer.strategy.reduce(self.step_tokens.clone(), reduce_op="sum")
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        torch._foreach_div_(gradients, max(float(tokens), 1.0))  # a step without any target teaches nothing
        self.step_tokens.zero_()
        norm = torch.nn.utils.get_total_norm(gradients)
        # float16's loss scaler meets infinities as it searches its scale, and skips those steps itself
        if not torch.isfinite(norm) and self.trainer.precision != "16-mixed":
            raise TrainingError(
                f"step {self.global_step}: the gradient is not a finite number ({norm:g}); nothing was updated. "
                "Lower the learning rate, warm up longer or clip (trainer.gradient_clip_val)"
            )
        every = self.trainer.log_every_n_steps  # 0: never
        if every and (self.trainer.global_step + 1) % every == 0:  # to log takes a millisecond
            self.log_dict({"train/grad_norm": norm, "train/lr": optimizer.param_groups[0]["lr"]})

    def configure_optimizers(self) -> Any:
        within = {id(p) for p in self.network.parameters()}
        beside = [name for name, p in self.named_parameters() if p.requires_grad and id(p) not in within]
        if beside:
            raise UserError(
                f"{type(self).__name__} trains its `network` alone, and {beside[0]} lies outside of it: put it inside, "
                "or set requires_grad to False"
            )
        optimizer: Any = self.optimizer_setting.build(self.network)
        # a fused kernel would take out float16's loss scale itself, after clipping and the log had seen it
        optimizer._step_supports_amp_scaling = False
        schedule = self.schedule_setting.build(optimizer, self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_model(self) -> None:
        """Under ModelParallelStrategy: shard the network's parameters over the data-parallel ranks (FSDP2)."""
        strategy = self.trainer.strategy
        if isinstance(strategy, ModelParallelStrategy):
            shard(self.network, strategy.device_mesh["data_parallel"], self.entries)

    def on_validation_model_eval(self) -> None:
        super().on_validation_model_eval()
        hold(self.network, whole=True)

    def on_validation_model_train(self) -> None:
        super().on_validation_model_train()
        hold(self.network, whole=False)

    def on_test_model_eval(self) -> None:
        super().on_test_model_eval()
        hold(self.network, whole=True)

    def on_predict_model_eval(self) -> None:
        super().on_predict_model_eval()
        hold(self.network, whole=True)

    def gather(self, own: dict[Any, Any]) -> dict[Any, Any]:
        """What all ranks hold, on each of them."""
        if self.trainer.world_size == 1:
            return own
        parts: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(parts, own)
        return {key: value for part in parts for key, value in part.items()}

    def report(self, result: dict[str, Any], name: str = "test.json") -> None:
        """Print what a test found, and keep it in the run's folder."""
        if self.trainer.is_global_zero:
            self.reported = True
            path = Path(self.trainer.default_root_dir) / name
            write_atomically(path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
            for key, value in result.items():
                print(f"{key}: {value}")
            print(f"written: {path}", file=sys.stderr)

    def describe(self) -> dict[str, Any]:
        """config.json of a run folder: from it and a checkpoint `zoo.load` makes the network again."""
        settings = self.network.to_plain() if isinstance(self.network, Network) else {}
        return {"kind": self.kind, "settings": settings}


def means(out: TokenLoss, stage: str) -> dict[str, Tensor]:
    """What is logged of a batch: its loss, and its accuracy where targets are choices."""
    tokens = out.tokens.clamp(min=1)  # a batch without any target counts as none in the mean over batches
    found = {f"{stage}/{out.name}": out.nll / tokens}
    return found if out.correct is None else found | {f"{stage}/accuracy": out.correct / tokens}


def shard(network: nn.Module, mesh: Any, entries: tuple[str, ...]) -> None:
    """FSDP2: each block is a group that is gathered when its turn comes; what is left (embeddings, head) is another.

    `entries`: methods that gather the network's own parameters as `forward` does.
    """
    for part in network.modules():
        if isinstance(part, Block):
            fully_shard(part, mesh=mesh)
    fully_shard(network, mesh=mesh)
    for name in entries:
        register_fsdp_forward_method(network, name)


def hold(network: nn.Module, *, whole: bool) -> None:
    """Keep a sharded network whole on each rank, or shard it again; nothing where it is not sharded.

    Ranks write texts of their own, in as many steps as those take: nobody may wait for the others' part of a block.
    """
    for part in network.modules():
        if isinstance(part, FSDPModule):
            # the root's own (embeddings, head) stay whole through a step: the loss needs the head after the forward
            part.set_reshard_after_forward(not whole and part is not network, recurse=False)
            if whole:
                part.unshard()
            else:
                part.reshard()
