"""Networks as ONNX, beside themselves, for batches of any size and texts of any length. Skipped where onnx is not
installed: docs/faq.md says which packages it takes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo.core import ALiBi, Bias, FixedScale, Gated, Learned, RelativeBuckets, RMSNorm, Rotary, Sinusoidal, StackConfig
from zoo.protein import ProteinLM
from zoo.text import CausalLM, MaskedLM, Seq2Seq, TextClassifier
from zoo.vision import ViT
from zoo.vision.patches import LinearPatches

pytest.importorskip("onnxscript")
runtime: Any = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.slow

PLAIN = StackConfig(dim=32, depth=2, heads=4, position=Learned(64))
LLAMA = PLAIN.replace(
    causal=True,
    position=Rotary(),
    norm=RMSNorm(),
    final_norm=RMSNorm(),
    kv_heads=2,
    ffn=Gated("silu", 48),
    bias=Bias(qkv=False, out=False, ffn=False),
)
T5 = PLAIN.replace(position=RelativeBuckets(8, 24), norm=RMSNorm(), final_norm=RMSNorm(), scale=FixedScale(1.0))
NETWORKS: dict[str, nn.Module] = {
    "GPT-2": CausalLM(PLAIN.replace(causal=True), 64),
    "Llama": CausalLM(LLAMA, 64, tied=False),
    "sines": CausalLM(PLAIN.replace(causal=True, position=Sinusoidal()), 64),
    "ALiBi": CausalLM(PLAIN.replace(causal=True, position=ALiBi()), 64),
    "BERT": MaskedLM(PLAIN, 64),
    "classifier": TextClassifier(PLAIN, 64, 3),
    "T5": Seq2Seq(T5, T5.replace(causal=True, cross=True), 64),
    "ESM-2": ProteinLM(PLAIN.replace(position=Rotary()), 33),
    "ViT": ViT(PLAIN.replace(position=Learned(17)), 5, image_size=16, channels=3, patches=LinearPatches(4)),
}


def given(name: str, batch: int, length: int) -> tuple[Tensor, ...]:
    match name:
        case "ViT":
            return (torch.randn(batch, 3, 16, 16),)
        case "T5":
            return torch.randint(3, 60, (batch, length)), torch.randint(3, 60, (batch, length + 2))
        case _:
            return (torch.randint(4, 24, (batch, length)),)


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_computes_the_same(name: str, tmp_path: Path) -> None:
    net, free = NETWORKS[name].eval(), torch.export.Dim.AUTO
    few = given(name, 2, 9)
    shapes = tuple({0: free} if name == "ViT" else {0: free, 1: free} for _ in few)
    made: Any = torch.onnx.export(net, few, dynamo=True, dynamic_shapes=shapes, verbose=False)
    made.save(tmp_path / "net.onnx")
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for batch, length in ((2, 9), (3, 12), (1, 5)):
        args = given(name, batch, length)
        names = (said.name for said in session.get_inputs())
        found = session.run(None, {said: x.numpy() for said, x in zip(names, args, strict=True)})[0]
        torch.testing.assert_close(torch.from_numpy(found), net(*args), rtol=1e-4, atol=1e-5)
