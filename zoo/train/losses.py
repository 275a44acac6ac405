"""Head and cross entropy in one function, chunk by chunk, so that the logits of a batch never exist at once.

Axes: t tokens, c tokens of a chunk, d model width, v vocabulary.

The gradient of a cross entropy with respect to its logits is known as soon as the logits are. So the forward makes the
gradients of states and weights chunk by chunk too, and keeps those ("t d", "v d") in place of logits ("t v").
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from zoo.core.linear import add_product, product, product_into
from zoo.core.tracing import no_second_derivative

CACHED = 2**21  # logits that are passed over together on a CPU, within its caches: 8 MB


@dataclass(frozen=True, eq=False, kw_only=True)
class TokenLoss:
    """Sums over the real tokens of a batch. Only `loss` carries a gradient."""

    loss: Tensor  # what is minimised: smoothed, with all penalties
    nll: Tensor  # negative log likelihood, unsmoothed, nats; or what stands in its place, under its own `name`
    correct: Tensor | None  # tokens whose target is the most likely one; None where a target is no choice
    tokens: Tensor  # how many were summed
    name: str = "nll"  # as which it is logged


def check_label_smoothing(share: float) -> None:
    """ValueError where it is no share of a target that leaves something for the right class."""
    if not 0 <= share < 1:
        raise ValueError(f"label_smoothing ({share}) must be in [0, 1)")


def check_consistency(weight: float) -> None:
    """ValueError where it is no weight of a penalty."""
    if not 0 <= weight < math.inf:
        raise ValueError(f"consistency ({weight}) must be a number from 0 on")


def twice(*rows: Tensor | None) -> list[Tensor | None]:
    """A batch's rows "b ..." to "2 b ...", all of them and then all of them again; None stays None."""
    return [None if x is None else torch.cat((x, x)) for x in rows]


@torch.compiler.disable(reason="torch 2.11 cannot compile its autograd function under autocast")
def token_loss(
    x: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    consistency: float = 0.0,
    ignore_index: int = -100,
    chunk: int = 512,
) -> TokenLoss:
    """Cross entropy of `x @ weight.T + bias` ("t d", "v d", "v") with `target` "t", and what is logged beside it.

    A target of `ignore_index` is left out before the head. `label_smoothing` spreads that share of the target evenly
    over the vocabulary (Szegedy et al. 2016, section 7). `z_loss` adds z_loss * log(Z)^2 (Chowdhery et al. 2022,
    section 5). `consistency` adds consistency * (KL(p, q) + KL(q, p)) / 2 for each token of the first half of the rows,
    which say p of it, and the second, which say q (Liang et al. 2021, equation 2): as `twice` lays them. Both halves
    then have the same targets, ValueError otherwise, and no logit is infinite. Under autocast the products have its
    type; the softmax is float32 at least. `chunk`: about how many tokens' logits there are at once, at most half as
    many more. No second derivatives.
    """
    check_label_smoothing(label_smoothing)
    check_consistency(consistency)
    if consistency:
        half = len(target) // 2
        if not torch.equal(target[:half], target[half:]):
            raise ValueError("consistency holds both halves of the rows together: they must have the same targets")
        x, target = (rearrange(y, "(two t) ... -> (t two) ...", two=2) for y in (x, target))  # pairs fit into chunks
    real = target != ignore_index
    if not bool(real.all()):
        x, target = x[real], target[real]
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    with torch.autocast(device, enabled=False):
        loss, nll, correct = _LinearCrossEntropy.apply(
            x.to(dtype), weight, bias, target, label_smoothing, z_loss, consistency, chunk, torch.is_grad_enabled()
        )
    return TokenLoss(loss=loss, nll=nll, correct=correct, tokens=real.sum())


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        smoothing: float,
        z_loss: float,
        consistency: float,
        chunk: int,
        differentiate: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        (t, d), v = x.shape, len(weight)
        dtype = torch.promote_types(x.dtype, torch.float32)  # of the softmax and of all sums
        w, b = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
        size = -(-t // max(1, round(t / chunk))) or chunk  # equal chunks: a short last one takes as many passes over dw
        piece = max(1, CACHED // v) if x.is_cpu else size
        if consistency:  # no cut within a pair; and what is made of a piece is to stay in the caches too
            piece = max(1, piece // 8) if x.is_cpu else piece
            size, piece = size + size % 2, piece + piece % 2
        # One buffer for all chunks, and one for all pieces: fresh memory costs page faults.
        logits = x.new_empty(0, v)
        wide = None if x.dtype == dtype else x.new_empty(min(piece, size), v, dtype=dtype)
        nll, hits, penalty, correct = (x.new_zeros((), dtype=dtype) for _ in range(4))
        dx, db = x.new_empty(t if differentiate else 0, d), x.new_zeros(v, dtype=dtype)
        dw = x.new_zeros(v if differentiate and t == 0 else 0, d, dtype=dtype)
        for begin in range(0, t, size):
            some = x[begin : begin + size]
            if begin == 0:
                out = logits = product(some, w, b)
            else:
                out = product_into(logits[: len(some)], some, w, b)
            for rows, right in zip(out.split(piece), target[begin : begin + size].split(piece), strict=True):
                right = right.unsqueeze(-1)
                share = rows if wide is None else wide[: len(rows)].copy_(rows)
                ratio = torch.sub(*_pairs(share)) if consistency else None
                best, hit = share.amax(-1, keepdim=True), share.gather(-1, right)
                total = share.sub_(best).exp_().sum(-1, keepdim=True)
                log_z = best + total.log()
                nll += (log_z - hit).sum()
                hits += hit.sum()
                penalty += z_loss * log_z.square().sum()
                correct += (hit >= best).sum()
                if ratio is not None:
                    apart, pull = _disagreement(share.div_(total), ratio.sub_(torch.sub(*_pairs(log_z))))
                    penalty += consistency * apart
                if not differentiate:
                    continue
                if ratio is None:
                    share.mul_((1 + 2 * z_loss * log_z) / total)
                else:
                    if z_loss:
                        share.mul_(1 + 2 * z_loss * log_z)
                    share.add_(pull, alpha=consistency / 2)
                share.scatter_add_(-1, right, torch.full_like(hit, smoothing - 1))
                if b is not None:
                    db += share.sum(0)
                if wide is not None:
                    rows.copy_(share)
            if not differentiate:
                continue
            dx[begin : begin + size] = product(out, w.t())
            if begin == 0:
                dw = product(out.t(), some.t()).to(dtype)
            else:
                add_product(dw, out.t(), some.t())
        loss = nll + penalty
        if smoothing:
            # The even share of the target is the same for every logit: it needs their means, and no pass over them.
            states, mean = x.to(dtype).sum(0), w.to(dtype).mean(0)
            middle = states @ mean if b is None else states @ mean + t * b.to(dtype).mean()
            loss = loss + smoothing * (hits - middle)
            dx -= (smoothing * mean).to(dx.dtype)
            dw -= smoothing / v * states
            db -= smoothing / v * t
        ctx.save_for_backward(dx, dw.to(weight.dtype), None if bias is None else db.to(bias.dtype))
        ctx.mark_non_differentiable(nll, correct)
        return loss, nll, correct

    @staticmethod
    @no_second_derivative
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scale = grads[0]
        dx, dw, db = ctx.saved_tensors
        return dx * scale.to(dx.dtype), dw * scale, None if db is None else db * scale, *[None] * 6


def _pairs(x: Tensor) -> tuple[Tensor, ...]:
    return x.unflatten(0, (-1, 2)).unbind(1)


def _disagreement(chances: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Of chances "(pairs two) v" and the logarithm of their ratios "pairs v": the mean of both divergences, summed over
    pairs, and twice its gradient with respect to the logits."""
    p, q = _pairs(chances)
    from_p, from_q = torch.linalg.vecdot(p, ratio).unsqueeze(-1), torch.linalg.vecdot(q, ratio).unsqueeze(-1)
    gap, gradient = p - q, torch.empty_like(chances)
    to_p, to_q = _pairs(gradient)
    torch.addcmul(gap, p, ratio - from_p, out=to_p)
    torch.addcmul(gap.neg_(), q, from_q - ratio, out=to_q)
    return (from_p - from_q).sum() / 2, gradient
