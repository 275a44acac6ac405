"""Where an autograd function of the core's own must give way to the formula that it stands for."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.autograd import forward_ad


def traced() -> bool:
    """Whether the compiler or a transform of torch.func follows what is computed: both want torch's own operations."""
    return torch.compiler.is_compiling() or transformed()


def transformed() -> bool:
    """Whether a transform of torch.func follows what is computed, or forward differentiation does."""
    return not torch.compiler.is_compiling() and (
        torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
    )


def no_second_derivative(backward: Callable[..., Any]) -> Callable[..., Any]:
    """For a backward that torch cannot differentiate: an error where that is asked for.

    torch.autograd.function.once_differentiable marks the gradients instead, and a gradient of gradients with respect to
    named inputs goes round the mark: it came out wrong, without a word.
    """

    @wraps(backward)
    def refusing(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():  # create_graph
            raise RuntimeError(f"{type(ctx).__name__.removesuffix('Backward').lstrip('_')} has no second derivative")
        return backward(ctx, *grads)

    return refusing
