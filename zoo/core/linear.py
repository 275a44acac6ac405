"""Linear maps, and the one seam for products of matrices: nothing else in the library picks who multiplies.

Axes: t tokens, i and o features of input and output.

torch multiplies float32 on x86 by MKL, which leaves the wider half of AMD's vector units alone: there oneDNN, which is
in torch as well, takes half the time (zoo/core/kernels.py says where). torch has no switch for it, so its operator is
called by name, and an autograd function says its gradients. bfloat16 goes to oneDNN by torch itself.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.core.kernels import CHOICES, Library
from zoo.core.tracing import traced

_products: Library = CHOICES.products


class Linear(nn.Linear):
    """torch's, computed by `product`."""

    def forward(self, x: Tensor) -> Tensor:
        return product(x, self.weight, self.bias)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, by: Library | None = None) -> Tensor:
    """x weight' + bias: "... i", "o i" and "o" to "... o". `by`: who is to multiply, however little there is."""
    if not _served(x, weight, bias, by):
        return F.linear(x, weight, bias)
    rows = x if x.dim() == 2 else x.flatten(0, -2)
    if torch.is_grad_enabled() and (
        x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    ):
        out: Tensor = _Product.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    else:
        out = _onednn(rows, weight, bias)
    return out if x.dim() == 2 else out.view(*x.shape[:-1], -1)


def product_into(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product of matrices without gradients: in `out`, or in memory of its own where oneDNN multiplies."""
    if _served(x, weight, bias, None):
        return _onednn(x, weight, bias)
    return torch.mm(x, weight.t(), out=out) if bias is None else torch.addmm(bias, x, weight.t(), out=out)


def add_product(total: Tensor, x: Tensor, weight: Tensor) -> None:
    """Add the product of matrices to `total`, "t o", without gradients."""
    if total.dtype != x.dtype or _served(x, weight, None, None):
        total += product(x, weight)
    else:
        total.addmm_(x, weight.t())


# Multiplications that are worth the 10 us of a call: of many rows; of one, where reading the weights takes the time.
LEAST, LEAST_ROW = 2**21, 2**17
# Numbers of rows for which oneDNN lays the weights out anew, and which do not repay it: two halves take 0.5-0.9.
REORDERED = range(16, 30)
PLAIN_TYPES = (Tensor, nn.Parameter)  # not what follows what is computed, or is spread over processes


def _served(x: Tensor, weight: Tensor, bias: Tensor | None, by: Library | None) -> bool:
    """Whether oneDNN is to multiply these: plain float32 matrices in a CPU's memory, of shapes that fit."""
    if (by or _products) != "onednn" or traced() or x.dim() < 2 or not _plain(x):
        return False
    rows, size = x.numel() // max(x.shape[-1], 1), weight.numel()
    worth = size >= LEAST_ROW if rows == 1 else rows * size >= LEAST
    return (
        x.numel() > 0
        and (worth or by is not None)
        and _plain(weight)
        and weight.dim() == 2
        and weight.shape[1] == x.shape[-1]
        and (weight.is_contiguous() or weight.t().is_contiguous())
        and (bias is None or (_plain(bias) and bias.shape == weight.shape[:1] and bias.is_contiguous()))
        and torch._C._get_mkldnn_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._len_torch_dispatch_stack()  # a counter of operations, say, that knows torch's own
    )


def _plain(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.is_cpu and type(x) in PLAIN_TYPES


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    parts = x.chunk(2) if len(x) in REORDERED else (x,)
    found = [torch.ops.mkldnn._linear_pointwise.default(part, weight, bias, "none", [], "") for part in parts]
    return found[0] if len(found) == 1 else torch.cat(found)


class _Product(torch.autograd.Function):
    """Gradients are products again, and so are theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        of_x, of_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if of_weight else None, weight if of_x else None)
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (grad,), (x, weight) = grads, ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            product(grad, weight.t(), by="onednn") if of_x else None,
            product(grad.t(), x.t(), by="onednn") if of_weight else None,
            grad.sum(0) if of_bias else None,
        )
