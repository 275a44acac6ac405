"""Norms. Axes: t tokens, d the normalised width.

LayerNorm is torch's own kernel. RMSNorm (Zhang & Sennrich 2019) is an autograd function around LayerNorm's backward
kernel, because torch's composition of it takes several times LayerNorm's time on a CPU (figures in docs/design.md).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.core.absent import same
from zoo.core.setting import Setting
from zoo.core.tracing import traced

Transform = Callable[[Tensor], Tensor]


class Norm(Setting):
    """A norm over the last axis."""

    def build(self, dim: int) -> Transform:
        """A module from "... dim" to the same shape, or `same` where there is none."""
        raise NotImplementedError

    def parameters(self, dim: int) -> int:
        """How many trainable numbers that module has."""
        raise NotImplementedError


@dataclass(frozen=True)
class NoNorm(Norm):
    """No norm at all."""

    def build(self, dim: int) -> Transform:
        return same

    def parameters(self, dim: int) -> int:
        return 0


def check_eps(eps: float) -> None:
    """ValueError where eps is below 0 or infinite: then there may be no root to divide by."""
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps ({eps}) must be at least 0")


@dataclass(frozen=True)
class LayerNorm(Norm):
    """(x - mean) / sqrt(variance + eps) * weight + bias. Ba et al. 2016."""

    eps: float = 1e-5
    bias: bool = True

    def __post_init__(self) -> None:
        check_eps(self.eps)

    def build(self, dim: int) -> Transform:
        return nn.LayerNorm(dim, eps=self.eps, bias=self.bias)

    def parameters(self, dim: int) -> int:
        return dim * (1 + self.bias)


@dataclass(frozen=True)
class RMSNorm(Norm):
    """x / sqrt(mean square + eps) * weight. Zhang & Sennrich 2019."""

    eps: float = 1e-6

    def __post_init__(self) -> None:
        check_eps(self.eps)

    def build(self, dim: int) -> Transform:
        return RootMeanSquareNorm(dim, self.eps)

    def parameters(self, dim: int) -> int:
        return dim


class RootMeanSquareNorm(nn.Module):
    """RMSNorm over the last axis. On CUDA torch's fused kernel, elsewhere `_rms_norm` below."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda or traced():  # the compiler fuses the plain formula by itself
            return nn.functional.rms_norm(x, self.weight.shape, self.weight, self.eps)
        if not torch.is_grad_enabled():
            return _scaled(x, self.weight, self.eps)[0]
        out: Tensor = _RMSNorm.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
        return out

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"


def _scaled(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The norm of x and the factor "t 1" in it, which is in float32 at least."""
    wide = x if x.dtype == torch.float64 else x.float()
    factor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (wide * weight).mul_(factor).to(x.dtype), factor


class _RMSNorm(torch.autograd.Function):
    """With its mean set to zero, LayerNorm's backward kernel gives RMSNorm's gradients but for one term.

    LayerNorm: dx = r (gw - mean(gw) - xh mean(gw xh)), xh = r x when the mean is zero. RMSNorm lacks mean(gw), so it
    is added back; that mean is one matrix-vector product.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        out, factor = _scaled(x, weight, eps)
        ctx.eps = eps
        ctx.save_for_backward(x, weight, factor)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight, factor = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again, which LayerNorm's kernel does not fit
            out = nn.functional.rms_norm(x, weight.shape, weight, ctx.eps)
            inputs = [a for a in (x, weight) if a.requires_grad]
            found = iter(torch.autograd.grad(out, inputs, grads[0], create_graph=True))
            dx, dw = (next(found) if a.requires_grad else None for a in (x, weight))
            return dx, dw, None
        wide, g, w = (a.to(factor.dtype) for a in (x, grads[0].contiguous(), weight))
        size = x.shape[-1]
        dx, dw, _ = torch.ops.aten.native_layer_norm_backward(
            g, wide, [size], torch.zeros_like(factor), factor, w, None, [True, True, False]
        )
        # one column at a time: addcmul_ over two broadcast columns takes ten times an add_ over one
        dx.add_((g @ w.div(size)).unsqueeze(-1).mul_(factor))
        return dx.to(x.dtype), dw.to(weight.dtype), None
