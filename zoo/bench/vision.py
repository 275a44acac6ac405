"""`zoo bench vision`: a ViT's training step and inference beside other libraries, the input pipeline beside the step.

All have the same layers, widths and heads, and parameters within a hundredth; no dropout; fused AdamW for everybody.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.bench.harness import HALF_UNITS, Bound, Race, Step
from zoo.core import LayerNorm, Learned, Plain, StackConfig
from zoo.vision.augment import Augment, TrivialAugment
from zoo.vision.images import Preprocess
from zoo.vision.model import ViT
from zoo.vision.patches import LinearPatches
from zoo.vision.pictures import Pixels, Views

BOUNDS = (
    Bound("ViT-Ti/4 32x32 training bfloat16", "zoo", "timm", 0.60, HALF_UNITS),
    Bound("ViT-Ti/4 32x32 training bfloat16", "zoo", "vit-pytorch", 1.0, HALF_UNITS),
    Bound("batches", "input pipeline", "zoo's step", 1.0),
    Bound("batches", "input pipeline with crops", "zoo's step", 1.0),
)
CLASSES = 10


def races(dtype: torch.dtype, device: torch.device, *, quick: bool) -> Iterator[Race]:
    name = str(dtype).removeprefix("torch.")
    depth, batch = (2, 16) if quick else (12, 128)
    tiny = {"size": 32, "patch": 4, "dim": 192, "depth": depth, "heads": 3}
    yield Race(f"ViT-Ti/4 32x32 training {name} batch {batch}", training(tiny, batch, dtype, device), batch, "images")
    small = {"size": 224, "patch": 16, "dim": 384, "depth": depth, "heads": 6}
    count = 2 if quick else 16
    yield Race(
        f"ViT-S/16 224x224 inference {name} batch {count}", inference(small, count, dtype, device), count, "images"
    )
    yield Race(f"batches of {batch}, ViT-Ti/4 32x32 {name}", feeding(tiny, batch, dtype, device), batch, "images")


def ours(size: int, patch: int, dim: int, depth: int, heads: int) -> nn.Module:
    norm = LayerNorm(eps=1e-6)
    stack = StackConfig(
        dim=dim,
        depth=depth,
        heads=heads,
        position=Learned((size // patch) ** 2 + 1),
        norm=norm,
        final_norm=norm,
        ffn=Plain("gelu", 4 * dim),
    )
    return ViT(stack, CLASSES, size, LinearPatches(patch))


def timms(size: int, patch: int, dim: int, depth: int, heads: int) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(size, patch, num_classes=CLASSES, embed_dim=dim, depth=depth, num_heads=heads)


def torchvisions(size: int, patch: int, dim: int, depth: int, heads: int) -> nn.Module:
    from torchvision.models.vision_transformer import VisionTransformer

    return VisionTransformer(size, patch, depth, heads, dim, 4 * dim, num_classes=CLASSES)


def vit_pytorchs(size: int, patch: int, dim: int, depth: int, heads: int) -> nn.Module:
    from vit_pytorch import ViT as Theirs

    sizes = {"image_size": size, "patch_size": patch, "num_classes": CLASSES, "mlp_dim": 4 * dim}
    return Theirs(dim=dim, depth=depth, heads=heads, dim_head=dim // heads, **sizes)


class HuggingFace(nn.Module):
    def __init__(self, size: int, patch: int, dim: int, depth: int, heads: int):
        super().__init__()
        from transformers import ViTConfig, ViTForImageClassification

        config = ViTConfig(
            hidden_size=dim,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            intermediate_size=4 * dim,
            image_size=size,
            patch_size=patch,
            num_labels=CLASSES,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.model = ViTForImageClassification(config)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).logits


MODELS: dict[str, Callable[..., nn.Module]] = {
    "timm": timms,
    "zoo": ours,
    "vit-pytorch": vit_pytorchs,
    "torchvision": torchvisions,
    "HF ViT": HuggingFace,
}


def built(make: Callable[..., nn.Module], sizes: dict[str, int], device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return make(**sizes).to(device)


def stepping(model: nn.Module, images: Tensor, labels: Tensor, dtype: torch.dtype) -> Step:
    """Forward under autocast where numbers are halves, backward, fused AdamW."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            loss = F.cross_entropy(model(images).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def training(
    sizes: dict[str, int], batch: int, dtype: torch.dtype, device: torch.device
) -> dict[str, Callable[[], Step]]:
    images = torch.randn(batch, 3, sizes["size"], sizes["size"], device=device)
    labels = torch.randint(CLASSES, (batch,), device=device)
    return {
        name: lambda make=make: stepping(built(make, sizes, device), images, labels, dtype)  # type: ignore[misc]
        for name, make in MODELS.items()
    }


def inference(
    sizes: dict[str, int], batch: int, dtype: torch.dtype, device: torch.device
) -> dict[str, Callable[[], Step]]:
    images = torch.randn(batch, 3, sizes["size"], sizes["size"], device=device, dtype=dtype)

    def make_step(make: Callable[..., nn.Module]) -> Step:
        model: Any = built(make, sizes, device).to(dtype).eval()
        return torch.inference_mode()(lambda: model(images))

    return {name: lambda make=make: make_step(make) for name, make in MODELS.items()}  # type: ignore[misc]


def feeding(
    sizes: dict[str, int], batch: int, dtype: torch.dtype, device: torch.device
) -> dict[str, Callable[[], Step]]:
    """What making a batch takes (flips, shifts or crops of whole pictures, TrivialAugment, one process) beside what
    training on it takes."""
    size, count = sizes["size"], 1024
    labels = torch.randint(CLASSES, (count,), device=device)
    fit = Preprocess(size, 3, (0.5,) * 3, (0.25,) * 3)
    images = torch.randn(batch, 3, size, size, device=device)

    def pipeline(augment: Augment) -> Step:
        side = augment.held_size(size)
        pixels = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, device=device)
        views = Views(Pixels(pixels, labels), fit, CLASSES, augment, seed=0)
        turns = iter(range(10**9))

        def step() -> None:
            turn = next(turns)
            views[[(turn, (turn * batch + i) % count) for i in range(batch)]]

        return step

    def model() -> Step:
        return stepping(built(ours, sizes, device), images, labels[:batch], dtype)

    return {
        "zoo's step": model,
        "input pipeline": lambda: pipeline(Augment(flip=True, shift=4, policy=TrivialAugment())),
        "input pipeline with crops": lambda: pipeline(Augment(flip=True, crop=0.08, policy=TrivialAugment())),
    }
