"""The core's promises as figures of one stack. Axes: b sequences, n tokens of a sequence, d model width.

Every function takes settings and gives what it measured on a stack of random weights; what would be right stands in its
docstring. The tests assert these figures, and `zoo matrix` prints them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.check.tiny import Device, build, context, one_context
from zoo.core import Cache, Layout, Stack, StackConfig

# Which slots of a batch hold real tokens, by where the padding stands.
PADDINGS = {
    "right": ((1, 1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 0, 0, 0), (1, 0, 0, 0, 0, 0, 0)),
    "left": ((1, 1, 1, 1, 1, 1, 1), (0, 0, 0, 1, 1, 1, 1), (0, 0, 0, 0, 0, 0, 1)),
    "between": ((1, 0, 1, 0, 1, 1, 0), (0, 1, 1, 0, 0, 1, 1), (1, 1, 1, 1, 1, 1, 1)),
}


def keep_of(side: str, device: Device = "cpu") -> Tensor:
    return torch.tensor(PADDINGS[side], dtype=torch.bool, device=device)


def influence(config: StackConfig, tokens: int = 6, device: Device = "cpu") -> Tensor:
    """ "n n": how much output i depends on token j, by gradient. Exactly 0 for j > i where causal, else above 0."""
    stack = build(config, torch.float64, device)
    x = torch.randn(tokens, config.dim, dtype=torch.float64, device=device, requires_grad=True)
    y = stack(x, Layout.dense(1, tokens, device=x.device), **context(config, 1, torch.float64, device))
    rows = []
    for i in range(tokens):
        (g,) = torch.autograd.grad((y[i] * torch.randn_like(y[i])).sum(), x, retain_graph=True)
        rows.append(g.abs().sum(-1))
    return torch.stack(rows)


def padding(config: StackConfig, side: str, device: Device = "cpu") -> tuple[float, float, int]:
    """Largest gradient with respect to padding (0), smallest of a real token (above 0), and how many output numbers
    change when padding holds something else, NaN included (0)."""
    keep = keep_of(side, device)
    stack, given = build(config, device=device), context(config, len(keep), device=device)
    layout = Layout.from_keep(keep)
    x = torch.randn(*keep.shape, config.dim, device=device, requires_grad=True)
    y = stack(layout.take(x, keep), layout, **given)
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    changed = 0
    for poison in (float("nan"), 1e30):
        spoiled = x.detach().masked_fill(~keep.unsqueeze(-1), poison)
        changed += int((stack(layout.take(spoiled, keep), layout, **given) != y).sum())
    return float(gradient[~keep].abs().max()), float(gradient[keep].abs().sum(-1).min()), changed


def packed(config: StackConfig, side: str, device: Device = "cpu") -> float:
    """Largest distance between a packed batch and its sequences one by one, in float64: the order of sums, 1e-12."""
    keep = keep_of(side, device)
    stack, given = build(config, torch.float64, device), context(config, len(keep), torch.float64, device)
    layout = Layout.from_keep(keep)
    x = torch.randn(*keep.shape, config.dim, dtype=torch.float64, device=device)
    together = layout.give(stack(layout.take(x, keep), layout, **given), keep)
    worst = float(together[~keep].detach().abs().max())
    for row in range(len(keep)):
        alone = x[row][keep[row]]
        out = stack(alone, Layout.dense(1, len(alone), device=alone.device), **one_context(given, row))
        worst = max(worst, float((together[row][keep[row]] - out).detach().abs().max()))
    return worst


def amount(config: StackConfig, device: Device = "cpu") -> float:
    """Largest change when a batch is padded further, in float32: another kernel may serve another width, 2e-5."""
    stack, given = build(config, device=device), context(config, 2, device=device)
    x = torch.randn(2, 4, config.dim, device=device)
    outs = []
    for extra in (1, 9):
        keep = torch.zeros(2, 4 + extra, dtype=torch.bool, device=device)
        keep[:, :4] = True
        keep[1, 3] = False
        layout = Layout.from_keep(keep)
        rows = torch.cat((x, x.new_zeros(2, extra, config.dim)), 1)
        outs.append(layout.give(stack(layout.take(rows, keep), layout, **given), keep)[:, :4])
    return float((outs[0] - outs[1]).detach().abs().max())


def cached(
    config: StackConfig, chunks: Sequence[int], *, ragged: bool, batch: int = 3, device: Device = "cpu"
) -> float:
    """Largest distance between one pass and the same tokens in chunks through a cache, in float64: 1e-12.

    `ragged`: the first chunk is padded on the left, by other amounts for each sequence.
    """
    tokens = sum(chunks)
    stack, given = build(config, torch.float64, device), context(config, batch, torch.float64, device)
    x = torch.randn(batch, tokens, config.dim, dtype=torch.float64, device=device)
    keep = torch.ones(batch, tokens, dtype=torch.bool, device=device)
    if ragged:
        keep[0, :2] = False
        keep[1, :1] = False
    worst, begin = 0.0, 0
    with torch.no_grad():
        layout = Layout.from_keep(keep)
        whole = layout.give(stack(layout.take(x, keep), layout, **given), keep)
        cache = Cache(stack, batch, tokens)
        for size in chunks:
            part, rows = keep[:, begin : begin + size], x[:, begin : begin + size]
            layout = cache.next(keep=part)
            out = layout.give(stack(layout.take(rows, part), layout, cache=cache, **given), part)
            worst = max(worst, float((out - whole[:, begin : begin + size]).abs().max()))
            begin += size
    return worst


def refused(config: StackConfig) -> bool:
    """Whether a stack is given no cache: where it looks ahead, what was computed would change with what comes."""
    try:
        Cache(build(config), 1, 2)
    except ValueError:
        return True
    return False


def unused(config: StackConfig, device: Device = "cpu") -> list[str]:
    """Parameters without a gradient: none."""
    stack = build(config, device=device).train()
    ragged(stack, config).square().sum().backward()
    return [name for name, p in stack.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def halves(config: StackConfig, *, autocast: bool, device: Device = "cpu") -> bool:
    """Whether bfloat16 (all of it, or under autocast) gives finite outputs and gradients on inputs of 100."""
    dtype = torch.float32 if autocast else torch.bfloat16
    stack = build(config, dtype, device).train()
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=autocast):
        out = ragged(stack, config, size=100.0)
        out.float().square().mean().backward()
    return bool(out.isfinite().all()) and all(
        bool(p.grad.isfinite().all()) for p in stack.parameters() if p.grad is not None
    )


def ragged(stack: Stack, config: StackConfig, size: float = 1.0) -> Tensor:
    """A forward over a ragged batch of random tokens of about `size`."""
    like = next(stack.parameters())
    keep = keep_of("left", like.device)
    layout = Layout.from_keep(keep)
    x = size * torch.randn(*keep.shape, config.dim, dtype=like.dtype, device=like.device)
    out: Tensor = stack(layout.take(x, keep), layout, **context(config, len(keep), like.dtype, like.device))
    return out


def uncounted(config: StackConfig) -> int:
    """Parameters that the settings predict, less those that a stack of them has: 0. Nothing is allocated."""
    with torch.device("meta"):
        stack = Stack(config)
    return config.parameters() - sum(p.numel() for p in stack.parameters())
