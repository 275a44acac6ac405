"""Weight initialisation, by the name of a scheme. Every one sets norms to one and biases to zero.

    initialise(stack, "xavier")

    xavier        uniform by fan-in and fan-out (Glorot & Bengio 2010): Vaswani et al. 2017's code
    normal        normal of `std` everywhere (Devlin et al. 2019)
    depth_scaled  as normal, branches' last maps divided by sqrt(branches) (Radford et al. 2019, section 2.3)
    truncated     normal cut at two `std` (Dosovitskiy et al. 2021's code)
    fan_in        normal of 1 / sqrt(fan-in); queries of a stack that does not scale its scores have 1 / sqrt(e) more
                  (Raffel et al. 2020's code)

Embeddings are normal of `std`. Gains of branches and tables of distances stay as they were built.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.core.attention import CrossAttention, MultiHead, SelfAttention
from zoo.core.block import Residual
from zoo.core.feedforward import GatedFeedForward
from zoo.core.norm import RootMeanSquareNorm
from zoo.core.recurrent import RecurrentMixer

Scheme = Literal["xavier", "normal", "depth_scaled", "truncated", "fan_in"]


@torch.no_grad()
def initialise(module: nn.Module, scheme: Scheme, *, std: float = 0.02) -> None:
    """Draw the weights of every linear map, embedding and norm in `module` anew, from torch's generator.

    A fused projection is drawn as the separate maps that it holds.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"unknown initialisation {scheme!r}; allowed: {', '.join(SCHEMES)}")
    draw = SCHEMES[scheme]
    for part in module.modules():
        if isinstance(part, nn.Linear):
            draw(part.weight, std)
            _zero(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        elif isinstance(part, (nn.LayerNorm, RootMeanSquareNorm)):
            nn.init.ones_(part.weight)
            _zero(getattr(part, "bias", None))
    for part in module.modules():
        for fused, pieces in fused_rows(part):
            for rows in torch.split(fused.weight, pieces):
                draw(rows, std)
        if isinstance(part, RecurrentMixer):
            _recurrent(part)
        if scheme == "fan_in" and isinstance(part, MultiHead) and part.scale == 1.0:
            _queries(part).mul_(part.width**-0.5)
    if scheme == "depth_scaled":
        branches = [part.branch for part in module.modules() if isinstance(part, Residual)]
        for branch in branches:
            last = getattr(branch, "to_out", None) or getattr(branch, "down", None)
            if not isinstance(last, nn.Linear):
                raise ValueError(
                    f"depth_scaled divides the last map of every branch: {type(branch).__name__} must have it as "
                    "`to_out` or `down`, an nn.Linear"
                )
            last.weight.div_(math.sqrt(len(branches)))


class Undrawn(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context in which no parameter is drawn at random: a network whose weights are about to be replaced is built in
    a fraction of the time. Constant parameters (norms, biases) and random tensors that are not parameters are set as
    they always are."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.normal_.default, torch.ops.aten.uniform_.default):
            drawn = args[0] if args[0]._base is None else args[0]._base  # rows of a fused projection
            if isinstance(drawn, nn.Parameter):
                return args[0]
        return func(*args, **(kwargs or {}))


def _zero(bias: Tensor | None) -> None:
    if bias is not None:
        nn.init.zeros_(bias)


def _xavier(weight: Tensor, std: float) -> None:
    nn.init.xavier_uniform_(weight)


def _normal(weight: Tensor, std: float) -> None:
    nn.init.normal_(weight, std=std)


def _truncated(weight: Tensor, std: float) -> None:
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def _fan_in(weight: Tensor, std: float) -> None:
    nn.init.normal_(weight, std=weight.shape[1] ** -0.5)


SCHEMES: dict[str, Callable[[Tensor, float], None]] = {
    "xavier": _xavier,
    "normal": _normal,
    "depth_scaled": _normal,
    "truncated": _truncated,
    "fan_in": _fan_in,
}


def fused_rows(part: nn.Module) -> list[tuple[nn.Linear, list[int]]]:
    """The fused projections of a module, with the rows of each map they hold."""
    if isinstance(part, SelfAttention):
        q, kv = part.heads * part.width, part.groups * part.width
        return [(part.to_qkv, [q, kv, kv])]
    if isinstance(part, CrossAttention):
        return [(part.to_kv, [part.groups * part.width] * 2)]
    if isinstance(part, GatedFeedForward):
        return [(part.gate_up, [part.gate_up.out_features // 2] * 2)]
    return []


def _queries(part: MultiHead) -> Tensor:
    if isinstance(part, SelfAttention):
        return part.to_qkv.weight[: part.heads * part.width]
    assert isinstance(part, CrossAttention)
    return part.to_q.weight


def _recurrent(part: RecurrentMixer) -> None:
    """torch's own scheme for its recurrent cells, whatever the rest of the stack has; forget gates open at first.

    Jozefowicz et al. 2015, section 2.2: a bias of 1 on an LSTM's forget gate.
    """
    part.cells.reset_parameters()
    if isinstance(part.cells, nn.LSTM):
        for name, bias in part.cells.named_parameters():
            if name.startswith("bias_ih"):
                bias[part.cells.hidden_size : 2 * part.cells.hidden_size].fill_(1.0)
