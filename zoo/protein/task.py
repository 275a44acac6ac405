"""Training protein models: masked and causal pretraining; labels of residues, values of proteins, on a trunk that is
frozen (probing), fine-tuned, or trained from nothing."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from zoo.atomic import write_atomically
from zoo.core import StackConfig
from zoo.core.pool import Mean, Pool
from zoo.data.corruption import IGNORED, Masked, mask_tokens
from zoo.errors import UserError
from zoo.protein.model import ProteinLM, ResidueModel, SequenceModel
from zoo.protein.planted import look
from zoo.protein.scoring import spearman
from zoo.protein.tokens import Residues
from zoo.train.confusion import accuracy, confusion, f1
from zoo.train.losses import TokenLoss, check_label_smoothing, token_loss
from zoo.train.optimisers import Optimiser
from zoo.train.schedules import Schedule
from zoo.train.task import Task

MEAN = Mean()
RANDOM = (min(Residues.residues), max(Residues.residues) + 1)  # ids of the 20 residues stand side by side


class ProteinTask(Task):
    """What the tasks of proteins share: a test says its result, and a file of the run folder keeps it."""

    def results(self) -> dict[str, Any]:
        """What a test found."""
        raise NotImplementedError

    def on_test_epoch_end(self) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        result = {"test_set": data.test_set} | self.results()
        self.report(result, f"test-{data.test_set}.json")


class Likelihood(ProteinTask):
    """Base of the pretraining tasks: a test gives nats per residue with its standard error over chains, and keeps what
    each chain has had in `chains-SET.csv`, so that two models can be compared chain by chain."""

    def on_test_epoch_start(self) -> None:
        # by window, a chain and a place in it: those of one chain may lie on several ranks, and one window on two
        self.windows: dict[tuple[int, int], tuple[float, int]] = {}

    def nats(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Negative log likelihoods "b n", and which of them are counted: predicted residues, not start, end or gaps."""
        raise NotImplementedError

    def test_step(self, batch: Any, batch_idx: int) -> None:
        nll, counted = self.nats(batch)
        where = zip(batch.index.tolist(), batch.begin.tolist(), strict=True)
        sums = zip((nll * counted).sum(1).tolist(), counted.sum(1).tolist(), strict=True)
        self.windows |= zip(where, sums, strict=True)

    def results(self) -> dict[str, Any]:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        found: dict[int, tuple[float, int]] = {}
        for (row, _), (total, count) in sorted(self.gather(self.windows).items()):
            if count:
                before = found.get(row, (0.0, 0))
                found[row] = (before[0] + total, before[1] + count)
        totals, counts = np.array(list(found.values())).T
        mean, error = ratio(totals, counts)
        if self.trainer.is_global_zero:
            lines = ["chain,nats,residues", *(f"{row},{total!r},{count}" for row, (total, count) in found.items())]
            path = Path(self.trainer.default_root_dir) / f"chains-{data.test_set}.csv"
            write_atomically(path, "\n".join(lines) + "\n")
        about = {"nll": mean, "error": error, "perplexity": math.exp(mean)}
        return about | {"chains": len(found), "residues": int(counts.sum())}


def ratio(totals: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """The mean of all that is counted, and its standard error where chains, not residues, are drawn independently."""
    mean = totals.sum() / counts.sum()
    return float(mean), float(np.sqrt(np.square(totals - mean * counts).sum()) / counts.sum())


class MaskedProteins(Likelihood):
    """Masked pretraining of a ProteinLM: `rate` of the residues are predicted, of which the first of `shares` is shown
    as the mask and the second as another residue (Devlin et al. 2019; Lin et al. 2023). Nothing else is hidden or
    predicted: not start, end, nor gaps.

    Validation and test hide the same residues every time; their perplexity is a masked one.
    """

    kind = "ProteinLM"
    entries = ("hidden",)
    carried = ("trunk",)

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: int,
        token_dropout: bool = True,
        tied: bool = True,
        rate: float = 0.15,
        shares: tuple[float, float] = (0.8, 0.1),
        compile: bool = False,
        optimizer: Optimiser | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(optimizer, schedule)
        if stack.causal:
            raise ValueError("a masked model looks both ways: leave causal unset, or train CausalProteins")
        self.network = ProteinLM(stack, vocab_size, token_dropout=token_dropout, tied=tied)
        self.rate, self.shares = rate, shares
        if compile:
            self.network.stack.compile()

    def hide(self, batch: Any, generator: torch.Generator | None) -> Masked:
        """A batch with some of its residues hidden."""
        return mask_tokens(
            batch.ids,
            residues(batch),
            mask=Residues.mask,
            random=RANDOM,
            rate=self.rate,
            shares=self.shares,
            generator=generator,
        )

    def loss(self, batch: Any, generator: torch.Generator | None = None) -> TokenLoss:
        hidden = self.hide(batch, generator)
        states, layout = self.network.hidden(hidden.ids, batch.keep)
        labels = layout.take(hidden.labels, batch.keep)
        chosen = labels != IGNORED  # the head's own transform sees these alone too
        head = self.network.head
        return token_loss(head.features(states[chosen]), head.out.weight, labels[chosen], head.out.bias)

    def score(self, batch: Any, stage: str) -> TokenLoss:
        out = self.loss(batch, same(batch))
        self.log_score(out, stage)
        return out

    def nats(self, batch: Any) -> tuple[Tensor, Tensor]:
        hidden = self.hide(batch, same(batch))
        return surprise(self.network(hidden.ids, batch.keep), hidden.labels), hidden.labels != IGNORED


def residues(batch: Any) -> Tensor:
    """Where a batch holds one of the 20 residues that is counted: "b n"."""
    return (batch.labels != IGNORED) & (batch.ids >= RANDOM[0]) & (batch.ids < RANDOM[1])


def same(batch: Any) -> torch.Generator:
    """A generator by what a batch holds, not by when it comes: every validation hides the same."""
    seed = int(batch.index[0]) * 1_000_003 + int(batch.begin[0])
    return torch.Generator(batch.ids.device).manual_seed(seed)


def surprise(logits: Tensor, wanted: Tensor) -> Tensor:
    """Negative log likelihood "b n" of the tokens `wanted` under logits "b n v", 0 where they are ignored."""
    scores = rearrange(logits.float(), "b n v -> b v n")
    return torch.nn.functional.cross_entropy(scores, wanted, ignore_index=IGNORED, reduction="none")


class PlantedContacts(MaskedProteins):
    """Masked pretraining on the built-in family; a test says how much of what was planted the model has found, and what
    the same network finds untrained."""

    def results(self) -> dict[str, Any]:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        with torch.random.fork_rng():
            fresh = ProteinLM(**self.network.settings).eval()
        found, untrained = (look(network, data.family).to_plain() for network in (self.network, fresh))
        return super().results() | found | {"untrained": {name: untrained[name] for name in ("jacobian", "head")}}


class CausalProteins(Likelihood):
    """A ProteinLM that reads from left to right. Training and validation count every token, the end included."""

    kind = "ProteinLM"
    entries = ("hidden",)
    carried = ("trunk",)

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: int,
        tied: bool = True,
        compile: bool = False,
        optimizer: Optimiser | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(optimizer, schedule)
        if not stack.causal:
            raise ValueError("a model that writes reads the past alone: set causal, or train MaskedProteins")
        self.network = ProteinLM(stack, vocab_size, token_dropout=False, tied=tied)
        if compile:
            self.network.stack.compile()

    def loss(self, batch: Any) -> TokenLoss:
        states, layout = self.network.hidden(batch.ids, batch.keep)
        nexts = torch.nn.functional.pad(batch.labels[:, 1:], (0, 1), value=IGNORED)
        head = self.network.head
        return token_loss(states, head.weight, layout.take(nexts, batch.keep), head.bias)

    def nats(self, batch: Any) -> tuple[Tensor, Tensor]:
        nll = surprise(self.network(batch.ids, batch.keep)[:, :-1], batch.labels[:, 1:])
        return nll, residues(batch)[:, 1:]


class OnTrunk(ProteinTask):
    """Base of the tasks that put a head on a trunk: `zoo fit --init-from CHECKPOINT` begins with that of a pretrained
    model. Subclasses call `hold_trunk` where it stays as it is and the head alone learns (probing).
    """

    carried = ("trunk",)
    frozen = False
    learns = ""  # what its data must know of a protein

    def setup(self, stage: str) -> None:
        super().setup(stage)
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if data.labelled != self.learns:
            knows = f"knows {data.labelled}" if data.labelled else "knows none of it"
            raise UserError(f"{type(self).__name__} learns {self.learns} of proteins; {type(data).__name__} {knows}")

    def hold_trunk(self) -> None:
        self.frozen = True
        self.network.trunk.requires_grad_(False)

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        if self.frozen:
            self.network.trunk.eval()  # no dropout in what does not learn
        return self


class Labels(OnTrunk):
    """Base of the tasks whose answer is one of `classes` labels: a test gives the accuracy over those that are known,
    which is taken for which (a confusion matrix), and the F1 of each."""

    counted = ""  # what has a label

    # the labels of each window, a chain and a place in it, as pairs (right, found)
    found: dict[tuple[int, int], list[list[int]]]

    def on_test_epoch_start(self) -> None:
        self.found = {}

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.score(batch, "test")
        pairs = torch.stack([batch.labels, self.network(batch.ids, batch.keep).argmax(-1)], -1)
        where = zip(batch.index.tolist(), batch.begin.tolist(), strict=True)
        known = [row[row[..., 0] != IGNORED].tolist() for row in pairs.cpu()]
        self.found |= zip(where, known, strict=True)

    def results(self) -> dict[str, Any]:
        names = self.trainer.datamodule.names  # type: ignore[attr-defined]
        table = confusion((pair for pairs in self.gather(self.found).values() for pair in pairs), len(names))
        return {
            "accuracy": accuracy(table),
            "nll": float(self.trainer.callback_metrics["test/nll"]),
            self.counted: int(table.sum()),
            "confusion": {
                name: dict(zip(names, row, strict=True)) for name, row in zip(names, table.tolist(), strict=True)
            },
            "f1": {name: round(value, 4) for name, value in zip(names, f1(table), strict=True)},
        }


class ResidueLabels(Labels):
    """Labels of residues."""

    kind = "ResidueModel"
    entries = ("hidden",)
    learns = counted = "residues"

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: int,
        classes: int,
        frozen: bool = False,
        token_dropout: bool = False,
        compile: bool = False,
        optimizer: Optimiser | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(optimizer, schedule)
        self.network = ResidueModel(stack, classes, vocab_size, token_dropout=token_dropout)
        if frozen:
            self.hold_trunk()
        if compile:
            self.network.trunk.stack.compile()

    def loss(self, batch: Any) -> TokenLoss:
        states, layout = self.network.hidden(batch.ids, batch.keep)
        head = self.network.head
        return token_loss(states, head.weight, layout.take(batch.labels, batch.keep), head.bias)


class ProteinClasses(Labels):
    """A class for each protein: where in the cell it works, which family it is of."""

    kind = "SequenceModel"
    entries = ("hidden",)
    learns, counted = "classes", "proteins"

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: int,
        classes: int,
        pool: Pool = MEAN,
        label_smoothing: float = 0.0,
        frozen: bool = False,
        token_dropout: bool = False,
        optimizer: Optimiser | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(optimizer, schedule)
        check_label_smoothing(label_smoothing)
        self.network = SequenceModel(stack, classes, vocab_size, pool=pool, token_dropout=token_dropout)
        if frozen:
            self.hold_trunk()
        self.label_smoothing = label_smoothing

    def loss(self, batch: Any) -> TokenLoss:
        states, head = self.network.hidden(batch.ids, batch.keep), self.network.head
        return token_loss(states, head.weight, batch.labels, head.bias, label_smoothing=self.label_smoothing)


class ProteinValues(OnTrunk):
    """A number for each protein, by squared error; its rank correlation (Spearman) with what was measured."""

    kind = "SequenceModel"
    learns = "values"

    def __init__(
        self,
        stack: StackConfig,
        vocab_size: int,
        pool: Pool = MEAN,
        frozen: bool = False,
        token_dropout: bool = False,
        optimizer: Optimiser | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(optimizer, schedule)
        self.network = SequenceModel(stack, 1, vocab_size, pool=pool, token_dropout=token_dropout)
        if frozen:
            self.hold_trunk()
        self.found: dict[int, tuple[float, float]] = {}

    def on_fit_start(self) -> None:
        if self.trainer.ckpt_path is None:
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            values = np.array([chain.labels for chain in data.held("train")])
            self.network.scale_to(float(values.mean()), float(values.std()))

    def loss(self, batch: Any) -> TokenLoss:
        found = self.network(batch.ids, batch.keep)[:, 0]
        wanted = batch.labels.to(found.dtype)
        # half the squared error, in units of the spread: a Gaussian's negative log likelihood but for a constant
        half = ((found - wanted) / self.network.spread).square().sum() / 2
        return TokenLoss(loss=half, nll=half.detach(), correct=None, tokens=torch.tensor(len(wanted)))

    def _collect(self, batch: Any) -> None:
        values = self.network(batch.ids, batch.keep)[:, 0]
        for row, value, label in zip(batch.index.tolist(), values.tolist(), batch.labels.tolist(), strict=True):
            self.found[row] = (value, label)

    def on_validation_epoch_start(self) -> None:
        self.found = {}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.score(batch, "val")
        self._collect(batch)

    def on_validation_epoch_end(self) -> None:
        self.log("val/spearman", self._spearman()[0], prog_bar=True, sync_dist=True)

    def on_test_epoch_start(self) -> None:
        self.found = {}

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.score(batch, "test")
        self._collect(batch)

    def _spearman(self) -> tuple[float, int]:
        pairs = np.array(list(self.gather(self.found).values()))
        return spearman(pairs[:, 0], pairs[:, 1]), len(pairs)

    def results(self) -> dict[str, Any]:
        found, count = self._spearman()
        return {"spearman": found, "proteins": count, "nll": float(self.trainer.callback_metrics["test/nll"])}

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        self._collect(batch)

    def on_predict_epoch_start(self) -> None:
        self.found = {}

    def on_predict_epoch_end(self) -> None:
        found = self.gather(self.found)
        if self.trainer.is_global_zero:
            for row in sorted(found):
                print(found[row][0])
