"""torch.compile takes a whole stack as one graph, and agrees, over batches of changing raggedness; so does
torch.export, of equally long sequences."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

import zoo.core.layout
from tests.core.architectures import ALL, TINY, build, context
from tests.core.test_cache import BASE, POSITIONS
from zoo.core import Layout, Rotary, StackConfig

RAGGED = [[6, 4, 1], [5, 2, 2], [6, 6, 6], [3, 7, 1]]


def differences(
    config: StackConfig,
    backend: str,
    *,
    fullgraph: bool = True,
    device: torch.device | str = "cpu",
    checkpointed: bool = False,
) -> list[float]:
    """How far outputs and gradients of the compiled stack lie from the others, over batches; one block is enough."""
    torch._dynamo.reset()
    config = config.replace(depth=1)
    stack = build(config, device=device).train()
    stack.blocks[0].checkpointed = checkpointed
    compiled = torch.compile(stack, fullgraph=fullgraph, backend=backend, dynamic=True)
    found = []
    for lengths in RAGGED:
        layout = Layout.packed_from(torch.tensor(lengths, device=device))
        given = context(config, 3, device=device)
        x = torch.randn(layout.tokens, config.dim, device=device, requires_grad=True)
        wanted = torch.randn(layout.tokens, config.dim, device=device)
        results = []
        for call in (stack, compiled):
            out = call(x, layout, **given)
            results.append((out.detach(), *torch.autograd.grad((out * wanted).sum(), [x, *stack.parameters()])))
        found.append(max(float((a - b).abs().max() / (1 + b.abs().max())) for a, b in zip(*results, strict=True)))
    return found


@pytest.mark.parametrize("name", TINY)
def test_one_graph_serves_ragged_batches(name: str) -> None:
    """Traced and run by autograd, which is where a gradient can be lost; `slow` runs the compiled code itself."""
    assert max(differences(TINY[name], "eager")) < 1e-5


def test_checkpointed_blocks_are_in_the_graph() -> None:
    config = StackConfig(dim=24, depth=1, heads=4, causal=True, position=Rotary())
    assert max(differences(config, "eager", checkpointed=True)) < 1e-5


@pytest.mark.slow
@pytest.mark.timeout(900)  # a compiler of C++ is at work
@pytest.mark.parametrize("name", TINY)
def test_compiled_code_agrees(name: str) -> None:
    assert max(differences(TINY[name], "inductor")) < 2e-5


class Rows(torch.nn.Module):
    """A stack on rows "b n d" of equally long sequences."""

    def __init__(self, stack: torch.nn.Module):
        super().__init__()
        self.stack = stack

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layout = Layout.dense(*x.shape[:2], device=x.device)
        return layout.pad(self.stack(x.flatten(0, 1), layout))


@pytest.mark.parametrize("ragged", [False, True], ids=["even", "ragged"])
@pytest.mark.parametrize("name", POSITIONS)
def test_two_graphs_serve_every_length(name: str, ragged: bool) -> None:
    """One of the first length, one of all others: torch gives up a module that wants more than eight."""
    torch._dynamo.reset()
    stack = build(BASE.replace(depth=1, position=POSITIONS[name]))
    graphs = CompileCounter()
    compiled = torch.compile(stack, backend=graphs)
    for length in range(5, 14):
        layout = Layout.packed_from(torch.tensor([length, length - 2 * ragged, length - 3 * ragged]))
        x = torch.randn(layout.tokens, BASE.dim)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x, layout), stack(x, layout), rtol=1e-4, atol=1e-5)
    assert graphs.frame_count <= 2


@pytest.mark.parametrize("name", POSITIONS)
def test_a_stack_is_exported_for_batches_of_any_size_and_length(name: str) -> None:
    rows = Rows(build(BASE.replace(depth=1, position=POSITIONS[name]))).eval()
    size, length = torch.export.Dim("size", min=2, max=64), torch.export.Dim("length", min=2, max=14)
    exported = torch.export.export(rows, (torch.randn(2, 5, BASE.dim),), dynamic_shapes=({0: size, 1: length},))
    for shape in ((2, 5), (3, 9), (7, 4)):
        x = torch.randn(*shape, BASE.dim)
        torch.testing.assert_close(exported.module()(x), rows(x), rtol=1e-4, atol=1e-5)


class Padded(torch.nn.Module):
    """A stack on rows "b n d", of which some are padding."""

    def __init__(self, stack: torch.nn.Module):
        super().__init__()
        self.stack = stack

    def forward(self, x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        layout = Layout.from_keep(keep)
        return layout.give(self.stack(layout.take(x, keep), layout), keep)


def test_what_is_padding_is_data_and_breaks_the_graph() -> None:
    """So it is compiled around the layout, and not exported."""
    torch._dynamo.reset()
    padded = Padded(build(BASE.replace(depth=1, position=Rotary()))).eval()
    compiled = torch.compile(padded, backend="eager")
    x = torch.randn(2, 5, BASE.dim)
    for lengths in ([5, 3], [2, 4]):
        keep = torch.arange(5) < torch.tensor(lengths).unsqueeze(-1)
        torch.testing.assert_close(compiled(x, keep), padded(x, keep), rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="data-dependent"):
        torch.export.export(padded, (x, keep))


RECURRENT = ["lstm/full+cross", "gru/causal", "rnn/causal"]


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_stacks_are_compiled_around_the_recurrence(name: str) -> None:
    assert max(differences(ALL[name], "eager", fullgraph=False)) < 1e-5


def test_a_recurrent_stack_as_one_graph_is_refused_with_the_reason() -> None:
    with pytest.raises(torch._dynamo.exc.Unsupported, match="cannot take a recurrent kernel"):
        differences(ALL[RECURRENT[0]], "eager")


def test_gradients_that_compiling_loses_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: written in place under the compiler, tokens lose their gradients (torch 2.11), and it shows."""
    put = zoo.core.layout._put
    monkeypatch.setattr(zoo.core.layout, "traced", lambda: False)
    monkeypatch.setattr(zoo.core.layout, "_put", lambda x, *where: torch.zeros_like(p := put(x, *where)).add_(p))
    assert max(differences(TINY["gpt2_small/stack"], "eager")) > 1e-2
