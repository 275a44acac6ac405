"""Attention written out, block by block of queries: a kernel of zoo/core/attend.py, for a bias that learns, and without
one where the table of kernels says that it is the fastest.

Axes: b sequences, n queries, m keys, h heads, e head width.

The formula as autograd runs it makes five tensors "b h n m" per layer (products, products with the bias, masked ones,
weights, the weights' gradient and so on back). Here a block of queries has one, turned into its weights in place while
it is in the cache; a causal block ends with its last query, so that half of all pairs are never made; and what is
masked has a weight of zero, so that its gradient needs no mask. Figures: docs/design.md.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from zoo.core.relative import Bias, Relative, skew, span
from zoo.core.tracing import transformed

# Queries of a block: shorter ones save more of a causal triangle, longer ones make larger products, and round sums over
# blocks less often where numbers are halves.
ROWS, HALF_ROWS = 64, 128
# Bytes of a vector register as torch uses it. Its softmax and sums go number by number through what is left of a row
# behind the last full one: filled up, a tail of 12 or more saves up to half of the time forward and backward (bfloat16,
# AVX-512, one thread: 0.5-0.8 with 20 to 30 behind the last of 64 keys, 0.8-0.9 with 250; float32: 0.5 below 16).
REGISTERS, TAIL = {"AVX512": 64, "AVX2": 32}, 12


def by_blocks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    causal: bool,
    bias: Bias,
    scale: float,
) -> Tensor:
    """softmax(q k' scale + bias) v for "b h n e" and "b h m e": "b h n e".

    `mask` (True = may be attended) and `bias` broadcast to "b h n m", or the bias is `Relative` and has no index;
    `causal`: the past alone (n = m).
    """
    (b, h, n, _), m = q.shape, k.shape[2]
    relative = bias.rows.to(q.dtype) if isinstance(bias, Relative) else None
    added = bias if isinstance(bias, Tensor) else None
    if added is not None:
        added = rearrange(added.expand(*added.shape[:-3], h, n, m)[(None,) * (4 - added.dim())], "b h n m -> h b n m")
    q, k, v = (rearrange(x, "b h n e -> (h b) n e") for x in (q * scale, k, v))
    more = 0 if bias is not None else spare(n, m, q)
    if more:
        k, v = F.pad(k, (0, 0, 0, more)), F.pad(v, (0, 0, 0, more))
        if mask is None and not causal:  # a causal block sees no key behind its last query
            mask = q.new_ones(1, m, dtype=torch.bool)
    hidden = None
    if mask is not None:
        hidden = q.new_zeros(*mask.shape[:-1], m).masked_fill_(~mask, -math.inf)
        hidden = F.pad(hidden, (0, more), value=-math.inf).expand(b, h, n, m + more)
        hidden = rearrange(hidden, "b h n m -> h b n m")
    learns = any(isinstance(x, Tensor) and x.requires_grad for x in (q, k, v, added, relative))
    given = (hidden, causal, added, relative, (h, b), learns and torch.is_grad_enabled())
    out: Tensor = _ByBlocks.apply(q, k, v, *given)[0]  # type: ignore[no-untyped-call]
    return rearrange(out, "(h b) n e -> b h n e", h=h)


def spare(n: int, m: int, q: Tensor) -> int:
    """Keys to add, which nobody sees, so that rows of weights fill their registers; 0 where it does not pay."""
    lanes = REGISTERS.get(torch.backends.cpu.get_cpu_capability(), 0) // q.dtype.itemsize if q.is_cpu else 0
    return -m % lanes if lanes and n >= TAIL and m % lanes >= TAIL else 0


class _ByBlocks(torch.autograd.Function):
    """Gives the weights too: as outputs they have a place in the graph, which a second derivative needs.

    Heads come first: a head's vectors of distances then meet the queries of all sequences in one product.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        hidden: Tensor | None,
        causal: bool,
        bias: Tensor | None,
        relative: Tensor | None,
        shape: tuple[int, int],
        differentiate: bool,
    ) -> tuple[Tensor, ...]:
        n, m = q.shape[1], k.shape[1]
        ctx.set_materialize_grads(False)
        ctx.shape, ctx.causal = shape, causal
        ctx.learns = None if bias is None or not bias.requires_grad else bias.shape
        size = ROWS if q.dtype.itemsize > 2 else HALF_ROWS
        future = q.new_full((size, size + m - n), -math.inf).triu(1) if causal else None
        out, weights = [], []
        for first in range(0, max(n, 1), size):
            last = min(first + size, n)
            rows, seen = slice(first, last), slice(0, last if causal and last < n else m)
            w = torch.bmm(q[:, rows], k[:, seen].mT)
            by_head = w.view(*shape, *w.shape[1:])
            if bias is not None:
                by_head += bias[..., rows, seen]
            if relative is not None:
                near = relative[:, span(n, last, seen.stop, causal=causal, block=last - first)]
                w += skew(_of_head(_all(q[:, rows], shape) @ near.mT, w), seen.stop)
            if hidden is not None:
                by_head += hidden[..., rows, seen]
            if future is not None:
                w[:, :, first:] += future[: last - first, : w.shape[2] - first]
            torch.softmax(w, -1, out=w)
            out.append(torch.bmm(w, v[:, seen]))
            if differentiate:
                weights.append(w)
        ctx.save_for_backward(q, k, v, relative, *weights)
        return _whole(out), *weights

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *others: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, relative, *weights = ctx.saved_tensors
        n = q.shape[1]
        grad = torch.zeros_like(q) if grad is None else grad
        batched = transformed() or torch._C._functorch.is_legacy_batchedtensor(grad)
        dq: list[Tensor] = []
        dk = dv = None
        dbias = None if ctx.learns is None else q.new_zeros(ctx.learns)
        drelative = None if relative is None else torch.zeros_like(relative)
        last = n
        for w, other in zip(reversed(weights), reversed(others), strict=True):  # the last block has seen all keys
            first = last - w.shape[1]
            rows, seen = slice(first, last), slice(0, w.shape[2])
            dv = _added(dv, w.mT, grad[:, rows], batched)
            dw = torch.bmm(grad[:, rows], v[:, seen].mT)
            if other is not None:
                dw += other
            # what is to be differentiated again stays, and gradients that come in batches are not written over
            place = {} if torch.is_grad_enabled() or batched else {"grad_input": dw}
            dw = torch._softmax_backward_data(dw, w, -1, dw.dtype, **place)
            if dbias is not None:
                part, by_head = dbias[..., rows, seen], dw.view(*ctx.shape, *dw.shape[1:])
                part += by_head if part.shape == by_head.shape else by_head.sum(1, keepdim=True)
            dq.insert(0, torch.bmm(dw, k[:, seen]))
            dk = _added(dk, dw.mT, q[:, rows], batched)
            if drelative is not None:
                near = span(n, last, seen.stop, causal=ctx.causal, block=last - first)
                products = q.new_zeros(*dw.shape[:2], near.stop - near.start)
                skew(products, seen.stop).copy_(dw)
                products = _all(products, ctx.shape)
                dq[0] += _of_head(products @ relative[:, near], dw)
                drelative[:, near].baddbmm_(products.mT, _all(q[:, rows], ctx.shape))
            last = first
        return _whole(dq), dk, dv, None, None, dbias, drelative, None, None


def _whole(blocks: list[Tensor]) -> Tensor:
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, 1)


def _added(total: Tensor | None, a: Tensor, b: Tensor, batched: bool) -> Tensor:
    """a b, added to the first rows of what there is already: in place, but where gradients come in batches."""
    if total is None:
        return torch.bmm(a, b)
    if batched:
        return total + F.pad(torch.bmm(a, b), (0, 0, 0, total.shape[1] - a.shape[1]))
    total[:, : a.shape[1]].baddbmm_(a, b)
    return total


def _all(x: Tensor, shape: tuple[int, int]) -> Tensor:
    """Queries of each head and sequence, "(h b) n x", as those of a head, "h (b n) x"."""
    return x.reshape(shape[0], shape[1] * x.shape[1], x.shape[-1])


def _of_head(x: Tensor, like: Tensor) -> Tensor:
    """The way back: as many sequences and queries as `like` has."""
    return x.view(*like.shape[:2], x.shape[-1])
