"""Every shipped architecture made tiny, and the recurrent mixers beside them."""

from dataclasses import replace
from pathlib import Path

import torch
import yaml
from torch import Tensor

from zoo.core import GRU, LSTM, RNN, Layout, Learned, Sinusoidal, Skewed, Stack, StackConfig

ARCH = Path(__file__).parents[2] / "configs" / "arch"


def full_size() -> dict[str, StackConfig]:
    """The shipped settings by "file/role"."""
    return {
        f"{path.stem}/{role}": StackConfig.from_plain(values, role)
        for path in sorted(ARCH.glob("*.yaml"))
        for role, values in yaml.safe_load(path.read_text()).items()
    }


def tiny(config: StackConfig) -> StackConfig:
    """The same architecture a few numbers wide: what makes it itself stays, dropout goes."""
    heads = 6 if config.heads % 3 == 0 else 4
    groups = None if config.kv_heads is None else heads // 2
    position = config.position
    if isinstance(position, Learned):
        position = replace(position, length=24)
    if isinstance(position, Skewed):
        position = replace(position, max_distance=8)
    return config.replace(
        dim=24,
        depth=2,
        heads=heads,
        kv_heads=groups,
        head_dim=None if config.head_dim is None else 6,
        position=position,
        ffn=replace(config.ffn, dim=20),
        dropout=0.0,
        attention_dropout=0.0,
        drop_path=0.0,
    )


def recurrent() -> dict[str, StackConfig]:
    base = StackConfig(dim=24, depth=2, heads=4, position=Sinusoidal())
    kinds = {"lstm": LSTM(), "gru": GRU(16), "rnn": RNN()}
    return {
        f"{name}/{'causal' if causal else 'full'}{'+cross' if cross else ''}": base.replace(
            mixer=mixer, causal=causal, cross=cross
        )
        for name, mixer in kinds.items()
        for causal in (False, True)
        for cross in (False, True)
    }


TINY = {name: tiny(config) for name, config in full_size().items()}
ALL = TINY | recurrent()
CAUSAL = {name: config for name, config in ALL.items() if config.causal}


def build(config: StackConfig, dtype: torch.dtype = torch.float32) -> Stack:
    """The stack with every parameter away from its neutral value, so that each one matters."""
    torch.manual_seed(0)
    stack = Stack(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return stack


def context(config: StackConfig, batch: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor | Layout]:
    """What a stack with cross attention looks at: sources of different lengths."""
    if not config.cross:
        return {}
    generator = torch.Generator().manual_seed(7)
    lengths = torch.tensor([5, 3, 4, 1, 5, 2][:batch])
    layout = Layout.packed_from(lengths, length=5)
    states = torch.randn(layout.tokens, config.dim, generator=generator, dtype=dtype)
    return {"context": states, "context_layout": layout}


def one_context(given: dict[str, Tensor | Layout], row: int) -> dict[str, Tensor | Layout]:
    """The source of one sequence, alone."""
    if not given:
        return {}
    layout = given["context_layout"]
    states = layout.pad(given["context"])[row, : int(layout.lengths[row])]
    return {"context": states, "context_layout": Layout.dense(1, len(states))}
