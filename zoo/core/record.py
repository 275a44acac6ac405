"""Attention maps from any kernel, without a flag in any model. Axes: b sequences, h heads, n queries, m keys, e width.

    with record(model, layers=[0, -1]) as maps:
        model(...)
    maps[0].weights  # "b h n m"

The model runs as it always does, on whatever kernel serves it. Beside it the maps are worked out from the same queries
and keys, a chunk of queries at a time, and multiplied with the values once more: `error` is how far that lies from what
the kernel gave, which proves that these are the maps the model used.

    with record(model, gradients=True) as maps:
        model(...).sum().backward()
    maps[0].gradient  # "b h n m": of the sum, with respect to the map

The gradient of what a map computes (weights x values) is known from the kernel's own backward; times the values it is
that of the map. So this too needs no other kernel.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from zoo.core.attend import attention_weights, each_query_head, visible
from zoo.core.attention import CrossAttention, MultiHead, SelfAttention
from zoo.core.block import Block
from zoo.core.layout import Layout
from zoo.core.relative import Bias, written_out


@dataclass(eq=False)
class Map:
    """The maps of one attention in one forward.

    `weights`: "b h n m", each row sums to 1 over the keys of its sequence; zero at padding.
    `error`: largest distance between weights x values and the kernel's own output; under dropout of attention, which
    the maps are without, it is large.
    `gradient`: "b h n m", of what was differentiated, with respect to the weights as if they were free; None until a
    backward has come through, or where `record` was not asked for it.
    """

    name: str  # of the module in the model
    weights: Tensor
    error: float
    gradient: Tensor | None = None


@contextmanager
def record(
    model: nn.Module,
    layers: Sequence[int] | None = None,
    *,
    which: Literal["self", "cross"] = "self",
    gradients: bool = False,
    chunk: int = 256,
) -> Iterator[list[Map]]:
    """Collect the maps of the chosen attention layers of `model` while the context is open, in order of use.

    `layers` counts the attentions of one kind through the whole model, negative from the end; None: all. Gradients do
    not flow through the maps; with `gradients` each map keeps its own when something behind it is differentiated.
    ValueError for a layer or a kind that does not exist.
    """
    kinds: dict[str, type[MultiHead]] = {"self": SelfAttention, "cross": CrossAttention}
    if which not in kinds:
        raise ValueError(f"which: {which!r} is not one of 'self', 'cross'")
    found: list[tuple[str, MultiHead]] = [
        (name, part) for name, part in model.named_modules() if isinstance(part, kinds[which])
    ]
    chosen = range(len(found)) if layers is None else layers
    if bad := [i for i in chosen if not -len(found) <= i < len(found)]:
        raise ValueError(f"layer {bad[0]} does not exist: the model has {len(found)} {which} attentions")
    maps: list[Map] = []
    before: list[tuple[MultiHead, Any]] = []
    again = [part for part in model.modules() if isinstance(part, Block) and part.checkpointed]
    try:
        for block in again:  # or gradients would have the block, and with it the map, a second time
            block.checkpointed = False
        for name, part in (found[i] for i in chosen):
            before.append((part, part.__dict__.get("attend")))
            part.__dict__["attend"] = partial(_recording, maps, name, gradients, chunk, part.attend)
        yield maps
    finally:
        for block in again:
            block.checkpointed = True
        for part, outer in reversed(before):
            if outer is None:
                part.__dict__.pop("attend", None)
            else:  # a record around this one
                part.__dict__["attend"] = outer


def _recording(
    maps: list[Map],
    name: str,
    gradients: bool,
    chunk: int,
    attend: Callable[..., Tensor],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    queries: Layout,
    keys: Layout,
    causal: bool,
    bias: Bias,
    scale: float,
    dropout: float,
) -> Tensor:
    out = attend(q, k, v, queries=queries, keys=keys, causal=causal, bias=bias, scale=scale, dropout=dropout)
    with torch.no_grad(), torch.autocast(q.device.type, enabled=False):
        weights, again = exact(q, k, v, queries, keys, causal, bias, scale, chunk)
        error = (queries.by_token(again) - out).abs()
        found = Map(name, weights, float(error.max()) if error.numel() else 0.0)
        maps.append(found)
    if gradients and out.requires_grad:
        hook = partial(_differentiate, found, v.detach(), queries, keys)
        out.register_hook(hook)  # type: ignore[no-untyped-call]
    return out


def _differentiate(found: Map, v: Tensor, queries: Layout, keys: Layout, grad: Tensor) -> None:
    """The map's gradient from that of weights x values, "t h e"."""
    g = queries.by_head(grad)
    v = v if v.dim() == 4 else keys.by_head(v)
    found.gradient = g.to(found.weights.dtype) @ each_query_head(v, g).to(found.weights.dtype).mT


def exact(
    q: Tensor, k: Tensor, v: Tensor, queries: Layout, keys: Layout, causal: bool, bias: Bias, scale: float, chunk: int
) -> tuple[Tensor, Tensor]:
    """Maps "b h n m" and weights x values "b h n e", in float32 or better, `chunk` queries at a time."""
    q = queries.by_head(q)
    k, v = (x if x.dim() == 4 else keys.by_head(x) for x in (k, v))
    q, k, v = (x if x.dtype == torch.float64 else x.float() for x in (q, k, v))
    mask, past = visible(queries, keys, causal=causal)
    n, m = q.shape[-2], k.shape[-2]
    bias = written_out(bias, q, m, scale, causal=past)
    if past:
        mask = torch.ones(n, m, dtype=torch.bool, device=q.device).tril()
    maps, outs = [], []
    for begin in range(0, n, chunk):
        rows = slice(begin, begin + chunk)
        part = mask if mask is None or mask.shape[-2] == 1 else mask[..., rows, :]
        added = None if bias is None else bias[..., rows, :].to(q.dtype)
        weights = attention_weights(q[..., rows, :], k, part, False, added, scale)
        outs.append(weights @ each_query_head(v, q))
        maps.append(weights)
    weights = torch.cat(maps, -2)
    if queries.keep is not None:
        weights = weights * rearrange(queries.keep, "b n -> b 1 n 1")
    return weights, torch.cat(outs, -2)
