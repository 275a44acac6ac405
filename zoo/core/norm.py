"""Norms. Axes: t tokens, d the normalised width.

LayerNorm is torch's own kernel. RMSNorm (Zhang & Sennrich 2019) is an autograd function around LayerNorm's backward
kernel, because torch's composition of it takes three times LayerNorm's time on a CPU (figures in docs/design.md).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.core.setting import Setting


class Norm(Setting):
    """A norm over the last axis."""

    def build(self, dim: int) -> nn.Module:
        raise NotImplementedError

    def parameters(self, dim: int) -> int:
        raise NotImplementedError


@dataclass(frozen=True)
class NoNorm(Norm):
    """No norm at all."""

    def build(self, dim: int) -> nn.Module:
        return nn.Identity()

    def parameters(self, dim: int) -> int:
        return 0


@dataclass(frozen=True)
class LayerNorm(Norm):
    """(x - mean) / sqrt(variance + eps) * weight + bias. Ba et al. 2016."""

    eps: float = 1e-5
    bias: bool = True

    def build(self, dim: int) -> nn.Module:
        return nn.LayerNorm(dim, eps=self.eps, bias=self.bias)

    def parameters(self, dim: int) -> int:
        return dim * (1 + self.bias)


@dataclass(frozen=True)
class RMSNorm(Norm):
    """x / sqrt(mean square + eps) * weight. Zhang & Sennrich 2019."""

    eps: float = 1e-6

    def build(self, dim: int) -> nn.Module:
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
        if x.is_cuda or torch.compiler.is_compiling():  # the compiler fuses the plain formula by itself
            return nn.functional.rms_norm(x, self.weight.shape, self.weight, self.eps)
        out: Tensor = _RMSNorm.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
        return out

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"


class _RMSNorm(torch.autograd.Function):
    """With its mean set to zero, LayerNorm's backward kernel gives RMSNorm's gradients but for one term.

    LayerNorm: dx = r (gw - mean(gw) - xh mean(gw xh)), xh = r x when the mean is zero. RMSNorm lacks mean(gw), so it
    is added back; that mean is one matrix-vector product.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        size = x.shape[-1]
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=_statistics(x)).square_()
        scale = square.div_(size).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return x.mul(scale).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (g,) = grads
        x, weight, scale = ctx.saved_tensors
        size = x.shape[-1]
        x, g, w = x.to(scale.dtype), g.to(scale.dtype).contiguous(), weight.to(scale.dtype)
        dx, dw, _ = torch.ops.aten.native_layer_norm_backward(
            g, x, [size], torch.zeros_like(scale), scale, w, None, [True, True, False]
        )
        # one column at a time: addcmul_ over two broadcast columns takes ten times an add_ over one
        dx.add_((g @ w.div(size)).unsqueeze(-1).mul_(scale))
        return dx.to(ctx.saved_tensors[0].dtype), dw.to(weight.dtype), None


def _statistics(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
