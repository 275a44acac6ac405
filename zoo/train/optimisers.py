"""Optimisers as settings: what is decayed and what Muon turns is decided by what a parameter belongs to.

Weight decay pulls the matrices of linear and recurrent maps only. Norms, biases, embeddings, positions, gains and free
parameters (class tokens and their like) are never decayed.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from zoo.core.init import fused_rows
from zoo.core.processor import multiplies_halves
from zoo.core.setting import Setting
from zoo.core.stack import Stack
from zoo.errors import UserError


class Optimiser(Setting):
    """An optimiser."""

    def build(self, model: nn.Module) -> Optimizer:
        raise NotImplementedError


@dataclass(frozen=True)
class AdamW(Optimiser):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), torch's fused kernel. `lr`: the schedule's peak."""

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-9
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rates(self.lr, self.weight_decay, self.eps, beta1=self.beta1, beta2=self.beta2)

    def build(self, model: nn.Module) -> Optimizer:
        return torch.optim.AdamW(
            _decay_groups(model, self.weight_decay),
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            fused=True,
        )


@dataclass(frozen=True)
class Muon(Optimiser):
    """Muon for the matrices of the stacks (Jordan et al. 2024), AdamW for all else, both with one `lr`.

    Updates of a matrix are scaled to the size that AdamW's have (Liu et al. 2025, section 2.2), so `lr` and
    `weight_decay` mean the same for both.
    """

    lr: float = 1e-3
    momentum: float = 0.95
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-9

    def __post_init__(self) -> None:
        super().__post_init__()
        means = {"momentum": self.momentum, "beta1": self.beta1, "beta2": self.beta2}
        check_rates(self.lr, self.weight_decay, self.eps, **means)

    def build(self, model: nn.Module) -> Optimizer:
        """UserError where there is nothing to turn."""
        turned = {id(p): pieces for _, p, pieces in stack_matrices(model)}
        if not turned:
            raise UserError("Muon found no matrix: the model has no stack with trainable linear maps; take AdamW")
        matrices = [p for p in model.parameters() if id(p) in turned]
        return MuonAdamW(
            [
                {"params": matrices, "pieces": [turned[id(p)] for p in matrices], "weight_decay": self.weight_decay},
                *_decay_groups(model, self.weight_decay, skip=turned),
            ],
            lr=self.lr,
            momentum=self.momentum,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
        )


def check_rates(lr: float, weight_decay: float, eps: float, **means: float) -> None:
    """ValueError where a rate makes no sense. `means`: by name, how much running means keep of what they were."""
    if not 0 < lr < math.inf:
        raise ValueError(f"lr ({lr}) must be above 0")
    for name, value in {"weight_decay": weight_decay, "eps": eps}.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} ({value}) must be at least 0")
    for name, value in means.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} ({value}) must be in [0, 1)")


def decayed(model: nn.Module) -> list[str]:
    """Names of what weight decay pulls: matrices of linear and recurrent maps that are not an embedding's too."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    matrices = {
        id(p)
        for m in model.modules()
        if isinstance(m, (nn.Linear, nn.RNNBase))
        for p in m.parameters(recurse=False)
        if p.ndim == 2
    }
    return [name for name, p in model.named_parameters() if id(p) in matrices - embeddings and p.requires_grad]


def stack_matrices(model: nn.Module) -> list[tuple[str, nn.Parameter, list[int]]]:
    """Name, parameter and rows of each map in it, for every matrix that is decayed and stands in a stack.

    A fused projection holds several maps (queries, keys, values; gate and up), whose spectra are their own.
    """
    inside = {id(p) for m in model.modules() if isinstance(m, Stack) for p in m.parameters()}
    pieces = {id(linear.weight): rows for m in model.modules() for linear, rows in fused_rows(m)}
    pieces |= {
        id(p): [m.hidden_size] * (len(p) // m.hidden_size)  # one map for each gate
        for m in model.modules()
        if isinstance(m, nn.RNNBase)
        for p in m.parameters()
    }
    names = set(decayed(model))
    return [
        (name, p, pieces.get(id(p), [len(p)]))
        for name, p in model.named_parameters()
        if name in names and id(p) in inside
    ]


def _decay_groups(model: nn.Module, weight_decay: float, skip: Iterable[int] = ()) -> list[dict[str, Any]]:
    names, skipped = set(decayed(model)), set(skip)
    rest = [(name, p) for name, p in model.named_parameters() if p.requires_grad and id(p) not in skipped]
    groups = [
        {"params": [p for name, p in rest if name in names], "weight_decay": weight_decay},
        {"params": [p for name, p in rest if name not in names], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class MuonAdamW(Optimizer):
    """Groups with `pieces` (rows of each map, for each parameter) go by Muon, the others by torch's fused AdamW."""

    def __init__(
        self,
        params: list[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-9,
    ):
        super().__init__(params, {"lr": lr, "weight_decay": 0.0, "momentum": momentum, "betas": betas, "eps": eps})
        others = [group for group in self.param_groups if "pieces" not in group]
        self._adamw = torch.optim.AdamW(others, lr=lr, betas=betas, eps=eps, fused=True) if others else None

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if "pieces" in group:
                self._turn(group)
        if self._adamw is not None:
            # One state and one list of groups for both, so that schedules, clipping and checkpoints see one optimiser.
            self._adamw.state = self.state
            self._adamw.param_groups = [group for group in self.param_groups if "pieces" not in group]
            self._adamw.step()
        return loss

    def _turn(self, group: dict[str, Any]) -> None:
        """Nesterov momentum, orthogonalised map by map; maps of one shape go through the iteration together."""
        updates: list[tuple[nn.Parameter, Tensor]] = []
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for p, rows in zip(group["params"], group["pieces"], strict=True):
            if p.grad is None:
                continue
            state = self.state[p]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(p)
            state["momentum"].lerp_(p.grad, 1 - group["momentum"])
            update = p.grad.lerp(state["momentum"], group["momentum"])
            # a map's spectrum is that of all its rows: where processes share them, each turns the whole map
            whole = update.full_tensor() if isinstance(update, DTensor) else update
            updates.append((p, whole))
            for piece in whole.split(rows):
                by_shape.setdefault(piece.shape, []).append(piece)
        for shape, pieces in by_shape.items():
            # An orthogonal r x c matrix has root mean square 1 / sqrt(max(r, c)); AdamW's updates have about 0.2.
            size = 0.2 * max(shape) ** 0.5
            for piece, turned in zip(pieces, orthogonalise(torch.stack(pieces)), strict=True):
                piece.copy_(turned).mul_(size)
        for p, whole in updates:
            p.mul_(1 - group["lr"] * group["weight_decay"])
            if isinstance(p, DTensor):
                whole = distribute_tensor(whole, p.device_mesh, p.placements, src_data_rank=None)
            p.add_(whole, alpha=-group["lr"])


def orthogonalise(g: Tensor, steps: int = 5) -> Tensor:
    """About the nearest matrices whose singular values are 1 ("k r c"), by Newton-Schulz: Jordan et al. 2024.

    Its quintic trades exactness for speed: values end below about 1.2, and above about 0.7 where they were not small
    beside the largest. In bfloat16, as published, where that is the faster: float32 on a CPU without units for it.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.to(torch.bfloat16 if g.is_cuda or multiplies_halves() else torch.float32)
    wide = x.shape[-2] <= x.shape[-1]
    x = (x if wide else x.mT).contiguous()  # a bmm of transposed halves takes half as long again
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT
