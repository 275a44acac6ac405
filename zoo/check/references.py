"""Models of other libraries, tiny and of random weights, that published weights are compared with.

Each family has several: what a configuration may switch is switched in one of them. Norms and biases are drawn like
everything else, so that a setting which is read wrongly shows. Needs transformers and timm (the extra `bench`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.errors import UserError

VOCAB = 30


@dataclass(frozen=True)
class Reference:
    """`family`/`name`; `make()` gives the model in eval mode, `save(model, folder)` writes it as its library does.

    `tables32`: the library keeps tables in float32 whatever the model's type, so float64 agrees to 1e-6 and no better.
    """

    family: str
    name: str
    make: Callable[[], nn.Module]
    tables32: bool = False

    def __str__(self) -> str:
        return f"{self.family}/{self.name}"

    def model(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The same weights at every call."""
        torch.manual_seed(5)
        model = self.make().to(dtype).eval()
        with torch.no_grad():
            for value in {id(v): v for v in model.state_dict().values() if v.is_floating_point()}.values():
                value.add_(torch.randn(value.shape, dtype=torch.float64).to(dtype) * 0.2)
        return model

    def save(self, model: Any, folder: Path) -> None:
        model.save_pretrained(folder)


def library(name: str) -> Any:
    """transformers or timm, quiet; UserError where it is not installed."""
    try:
        if name == "timm":
            import timm

            return timm
        import transformers
    except ImportError:
        raise UserError(
            f"this compares with {name}, which is not installed: pip install 'transformer-zoo[bench]'"
        ) from None
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _model(config: str, model: str, base: dict[str, Any]) -> Callable[..., Callable[[], nn.Module]]:
    """Makers of a class of transformers from changes to a tiny configuration."""

    def of(**changes: Any) -> Callable[[], nn.Module]:
        def make() -> nn.Module:
            hf = library("transformers")
            made: nn.Module = getattr(hf, model)(getattr(hf, config)(**(base | changes)))
            return made

        return make

    return of


def gpt2() -> Iterator[Reference]:
    tokens = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 2}
    of = _model("GPT2Config", "GPT2LMHeadModel", {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 32} | tokens)
    yield Reference("gpt2", "three heads", of())
    yield Reference(
        "gpt2", "gelu, narrow, eps 1e-3", of(activation_function="gelu", n_inner=40, layer_norm_epsilon=1e-3)
    )
    yield Reference("gpt2", "scores by layer", of(scale_attn_by_inverse_layer_idx=True, n_head=4))
    yield Reference(
        "gpt2",
        "untied, relu, unscaled",
        of(tie_word_embeddings=False, activation_function="relu", scale_attn_weights=False),
    )


def llama() -> Iterator[Reference]:
    base = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 6}
    tokens = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 2}
    of = _model("LlamaConfig", "LlamaForCausalLM", base | {"num_key_value_heads": 3} | tokens)
    long = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    long |= {"original_max_position_embeddings": 16, "rope_theta": 100.0}
    yield Reference("llama", "grouped heads", of(), tables32=True)
    yield Reference("llama", "long stretch, tied", of(rope_parameters=long, tie_word_embeddings=True), tables32=True)
    yield Reference(
        "llama",
        "even stretch, biases",
        of(
            rope_parameters={"rope_type": "linear", "factor": 3.0, "rope_theta": 500.0},
            attention_bias=True,
            mlp_bias=True,
        ),
        tables32=True,
    )
    yield Reference(
        "llama",
        "wide heads, gelu, eps 1e-3",
        of(head_dim=10, num_attention_heads=3, hidden_act="gelu_pytorch_tanh", rms_norm_eps=1e-3),
        tables32=True,
    )


FAMILIES: dict[str, Callable[[], Iterator[Reference]]] = {"gpt2": gpt2, "llama": llama}


def references() -> list[Reference]:
    return [reference for family in FAMILIES.values() for reference in family()]
