"""What every network of zoo is: a module that plain values describe, so that a folder can hold it."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from zoo.core.setting import read, to_plain


class Network(nn.Module):
    """A network that can be made again from plain values, so that a folder can describe it.

    A subclass sets `settings` in its constructor, right after its base's: `self.settings = arguments(locals())`.
    """

    settings: dict[str, Any]

    def to_plain(self) -> dict[str, Any]:
        """The constructor's arguments as plain values."""
        return {name: to_plain(value) for name, value in self.settings.items()}

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> Self:
        """The network that plain values describe; ValueError names the value that does not fit. Nothing is imported."""
        return read(cls, values, "model")

    def adapt(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Another network's weights, by name, as this one can begin with them: as they are, unless a domain knows more.

        ValueError where what would have to be resized cannot be.
        """
        return weights


def arguments(local: dict[str, Any]) -> dict[str, Any]:
    """What a constructor was given, by name: its `locals()`, as long as it has made no names of its own."""
    return {name: value for name, value in local.items() if name not in ("self", "__class__")}


def unrecorded() -> torch.no_grad | torch.inference_mode:
    """A context, or a decorator, under which nothing is kept for gradients: for loops that write.

    Inference mode, in which a step of one token takes a twentieth less. Where processes train together it is `no_grad`:
    FSDP gathers sharded parameters into tensors that it goes on to train with, and those must not be of inference.
    """
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.no_grad() if together else torch.inference_mode()
