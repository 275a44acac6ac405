"""The one seam for attention kernels: nothing else in the library calls one.

Axes: t query tokens, s key tokens, b sequences, n queries, m keys, h query heads, g key/value heads, e head width.

`attend` picks among kernels that compute the same function: torch's fused one (`fused`), the same on float32 copies
(`float32`), the formula written out (`explicit`), the same block by block (`blocks`), flash attention over packed
tokens on CUDA (`varlen`). Which is faster was measured: zoo/core/kernels.py. An unknown mask never becomes a causal
one, and padding is never attended to.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from zoo.core.dropout import dropout as drop
from zoo.core.kernels import CHOICES, KEPT, KernelName
from zoo.core.layout import Layout
from zoo.core.query_blocks import by_blocks
from zoo.core.relative import Bias, Relative, written_out
from zoo.core.tracing import traced, transformed

_thresholds = CHOICES.thresholds


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    queries: Layout,
    keys: Layout,
    causal: bool = False,
    bias: Bias = None,
    scale: float,
    dropout: float = 0.0,
    kernel: KernelName | Literal["varlen"] | None = None,
) -> Tensor:
    """softmax(q k' scale + bias) v, "t h e". Vaswani et al. 2017, section 3.2.1.

    `q`: "t h e" over `queries`. `k`, `v`: "s g e" over `keys`, or already in rows "b g m e", as a cache holds them.
    `causal`: the last query of a sequence sees its last key, the one before sees one less, and so on.
    `bias`: "h n m" or "b h n m", or vectors for each distance. A sequence without any key gives zero; where it has more
    queries than keys, those too early for any see the first. `kernel` overrides the choice. ValueError where `q`, or
    what stands for a bias, is not of such a shape.
    """
    if q.dim() != 3 or q.shape[0] != queries.tokens:
        raise ValueError(
            f"q is of shape {tuple(q.shape)}, expected ({queries.tokens}, heads, width): heads of flat tokens, which "
            "layout.by_token makes of rows (sequences, heads, tokens, width)"
        )
    if isinstance(bias, Relative):
        bias.check(queries.length, keys.length)
    training = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if kernel is None:
        kernel = choose(q, queries, keys, bias, dropout, training=training)
    if kernel == "varlen":
        return _varlen(q, k, v, queries, keys, causal, scale)
    q = queries.by_head(q, heads_first=kernel == "blocks")
    k, v = (x if x.dim() == 4 else keys.by_head(x, heads_first=kernel == "blocks") for x in (k, v))
    mask, causal = visible(queries, keys, causal=causal)
    out = KERNELS[kernel](Inputs(q, k, v, mask, causal, bias, scale, dropout))
    return queries.by_token(out)


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, bias: Bias, scale: float) -> Tensor:
    """softmax(q k' scale + bias) over what is visible, "b h n m": the map that the fused kernels never hold."""
    bias = written_out(bias, q, k.shape[-2], scale, causal=causal)
    scores = (q * scale) @ each_query_head(k, q).mT
    if bias is not None:
        scores = scores + bias
    if causal:
        mask = _past(scores)
    if mask is not None:
        if traced():
            scores = scores.masked_fill(~mask, float("-inf"))
        else:  # a weight of zero hands no gradient on: the mask needs none of its own
            with torch.no_grad():
                scores.masked_fill_(~mask, float("-inf"))
    return scores.softmax(-1)


def choose(
    q: Tensor, queries: Layout, keys: Layout, bias: Bias, dropout: float, *, training: bool
) -> KernelName | Literal["varlen"]:
    """The name of the kernel that serves these inputs fastest."""
    half = q.dtype in (torch.float16, torch.bfloat16)
    width = q.shape[-1]
    if q.is_cuda:
        plain = bias is None and dropout == 0 and half and width % 8 == 0 and width <= 256
        return "varlen" if plain and queries.packed and keys.packed else "fused"
    if not q.is_cpu:  # the table was measured on CPUs
        return "fused"
    if queries.length == 1 and bias is None and not training:  # a step of writing: fastest wherever it was tried
        return "fused"
    full = not half and not torch.is_autocast_enabled(q.device.type)
    indexed = isinstance(bias, Relative) and bias.index is not None
    # By blocks minus infinity is added to what is masked, which would not hide a product beyond float16's numbers.
    serves = dropout == 0 and not traced() and (q.dtype == torch.bfloat16 or full) and not indexed
    # The fused kernel has no gradient for a bias: at best it falls back to a slower form of the formula. Within a
    # transform of torch.func whether one is wanted does not show.
    learned = bias.rows if isinstance(bias, Relative) else bias
    if learned is not None and (learned.requires_grad or transformed()):
        return "blocks" if serves else "explicit"
    if full and serves and isinstance(bias, Relative) and queries.length > 1:
        return "blocks"  # which need not write it out for all pairs
    dtype = str(q.dtype).removeprefix("torch.")
    longest = max(queries.length, keys.length)
    kept = queries.batch * queries.length * keys.length * q.shape[1] * q.element_size() if training else 0
    by_blocks_fits = serves and queries.length > 1 and kept <= KEPT
    for row in _thresholds:
        if (
            row.dtype == dtype
            and row.training == training
            and row.min_width <= width <= row.max_width
            and longest <= row.max_length
            and (row.kernel != "blocks" or by_blocks_fits)
        ):
            return row.kernel
    return "fused"


def visible(queries: Layout, keys: Layout, *, causal: bool) -> tuple[Tensor | None, bool]:
    """What each query may see, as a mask (True = may be attended; broadcasts to "b 1 n m") and a causal flag.

    None: everything, or where the flag is set the past (n = m). Padding needs no mask in causal self attention: it
    stands after the real tokens, and what padded queries give is dropped.
    """
    n, m = queries.length, keys.length
    if not causal or n == 1:
        return _filled(keys), False
    if queries is keys or (n == m and queries.lengths is None and keys.lengths is None):
        return None, True
    held = torch.full((keys.batch,), m, device=keys.pos.device) if keys.lengths is None else keys.lengths
    new = n if queries.lengths is None else queries.lengths
    rank = torch.arange(n, device=keys.pos.device)
    last = (held - new).unsqueeze(-1) + rank  # "b n": the last key that a query sees; padded queries see what is there
    return rearrange(
        torch.arange(m, device=keys.pos.device) <= last.clamp(min=0).unsqueeze(-1), "b n m -> b 1 n m"
    ), False


def _filled(keys: Layout) -> Tensor | None:
    if keys.keep is None:
        return None
    # The slots of an empty sequence hold zeros: seeing those gives zero, seeing nothing would give NaN.
    keep = keys.keep | (keys.lengths == 0).unsqueeze(-1) if keys.lengths is not None else keys.keep
    return rearrange(keep, "b m -> b 1 1 m")


class Inputs(NamedTuple):
    """What a kernel computes attention of."""

    q: Tensor  # "b h n e"
    k: Tensor  # "b g m e"
    v: Tensor  # "b g m e"
    mask: Tensor | None  # True = may be attended; broadcasts to "b 1 n m"
    causal: bool  # the past alone (n = m), without a mask
    bias: Bias
    scale: float
    dropout: float


def _explicit(x: Inputs) -> Tensor:
    weights = attention_weights(x.q, x.k, x.mask, x.causal, x.bias, x.scale)
    return drop(weights, x.dropout) @ each_query_head(x.v, x.q)


def _fused(x: Inputs) -> Tensor:
    q, k, v, mask, causal, bias, scale, dropout = x
    bias = written_out(bias, q, k.shape[-2], scale, causal=causal)
    if bias is not None:
        bias = bias.expand(q.shape[0], -1, -1, -1)
        if causal:
            mask, causal = _past(bias), False
        mask = bias if mask is None else bias.masked_fill(~mask, float("-inf"))
    heads, groups = q.shape[1], k.shape[1]
    if heads == groups:
        return F.scaled_dot_product_attention(q, k, v, mask, dropout, causal, scale=scale)
    if bias is None and not causal and (mask is None or mask.shape[-2] == 1):
        # Queries of one group are more queries on the same keys: nothing needs to be repeated.
        out = F.scaled_dot_product_attention(
            rearrange(q, "b (g r) n e -> b g (r n) e", g=groups), k, v, mask, dropout, scale=scale
        )
        return rearrange(out, "b g (r n) e -> b (g r) n e", r=heads // groups)
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, causal, scale=scale, enable_gqa=True)


def _float32(x: Inputs) -> Tensor:
    bias = written_out(x.bias, x.q, x.k.shape[-2], x.scale, causal=x.causal)
    bias = None if bias is None else bias.float()
    with torch.autocast(x.q.device.type, enabled=False):
        return _fused(x._replace(q=x.q.float(), k=x.k.float(), v=x.v.float(), bias=bias)).to(x.q.dtype)


def _blocks(x: Inputs) -> Tensor:
    if x.dropout or traced() or (isinstance(x.bias, Relative) and x.bias.index is not None):
        return _explicit(x)
    k, v = (each_query_head(y, x.q) for y in (x.k, x.v))
    return by_blocks(x.q, k, v, x.mask, x.causal, x.bias, x.scale)


KERNELS: dict[KernelName, Callable[[Inputs], Tensor]] = {
    "explicit": _explicit,
    "fused": _fused,
    "float32": _float32,
    "blocks": _blocks,
}


def _varlen(q: Tensor, k: Tensor, v: Tensor, queries: Layout, keys: Layout, causal: bool, scale: float) -> Tensor:
    assert queries.offsets is not None
    assert keys.offsets is not None
    k, v = (x if x.dim() == 3 else keys.by_token(x) for x in (k, v))  # a cache holds a source in rows
    k, v = (repeat(x, "s g e -> s (g r) e", r=q.shape[1] // k.shape[1]) for x in (k, v))
    window = (-1, 0) if causal else (-1, -1)
    out = varlen_attn(
        q, k, v, queries.offsets, keys.offsets, queries.length, keys.length, scale=scale, window_size=window
    )
    assert isinstance(out, Tensor)
    return out


def each_query_head(x: Tensor, q: Tensor) -> Tensor:
    return x if x.shape[1] == q.shape[1] else repeat(x, "b g m e -> b (g r) m e", r=q.shape[1] // x.shape[1])


def _past(scores: Tensor) -> Tensor:
    return torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
