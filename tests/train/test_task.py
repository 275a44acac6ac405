"""What every task does in training, on the smallest network that has dropout."""

import math
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler

from zoo.errors import TrainingError, UserError
from zoo.train import callbacks
from zoo.train.losses import TokenLoss, token_loss
from zoo.train.optimisers import AdamW
from zoo.train.schedules import Cosine, Schedule
from zoo.train.task import Task


class Toy(Task):
    """Guess a token from the one before: batches are "b n" of ids."""

    kind = "toy"

    def __init__(self, *, dropout: float = 0.0, schedule: Schedule | None = None):
        super().__init__(AdamW(lr=0.01, eps=1e-6), schedule)
        torch.manual_seed(1)
        self.network = nn.Sequential(nn.Embedding(7, 4), nn.Dropout(dropout), nn.Linear(4, 7))
        self.states: list[Tensor] = []
        self.rates: list[float] = []

    def loss(self, batch: Tensor) -> TokenLoss:
        states = self.network[1](self.network[0](batch[:, :-1])).flatten(0, 1)
        self.states.append(states.detach().clone())
        return token_loss(states, self.network[2].weight, batch[:, 1:].flatten(), self.network[2].bias)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])


def batches(count: int, *sizes: tuple[int, int]) -> list[Tensor]:
    torch.manual_seed(2)
    return [torch.randint(7, sizes[i % len(sizes)]) for i in range(count)]


def trainer(**options: Any) -> L.Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(**({"accelerator": "cpu", "max_epochs": 1, "use_distributed_sampler": False} | quiet | options))


def fit(task: Task, data: list[Tensor], **options: Any) -> L.Trainer:
    run = trainer(**options)
    run.fit(task, torch.utils.data.DataLoader(data, batch_size=None))  # type: ignore[arg-type]
    return run


def weights(task: Task) -> Tensor:
    return torch.cat([p.detach().flatten() for p in task.network.parameters()])


def test_every_token_weighs_the_same_however_the_batches_are_cut() -> None:
    rows = batches(8, (1, 5))
    whole, cut = Toy(), Toy()
    fit(whole, [torch.cat(rows)])
    fit(cut, [torch.cat(rows[:1]), torch.cat(rows[1:3]), torch.cat(rows[3:])], accumulate_grad_batches=3)
    torch.testing.assert_close(weights(cut), weights(whole), rtol=0, atol=1e-6)
    assert not torch.allclose(weights(whole), weights(Toy()))


def test_the_gradient_is_that_of_the_mean_over_the_steps_tokens() -> None:
    data, seen = batches(2, (1, 5), (3, 9)), []

    class Watched(Toy):
        def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
            seen.append(self.network[2].weight.grad.clone())

    fit(Watched(), data, accumulate_grad_batches=2)
    task = Toy()
    losses = [task.loss(batch) for batch in data]
    (sum(part.loss for part in losses) / (4 + 24)).backward()
    torch.testing.assert_close(seen[0], task.network[2].weight.grad)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stops_before_the_step(bad: float) -> None:
    class Breaking(Toy):
        def loss(self, batch: Tensor) -> TokenLoss:
            if self.global_step == 2:
                self.before = weights(self)
                self.network[2].weight.register_hook(lambda g: g * bad)
            return super().loss(batch)

    task = Breaking()
    with pytest.raises(TrainingError, match=r"^step 2: "):
        fit(task, batches(5, (2, 5)))
    assert task.global_step == 2
    assert torch.equal(weights(task), task.before)


def test_a_batch_without_a_target_teaches_nothing_and_counts_as_none() -> None:
    empty, row = torch.empty(0, 3, dtype=torch.long), batches(1, (4, 5))[0]
    task = Toy()
    run = fit(task, [empty])
    torch.testing.assert_close(weights(task), weights(Toy()), rtol=2e-4, atol=0)  # no more than its decay
    assert float(run.callback_metrics["train/nll"]) == 0
    both, alone = Toy(), Toy()
    fit(both, [empty, row], accumulate_grad_batches=2)
    fit(alone, [row])
    assert torch.equal(weights(both), weights(alone))


@pytest.mark.parametrize(("verb", "stage"), [("validate", "val"), ("test", "test")])
def test_a_task_that_gives_a_loss_alone_is_validated_and_tested_by_it(verb: str, stage: str) -> None:
    task, data = Toy(), batches(3, (1, 5), (3, 9))
    run = trainer()
    getattr(run, verb)(task, torch.utils.data.DataLoader(data, batch_size=None), verbose=False)
    every = [task.loss(batch) for batch in data]
    tokens = sum(float(out.tokens) for out in every)
    for name, total in {"nll": sum(out.nll for out in every), "accuracy": sum(out.correct for out in every)}.items():
        assert float(run.callback_metrics[f"{stage}/{name}"]) == pytest.approx(float(total) / tokens, rel=1e-5), name


def test_a_training_that_logs_nothing_trains() -> None:
    run = fit(Toy(), batches(2, (4, 5)), log_every_n_steps=0)
    assert run.global_step == 2


@pytest.mark.parametrize("clip", [None, 1.0])
def test_the_norm_and_clipping_see_gradients_without_the_loss_scale(clip: float | None) -> None:
    norms = []
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    for plugins in ([], [MixedPrecision("16-mixed", "cpu", scaler)]):
        run = fit(Toy(), batches(1, (4, 5)), plugins=plugins, gradient_clip_val=clip, log_every_n_steps=1)
        norms.append(float(run.callback_metrics["train/grad_norm"]))
    assert norms[1] == pytest.approx(norms[0], rel=0.02)


def test_dropout_is_a_function_of_seed_and_step() -> None:
    data = batches(4, (2, 50))

    def states(seed: int, *, disturb: bool = False) -> list[Tensor]:
        class Disturbed(Toy):
            def on_train_batch_end(self, *args: Any) -> None:
                if disturb:
                    torch.rand(17)

        L.seed_everything(seed, verbose=False)
        task = Disturbed(dropout=0.5)
        fit(task, data)
        return [s == 0 for s in task.states]

    first, second, other = states(3), states(3, disturb=True), states(4)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_the_schedule_moves_with_every_optimiser_step() -> None:
    schedule = Cosine(warmup=2)
    task = Toy(schedule=schedule)
    fit(task, batches(8, (2, 5)), max_epochs=2, accumulate_grad_batches=2)
    expected = [0.01 * schedule.factor(step, 8) for step in range(8)]
    assert len(task.rates) == 8
    assert task.rates[:8] == pytest.approx(expected)


def test_a_schedule_with_an_end_refuses_an_endless_run() -> None:
    with pytest.raises(ValueError, match="Cosine must know its last step"):
        fit(Toy(schedule=Cosine()), batches(1, (2, 5)), max_epochs=-1)


def test_training_lowers_the_loss_it_logs() -> None:
    task, data = Toy(), batches(1, (4, 20)) * 40
    run = fit(task, data)
    first = task.loss(data[0])
    torch.manual_seed(0)
    fresh = Toy().loss(data[0])
    assert first.nll < fresh.nll
    assert run.callback_metrics["train/nll"] < math.log(7)


def _one_rank(rank: int, port: int, folder: str) -> None:
    import os

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    os.environ |= {"LOCAL_RANK": str(rank), "RANK": str(rank)}
    torch.set_num_threads(1)
    rows = batches(8, (1, 5))
    mine = [[torch.cat(rows[:1]), torch.cat(rows[3:7])], [torch.cat(rows[1:3]), torch.cat(rows[7:])]][rank]
    task = Toy()
    fit(task, mine, accumulate_grad_batches=2, devices=2, strategy="ddp")
    torch.save(weights(task), f"{folder}/{rank}.pt")


@pytest.mark.slow
def test_two_processes_and_one_agree(tmp_path: Any) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_one_rank, (port, str(tmp_path)), nprocs=2)
    alone = Toy()
    fit(alone, [torch.cat(batches(8, (1, 5)))])
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), weights(alone), rtol=0, atol=1e-6)


def test_gradients_are_divided_by_the_tokens_of_all_ranks() -> None:
    """AdamW hides how large gradients are, so that equal weights of one process and two prove nothing of it."""
    task = Toy()
    reduce = {"sum": lambda tokens: tokens + 5}  # another rank saw five
    strategy = SimpleNamespace(reduce=lambda tokens, reduce_op: reduce[reduce_op](tokens))
    task._trainer = SimpleNamespace(strategy=strategy, precision="32-true", global_step=0, log_every_n_steps=50)
    task.step_tokens += 3
    for p in task.network.parameters():
        p.grad = torch.full_like(p, 16.0)
    task.on_before_optimizer_step(torch.optim.SGD(task.parameters(), lr=1.0))
    assert all((p.grad == 2).all() for p in task.network.parameters())
    assert task.step_tokens == 0


def test_throughput_is_tokens_and_their_share_of_the_peak(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four batches of 12 tokens, a second each: 6 FLOPs a token and parameter of a matrix."""
    clock = iter(range(10))
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: next(clock) * 2.0)
    monkeypatch.setattr(callbacks, "peak_flops", lambda *given: (6000.0, "said"))
    task, logged = Toy(), list[dict[str, float]]()
    monkeypatch.setattr(task, "log_dict", lambda values, **options: logged.append(values))
    run: Any = SimpleNamespace(precision="32-true", is_global_zero=True)
    found = callbacks.Throughput(every=2)
    found.on_train_start(run, task)
    for number in range(4):
        task.seen_tokens += 12
        found.on_train_batch_end(run, task, None, None, number)
    assert "MFU = 6 x 56 x tokens/s / 6e+03 FLOP/s (said)" in capsys.readouterr().err
    assert logged == [{"train/tokens_per_s": 12.0, "train/mfu": 6 * 56 * 12 / 6000}] * 2


def test_what_lies_beside_the_network_is_named() -> None:
    task = Toy()
    task.beside = nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"Toy trains its `network` alone, and beside\.weight lies outside of it"):
        fit(task, batches(2, (2, 5)))
    task.beside.requires_grad_(False)
    fit(task, batches(2, (2, 5)))


def test_processes_with_the_same_batches_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    task, run = Toy(), trainer()
    run.fit(task, torch.utils.data.DataLoader(batches(2, (2, 5)), batch_size=None))  # type: ignore[arg-type]
    task._check_ranks()  # one process
    monkeypatch.setattr(type(run), "world_size", 2)
    with pytest.raises(
        UserError, match=r"2 processes would train on the same batches: .*\(SequentialSampler\) knows no"
    ):
        task._check_ranks()
    data: Any = [0, 1, 2, 3]
    shared = DistributedSampler(data, num_replicas=2, rank=0)
    for options in ({"sampler": shared}, {"batch_sampler": BatchSampler(shared, 2, False)}, {"batch_sampler": [[0]]}):
        monkeypatch.setattr(type(run), "train_dataloader", DataLoader(data, **options))
        task._check_ranks()
    monkeypatch.setattr(type(run), "train_dataloader", DataLoader(data, batch_size=2, shuffle=True))
    with pytest.raises(UserError, match=r"\(RandomSampler\) knows no rank"):
        task._check_ranks()


def test_dropout_goes_by_the_seed_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain Trainer, without Lightning's seed_everything."""
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    drawn = []
    for seed in (1, 1, 2):
        task = Toy(dropout=0.5)
        data = batches(2, (2, 5))
        torch.manual_seed(seed)
        fit(task, data)
        drawn.append(torch.cat(task.states))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_training_makes_nothing_of_numbers_that_are_slow() -> None:
    small = torch.tensor(1e-30)
    torch.set_flush_denormal(False)
    assert small * 1e-10 > 0
    fit(Toy(), batches(1, (2, 5)))
    assert small * 1e-10 == 0
