"""`zoo bench core`: attention, norms, dropout and blocks against torch's, and the step of a causal language model."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.bench.harness import HALF_UNITS, Bound, Race, Step
from zoo.bench.peers import LANGUAGE_MODELS
from zoo.core import LayerNorm, Layout, Plain, RMSNorm, StackConfig, attend
from zoo.core.block import Block
from zoo.core.cache import STATELESS
from zoo.core.dropout import Dropout
from zoo.core.mixer import Frame

BOUNDS = (
    Bound("causal LM step bfloat16", "zoo", "nanoGPT-style", 0.89, HALF_UNITS),
    Bound("norm training", "RMSNorm", "LayerNorm", 1.3, HALF_UNITS),
    Bound("norm inference", "RMSNorm", "LayerNorm", 1.3, HALF_UNITS),
)
# Sequences, tokens of each, heads, head width: a small ViT, ViT-S/16, a language model, a long text, a protein model.
SHAPES = ((64, 65, 3, 64), (8, 197, 6, 64), (8, 256, 6, 64), (2, 1024, 8, 64), (8, 256, 20, 16))
QUICK = SHAPES[:1] + SHAPES[-1:]


def races(dtype: torch.dtype, device: torch.device, *, quick: bool) -> Iterator[Race]:
    """The cases for one type of numbers, one after another; nothing of a case is built before its turn."""
    name = str(dtype).removeprefix("torch.")
    for training in (True, False):
        mode = "training" if training else "inference"
        for shape in QUICK if quick else SHAPES:
            for ragged in (False, True):
                case = f"attend {mode} {name} {shape} {'packed' if ragged else 'dense'}"
                yield Race(case, _attention(shape, ragged, training, dtype, device))
        for shape in ((2048, 512),) if quick else ((2048, 512), (4096, 384), (512, 1024)):
            yield Race(f"norm {mode} {name} {shape}", _norms(shape, training, dtype, device))
            if training:
                yield Race(f"dropout {mode} {name} {shape}", _dropouts(shape, dtype, device))
        for shape in SHAPES[:1] if quick else (SHAPES[0], SHAPES[2]):
            for ragged in (False, True):
                for cross in (False, True):
                    layout = "packed" if ragged else "dense"
                    case = f"{'decoder' if cross else 'encoder'} block {mode} {name} {shape} {layout}"
                    yield Race(case, _blocks(shape, ragged, training, cross, dtype, device))
    batch = 1 if quick else 4
    yield Race(f"causal LM step {name} 384x6 T 256 V 8192 B {batch}", language_models(batch, dtype, device))


def _lengths(batch: int, length: int, ragged: bool) -> Tensor:
    """Lengths whose mean is about half of the longest, as sentences of a random batch have; or all the same."""
    if not ragged:
        return torch.full((batch,), length)
    return torch.linspace(1 / batch, 1, batch).mul(length).ceil().long().clamp(1, length)


def _attention(
    shape: tuple[int, ...], ragged: bool, training: bool, dtype: torch.dtype, device: torch.device
) -> dict[str, Callable[[], Step]]:
    """Attention over rows with a padding mask through SDPA, and over a layout through `attend`."""
    batch, length, heads, width = shape
    lengths = _lengths(batch, length, ragged)
    layout = Layout.packed_from(lengths.to(device))
    keep = torch.arange(length, device=device) < lengths.to(device).unsqueeze(-1)
    mask = keep[:, None, None] if ragged else None

    def sdpa() -> Step:
        parts = _leaves(3, (batch, heads, length, width), dtype, device, training)
        return _step(lambda: F.scaled_dot_product_attention(*parts, mask), training, parts)

    def ours() -> Step:
        parts = _leaves(3, (layout.tokens, heads, width), dtype, device, training)
        return _step(lambda: attend(*parts, queries=layout, keys=layout, scale=width**-0.5), training, parts)

    return {"SDPA": sdpa, "attend": ours}


def _norms(
    shape: tuple[int, ...], training: bool, dtype: torch.dtype, device: torch.device
) -> dict[str, Callable[[], Step]]:
    def of(module: nn.Module) -> Step:
        module = module.to(device, dtype)
        (x,) = _leaves(1, shape, dtype, device, training)
        return _step(lambda: module(x), training, [x, *module.parameters()])

    dim = shape[-1]
    return {
        "LayerNorm": lambda: of(LayerNorm().build(dim)),
        "RMSNorm": lambda: of(RMSNorm().build(dim)),
        "torch's RMSNorm": lambda: of(nn.RMSNorm(dim, eps=1e-6)),
    }


def _dropouts(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> dict[str, Callable[[], Step]]:
    def of(module: nn.Module) -> Step:
        (x,) = _leaves(1, shape, dtype, device, True)
        return _step(lambda: module(x), True, [x])

    return {"torch's Dropout": lambda: of(nn.Dropout(0.1)), "Dropout": lambda: of(Dropout(0.1))}


def _blocks(
    shape: tuple[int, ...], ragged: bool, training: bool, cross: bool, dtype: torch.dtype, device: torch.device
) -> dict[str, Callable[[], Step]]:
    """One block on rows with a padding mask, and on the layout of the same tokens."""
    batch, length, heads, width = shape
    dim = heads * width
    lengths = _lengths(batch, length, ragged).to(device)
    keep = torch.arange(length, device=device) < lengths.unsqueeze(-1)
    hidden = ~keep if ragged else None

    def torchs() -> Step:
        kind: Any = nn.TransformerDecoderLayer if cross else nn.TransformerEncoderLayer
        layer = kind(dim, heads, 4 * dim, 0.0, F.gelu, batch_first=True, norm_first=True).to(device, dtype)
        layer.train(training)
        x, source = _leaves(2, (batch, length, dim), dtype, device, training)
        past = nn.Transformer.generate_square_subsequent_mask(length, device=device, dtype=dtype)
        if cross:
            masks = {"tgt_key_padding_mask": hidden, "memory_key_padding_mask": hidden}
            return _step(
                lambda: layer(x, source, past, tgt_is_causal=True, **masks), training, [x, *layer.parameters()]
            )
        return _step(lambda: layer(x, src_key_padding_mask=hidden), training, [x, *layer.parameters()])

    def ours() -> Step:
        config = StackConfig(dim=dim, depth=1, heads=heads, ffn=Plain("gelu", 4 * dim), causal=cross, cross=cross)
        block = Block(config, 0).to(device, dtype).train(training)
        layout = Layout.packed_from(lengths)
        x, source = _leaves(2, (layout.tokens, dim), dtype, device, training)
        position = config.position.build(config)
        frame = Frame(
            layout=layout,
            keys=layout,
            position=position,
            prepared=None,
            context=source if cross else None,
            context_layout=layout if cross else None,
        )
        return _step(lambda: block(x, frame, STATELESS), training, [x, *block.parameters()])

    return {"torch.nn": torchs, "zoo": ours}


def language_models(
    batch: int,
    dtype: torch.dtype,
    device: torch.device,
    length: int = 256,
    more: Mapping[str, type[nn.Module]] | None = None,
) -> dict[str, Callable[[], Step]]:
    """Training steps of a model that is 384 wide and 6 layers deep; `more`: kinds besides those that always race."""
    vocab, dim, depth, heads = 8192, 384, 6, 6
    ids = torch.randint(vocab, (batch, length + 1), device=device, generator=_generator(device))

    def make(kind: type[nn.Module]) -> Step:
        torch.manual_seed(0)
        model = kind(vocab, length, dim, depth, heads).to(device)
        return training_step(model, lambda: model(ids[:, :-1], ids[:, 1:]), dtype, device)

    kinds = LANGUAGE_MODELS | dict(more or {})
    return {name: lambda kind=kind: make(kind) for name, kind in kinds.items()}  # type: ignore[misc]


def training_step(model: nn.Module, loss: Callable[[], Tensor], dtype: torch.dtype, device: torch.device) -> Step:
    """A whole step: forward under autocast where numbers are halves, backward, fused AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _leaves(count: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, wanted: bool) -> list[Tensor]:
    generator = _generator(device)
    return [
        torch.randn(shape, device=device, generator=generator).to(dtype).requires_grad_(wanted) for _ in range(count)
    ]


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


def _step(forward: Callable[[], Tensor], training: bool, inputs: list[Tensor]) -> Step:
    """Forward and, in training, the gradients of all inputs."""
    if not training:
        return torch.no_grad()(forward)
    like = torch.ones_like(forward())
    return lambda: torch.autograd.grad(forward(), inputs, like)
