"""Attention written out, block by block of queries, for a bias that learns: a kernel of zoo/core/attend.py.

Axes: b sequences, n queries, m keys, h heads, e head width.

The formula as autograd runs it makes five tensors "b h n m" a layer (products, products with the bias, masked ones,
weights, the weights' gradient and so on back). Here a block of queries has one, turned into its weights in place while
it is in the cache; a causal block ends with its last query, so that half of all pairs are never made; and what is
masked has a weight of zero, so that its gradient needs no mask. Figures: docs/design.md.
"""

from typing import Any

import torch
from torch import Tensor

from zoo.core.plain import once

ROWS = 64  # queries of a block: shorter ones save more of a causal triangle, longer ones make larger products


def by_blocks(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, bias: Tensor | None, scale: float
) -> Tensor:
    """softmax(q k' scale + bias) v for "b h n e" and "b h m e": "b h n e". No second derivatives.

    `mask` (True = may be attended) and `bias` broadcast to "b h n m"; `causal`: the past alone (n = m).
    """
    if bias is not None:
        bias = bias.expand(*bias.shape[:-3], q.shape[1], q.shape[2], k.shape[2])
    out: Tensor = _ByBlocks.apply(q, k, v, mask, causal, bias, scale)  # type: ignore[no-untyped-call]
    return out


class _ByBlocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, bias: Tensor | None, scale: float
    ) -> Tensor:
        (b, h, n, e), m = q.shape, k.shape[2]
        ctx.scale, ctx.shape = scale, q.shape
        ctx.learns = None if bias is None or not bias.requires_grad else bias.shape
        q, k, v = ((q * scale).reshape(b * h, n, e), *(x.reshape(b * h, m, e) for x in (k, v)))
        bias, mask = (None if x is None else x.expand(b, h, n, m) for x in (bias, mask))
        future = torch.ones(ROWS, ROWS, dtype=torch.bool, device=q.device).triu(1)
        out = torch.empty_like(q)
        weights = []
        for first in range(0, n, ROWS):
            last = min(first + ROWS, n)
            rows, seen = slice(first, last), slice(0, last if causal else m)
            w = torch.bmm(q[:, rows], k[:, seen].mT)
            by_head = w.view(b, h, last - first, -1)
            if bias is not None:
                by_head += bias[:, :, rows, seen]
            if mask is not None:
                by_head.masked_fill_(~mask[:, :, rows, seen], float("-inf"))
            if causal:
                w[:, :, rows].masked_fill_(future[: last - first, : last - first], float("-inf"))
            torch.softmax(w, -1, out=w)
            out[:, rows] = torch.bmm(w, v[:, seen])
            weights.append(w)
        ctx.save_for_backward(q, k, v, *weights)
        return out.view(b, h, n, e)

    @staticmethod
    @once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *weights = ctx.saved_tensors
        b, h, _, e = ctx.shape
        grad = grad.reshape(q.shape)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        dbias = None if ctx.learns is None else q.new_zeros(ctx.learns)
        last = 0
        for w in weights:
            first, last = last, last + w.shape[1]
            rows, seen = slice(first, last), slice(0, w.shape[2])
            dv[:, seen].baddbmm_(w.mT, grad[:, rows])
            dw = torch.bmm(grad[:, rows], v[:, seen].mT)
            torch._softmax_backward_data(dw, w, -1, dw.dtype, grad_input=dw)
            if dbias is not None:
                part, by_head = dbias[..., rows, seen], dw.view(b, h, last - first, -1)
                part += by_head if part.shape == by_head.shape else by_head.sum(0)
            dq[:, rows] = torch.bmm(dw, k[:, seen])
            dk[:, seen].baddbmm_(dw.mT, q[:, rows])
        dq, dk, dv = (x.view(b, h, -1, e) for x in (dq.mul_(ctx.scale), dk, dv))
        return dq, dk, dv, None, None, dbias, None
