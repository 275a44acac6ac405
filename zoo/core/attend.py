"""The one seam for attention kernels: nothing else in the library calls one.

Axes: t query tokens, s key tokens, b sequences, n queries, m keys, h query heads, g key/value heads, e head width.

`attend` picks among kernels that compute the same function: torch's fused one (`fused`), the same on float32 copies
(`float32`), the formula written out (`explicit`), the same block by block (`blocks`), flash attention over packed
tokens on CUDA (`varlen`). Which is faster was measured: `THRESHOLDS`, or the user's own table made by `zoo bench attend
--save`. An unknown mask never becomes a causal one, and padding is never attended to.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from zoo.core.blocks import by_blocks
from zoo.core.dropout import dropout as drop
from zoo.core.layout import Layout
from zoo.core.plain import looked_into, transformed
from zoo.core.relative import Bias, Relative, written_out


@dataclass(frozen=True)
class Threshold:
    """On a CPU: use `kernel` for this type of numbers, up to these sizes. The first row that fits is taken."""

    dtype: str  # "float32", "bfloat16"
    training: bool  # gradients are wanted
    min_width: int  # e at least
    max_width: int  # e at most
    max_length: int  # n and m at most
    kernel: str


# Medians over interleaved rounds; where no row fits, `fused`. The rows hold on x86 with AMX (2 cores): explicit
# takes 0.19-0.67 of fused's time up to 256 tokens and 1.3-2.7 of it from 512 on; float32 copies 0.56 at width 16.
# Explicit rounds its scores to bfloat16 before the softmax, which fused does not: docs/design.md says what that costs.
THRESHOLDS = (
    Threshold("bfloat16", True, 64, 256, 256, "explicit"),
    Threshold("bfloat16", True, 1, 16, 8192, "float32"),
)


def thresholds_file() -> Path:
    """Where the user's own measured table stands: `ZOO_KERNELS`, or kernels.json in the user's cache folder.

    RuntimeError where neither is said and there is no home directory.
    """
    if named := os.environ.get("ZOO_KERNELS"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zoo" / "kernels.json"


def load_thresholds(path: Path) -> tuple[Threshold, ...]:
    """The table of a file that `zoo bench attend --save` wrote; ours where there is none. ValueError where it is not
    one."""
    if not path.is_file():
        return THRESHOLDS
    try:
        rows = tuple(Threshold(**row) for row in json.loads(path.read_text())["thresholds"])
        for row in rows:
            sizes = (row.min_width, row.max_width, row.max_length)
            if row.kernel not in KERNELS or any(type(size) is not int for size in sizes):
                raise ValueError(f"no row of it: {row}")
        return rows
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path}: not a table of kernels ({error}); write it anew with 'zoo bench attend --save'"
        ) from None


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
    kernel: str | None = None,
) -> Tensor:
    """softmax(q k' scale + bias) v, "t h e". Vaswani et al. 2017, section 3.2.1.

    `q`: "t h e" over `queries`. `k`, `v`: "s g e" over `keys`, or already in rows "b g m e", as a cache holds them.
    `causal`: the last query of a sequence sees its last key, the one before sees one less, and so on.
    `bias`: "h n m" or "b h n m", or vectors for each distance. A sequence without any key gives zero; where it has more
    queries than keys, those too early for any see the first. `kernel` overrides the choice. ValueError where `q` is not
    of such a shape.
    """
    if q.dim() != 3 or q.shape[0] != queries.tokens:
        raise ValueError(
            f"q is of shape {tuple(q.shape)}, expected ({queries.tokens}, heads, width): heads of flat tokens, which "
            "layout.by_token makes of rows (sequences, heads, tokens, width)"
        )
    training = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if kernel is None:
        kernel = choose(q, queries, keys, bias, dropout, training=training)
    if kernel == "varlen":
        return _varlen(q, k, v, queries, keys, causal, scale)
    q = queries.by_head(q)
    k, v = (x if x.dim() == 4 else keys.by_head(x) for x in (k, v))
    mask, causal = visible(queries, keys, causal=causal)
    out = KERNELS[kernel](q, k, v, mask, causal, bias, scale, dropout)
    return queries.by_token(out)


def choose(q: Tensor, queries: Layout, keys: Layout, bias: Bias, dropout: float, *, training: bool) -> str:
    """The name of the kernel that serves these inputs fastest."""
    half = q.dtype in (torch.float16, torch.bfloat16)
    width = q.shape[-1]
    if q.is_cuda:
        plain = bias is None and dropout == 0 and half and width % 8 == 0 and width <= 256
        return "varlen" if plain and queries.packed and keys.packed else "fused"
    if not q.is_cpu:  # the table was measured on CPUs
        return "fused"
    full = not half and not torch.is_autocast_enabled(q.device.type)
    blocks = full and dropout == 0 and not looked_into()
    # The fused kernel has no gradient for a bias: at best it falls back to a slower form of the formula. Within a
    # transform of torch.func whether one is wanted does not show.
    learned = bias.rows if isinstance(bias, Relative) else bias
    if learned is not None and (learned.requires_grad or transformed()):
        return "blocks" if blocks else "explicit"
    if blocks and isinstance(bias, Relative) and bias.index is None and queries.length > 1:
        return "blocks"  # which need not write it out for all pairs
    dtype = str(q.dtype).removeprefix("torch.")
    longest = max(queries.length, keys.length)
    for row in _thresholds:
        if (
            row.dtype == dtype
            and row.training == training
            and row.min_width <= width <= row.max_width
            and longest <= row.max_length
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


Kernel = Callable[[Tensor, Tensor, Tensor, Tensor | None, bool, Bias, float, float], Tensor]


def _explicit(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    causal: bool,
    bias: Bias,
    scale: float,
    dropout: float,
) -> Tensor:
    weights = attention_weights(q, k, mask, causal, bias, scale)
    return drop(weights, dropout) @ each_query_head(v, q)


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, bias: Bias, scale: float) -> Tensor:
    """softmax(q k' scale + bias) over what is visible, "b h n m": the map that the fused kernels never hold."""
    bias = written_out(bias, q, k.shape[-2], scale, causal=causal)
    scores = (q * scale) @ each_query_head(k, q).mT
    if bias is not None:
        scores = scores + bias
    if causal:
        mask = _past(scores)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1)


def _fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    causal: bool,
    bias: Bias,
    scale: float,
    dropout: float,
) -> Tensor:
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


def _float32(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    causal: bool,
    bias: Bias,
    scale: float,
    dropout: float,
) -> Tensor:
    bias = written_out(bias, q, k.shape[-2], scale, causal=causal)
    bias = None if bias is None else bias.float()
    with torch.autocast(q.device.type, enabled=False):
        return _fused(q.float(), k.float(), v.float(), mask, causal, bias, scale, dropout).to(q.dtype)


def _blocks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    causal: bool,
    bias: Bias,
    scale: float,
    dropout: float,
) -> Tensor:
    if dropout or looked_into() or (isinstance(bias, Relative) and bias.index is not None):
        return _explicit(q, k, v, mask, causal, bias, scale, dropout)
    return by_blocks(q, each_query_head(k, q), each_query_head(v, q), mask, causal, bias, scale)


KERNELS: dict[str, Kernel] = {"explicit": _explicit, "fused": _fused, "float32": _float32, "blocks": _blocks}


def _thresholds_here() -> tuple[Threshold, ...]:
    """The user's own where it can be read: a broken file is said, and keeps nobody from importing this."""
    try:
        return load_thresholds(thresholds_file())
    except RuntimeError:  # nobody's home: a container's user without a name
        return THRESHOLDS
    except ValueError as error:
        print(f"{error}; until then the built-in table is used", file=sys.stderr)
        return THRESHOLDS


_thresholds = _thresholds_here()


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
