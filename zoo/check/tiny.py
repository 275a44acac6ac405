"""An architecture a few numbers wide: what makes it itself stays, and checks of it take milliseconds."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from zoo.core import Layout, Learned, Skewed, Stack, StackConfig

Device = str | torch.device


def tiny(config: StackConfig) -> StackConfig:
    """The same architecture, 24 wide and 2 blocks deep, without dropout."""
    heads = 6 if config.heads % 3 == 0 else 4
    position = config.position
    if isinstance(position, Learned):
        position = replace(position, length=24)
    if isinstance(position, Skewed):
        position = replace(position, max_distance=8)
    mixer: Any = config.mixer
    return config.replace(
        dim=24,
        depth=2,
        heads=heads,
        kv_heads=None if config.kv_heads is None else heads // 2,
        head_dim=None if config.head_dim is None else 6,
        mixer=replace(mixer, hidden=16) if getattr(mixer, "hidden", None) else mixer,
        position=position,
        ffn=replace(config.ffn, dim=20),  # type: ignore[type-var]
        dropout=0.0,
        attention_dropout=0.0,
        drop_path=0.0,
    )


def build(config: StackConfig, dtype: torch.dtype = torch.float32, device: Device = "cpu") -> Stack:
    """The stack with every parameter away from its neutral value, so that each one matters; the same on any device."""
    torch.manual_seed(0)
    stack = Stack(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return stack.to(device)


def context(
    config: StackConfig, batch: int, dtype: torch.dtype = torch.float32, device: Device = "cpu"
) -> dict[str, Any]:
    """What a stack with cross attention looks at: at most six sources of different lengths; nothing for another."""
    if not config.cross:
        return {}
    generator = torch.Generator().manual_seed(7)
    layout = Layout.packed_from(torch.tensor([5, 3, 4, 1, 5, 2][:batch], device=device), length=5)
    states = torch.randn(layout.tokens, config.dim, generator=generator, dtype=dtype)
    return {"context": states.to(device), "context_layout": layout}


def one_context(given: dict[str, Any], row: int) -> dict[str, Any]:
    """The source of one sequence, alone."""
    if not given:
        return {}
    layout: Layout = given["context_layout"]
    assert layout.lengths is not None
    states: Tensor = layout.pad(given["context"])[row, : int(layout.lengths[row])]
    return {"context": states, "context_layout": Layout.dense(1, len(states))}
