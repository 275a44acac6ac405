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

ROWS = 64  # queries of a block: shorter ones save more of a causal triangle, longer ones make larger products


def by_blocks(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, bias: Tensor | None, scale: float
) -> Tensor:
    """softmax(q k' scale + bias) v for "b h n e" and "b h m e": "b h n e".

    `mask` (True = may be attended) and `bias` broadcast to "b h n m"; `causal`: the past alone (n = m).
    """
    (b, h, n, e), m = q.shape, k.shape[2]
    if bias is not None:
        bias = bias.expand(*bias.shape[:-3], h, n, m)
    if mask is not None:
        mask = mask.expand(b, h, n, m)
    flat = (x.reshape(b * h, x.shape[2], e) for x in (q * scale, k, v))
    out: Tensor = _ByBlocks.apply(*flat, mask, causal, bias, (b, h))[0]  # type: ignore[no-untyped-call]
    return out.view(b, h, n, e)


class _ByBlocks(torch.autograd.Function):
    """Gives the weights too: as outputs they have a place in the graph, which a second derivative needs."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        causal: bool,
        bias: Tensor | None,
        shape: tuple[int, int],
    ) -> tuple[Tensor, ...]:
        n, m = q.shape[1], k.shape[1]
        ctx.set_materialize_grads(False)
        ctx.shape, ctx.learns = shape, None if bias is None or not bias.requires_grad else bias.shape
        future = torch.ones(ROWS, ROWS, dtype=torch.bool, device=q.device).triu(1)
        out = torch.empty_like(q)
        weights = []
        for first in range(0, n, ROWS):
            last = min(first + ROWS, n)
            rows, seen = slice(first, last), slice(0, last if causal else m)
            w = torch.bmm(q[:, rows], k[:, seen].mT)
            by_head = w.view(*shape, *w.shape[1:])
            if bias is not None:
                by_head += bias[..., rows, seen]
            if mask is not None:
                by_head.masked_fill_(~mask[..., rows, seen], float("-inf"))
            if causal:
                w[:, :, rows].masked_fill_(future[: last - first, : last - first], float("-inf"))
            torch.softmax(w, -1, out=w)
            out[:, rows] = torch.bmm(w, v[:, seen])
            weights.append(w)
        ctx.save_for_backward(q, k, v, *weights)
        return out, *weights

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *others: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, *weights = ctx.saved_tensors
        grad = torch.zeros_like(q) if grad is None else grad
        dq, dk, dv = (torch.zeros_like(x) for x in (q, k, v))
        dbias = None if ctx.learns is None else q.new_zeros(ctx.learns)
        last = 0
        for w, other in zip(weights, others, strict=True):
            first, last = last, last + w.shape[1]
            rows, seen = slice(first, last), slice(0, w.shape[2])
            dv[:, seen].baddbmm_(w.mT, grad[:, rows])
            dw = torch.bmm(grad[:, rows], v[:, seen].mT)
            if other is not None:
                dw += other
            place = {} if torch.is_grad_enabled() else {"grad_input": dw}  # what is to be differentiated again stays
            dw = torch._softmax_backward_data(dw, w, -1, dw.dtype, **place)
            if dbias is not None:
                part, by_head = dbias[..., rows, seen], dw.view(*ctx.shape, *dw.shape[1:])
                part += by_head if part.shape == by_head.shape else by_head.sum(0)
            dq[:, rows] = torch.bmm(dw, k[:, seen])
            dk[:, seen].baddbmm_(dw.mT, q[:, rows])
        return dq, dk, dv, None, None, dbias, None
