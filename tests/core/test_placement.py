"""What a stack makes on the way lies where its tokens lie. Seen without a GPU: tensors that say they are elsewhere and
compute here, and what meets a tensor of the CPU is noted."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tests.core.architectures import ALL, build, context
from zoo.check import promises
from zoo.core import Cache, Layout, Stack
from zoo.core.distance import LinearBias

ELSEWHERE = torch.device("meta")  # the one device besides the CPU that every build of torch has
TAKEN = ("copy", "aten.index.Tensor", "aten.index_put")  # operations that take tensors of the CPU beside others
# cuDNN's recurrence is another operation than the CPU's, and cannot be pretended
NAMES = [name for name, config in ALL.items() if type(config.mixer).__name__ == "Attention"]


class Pretended(Tensor):
    """A tensor of ELSEWHERE, whose numbers are `held` here."""

    held: Tensor

    def __new__(cls, held: Tensor) -> "Pretended":
        size, strides = held.size(), held.stride()
        made = Tensor._make_wrapper_subclass(cls, size, strides=strides, dtype=held.dtype, device=ELSEWHERE)
        made.held = held
        return made

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError("outside of the mode")


class Placement(TorchDispatchMode):
    """Computes here what is asked of ELSEWHERE; `mixed`: operations that met tensors of both."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, Pretended)}
        here = [tensor for tensor in tensors if not isinstance(tensor, Pretended) and tensor.dim()]
        if there and here and not any(name in str(func) for name in TAKEN):
            self.mixed.append(str(func))
        device = kwargs.get("device")
        if device is not None:
            kwargs = kwargs | {"device": torch.device("cpu")}
        args, kwargs = tree_map(lambda leaf: leaf.held if isinstance(leaf, Pretended) else leaf, (args, kwargs))
        out = func(*args, **kwargs)
        wanted = there if device is None else torch.device(device) == ELSEWHERE

        def place(leaf: Any) -> Any:
            if not wanted or not isinstance(leaf, Tensor):
                return leaf
            return there[id(leaf)] if id(leaf) in there else Pretended(leaf)  # in place: the same tensor

        return tree_map(place, out)


@pytest.fixture
def placement(monkeypatch: pytest.MonkeyPatch) -> Iterator[Placement]:
    real = torch.tensor

    def tensor(data: Any, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        made = real(data, dtype=dtype)  # torch's own goes by no mode
        return Pretended(made) if device == ELSEWHERE else made

    monkeypatch.setattr(torch, "tensor", tensor)
    with torch.no_grad(), nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH), Placement() as mode:
        yield mode


def move(stack: Stack) -> Stack:
    for module in stack.modules():
        for held in (module._parameters, module._buffers):
            held.update({name: Pretended(value.detach()) for name, value in held.items() if value is not None})
    return stack


def forwards(name: str) -> None:
    """Packed, dense, through a cache with rows that change places, ragged and not."""
    config = ALL[name]
    stack, given = move(build(config)), context(config, 3)
    if given:
        lengths = Pretended(given["context_layout"].lengths)
        given = {"context": Pretended(given["context"]), "context_layout": Layout.packed_from(lengths, length=5)}
    keep, x = Pretended(promises.keep_of("left")), Pretended(torch.randn(3, 7, config.dim))
    rows = Pretended(torch.arange(3).flip(0))
    for mask in (keep, None):
        layout = Layout.of(x, mask)
        assert layout.give(stack(layout.take(x, mask), layout, **given), mask).device == ELSEWHERE
        if not config.causal:
            continue
        cache = Cache(stack, 3, 12)
        for part in (slice(0, 5), slice(5, 6), slice(6, 7)):
            layout = cache.next(part.stop - part.start, None if mask is None else mask[:, part], x.device)
            stack(layout.take(x[:, part], None if mask is None else mask[:, part]), layout, cache=cache, **given)
            cache.reorder(rows)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_made_on_another_device(name: str, placement: Placement) -> None:
    forwards(name)
    assert placement.mixed == []


def test_what_is_made_on_another_device_is_noticed(placement: Placement, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a bias that forgets where the distances are."""

    def bias(scheme: LinearBias, distance: Tensor) -> Tensor:
        return -torch.tensor(scheme.slopes).view(-1, *[1] * distance.dim()) * distance.abs()

    monkeypatch.setattr(LinearBias, "bias", bias)
    forwards("alibi/causal")
    assert set(placement.mixed) == {"aten.mul.Tensor"}
