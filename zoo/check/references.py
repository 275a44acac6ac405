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
            # published sines and rates are no weights, and stay; a bias on logits is a buffer in some
            drawn = [p for p in model.parameters() if p.requires_grad]
            drawn += [b for name, b in model.named_buffers() if name == "final_logits_bias"]
            for value in drawn:
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

    classes = {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 32, "pad_token_id": 0}
    of = _model("GPT2Config", "GPT2ForSequenceClassification", classes | tokens)
    yield Reference("gpt2", "classifier of three", of(num_labels=3))


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
    of = _model("LlamaConfig", "LlamaForSequenceClassification", base | tokens | {"pad_token_id": 0})
    yield Reference("llama", "classifier of four", of(num_labels=4), tables32=True)


def _seq2seq(config: str, model: str, **more: Any) -> Callable[..., Callable[[], nn.Module]]:
    base = {"d_model": 24, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": VOCAB}
    base |= {"encoder_attention_heads": 3, "decoder_attention_heads": 3, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40}
    return _model(config, model, base | {"max_position_embeddings": 32} | more)


def bart() -> Iterator[Reference]:
    of = _seq2seq("BartConfig", "BartForConditionalGeneration")
    yield Reference("bart", "three heads", of())
    yield Reference("bart", "scaled embeddings, relu", of(scale_embedding=True, activation_function="relu"))
    yield Reference(
        "bart",
        "decoder of another depth, width and heads",
        of(decoder_layers=1, decoder_ffn_dim=56, decoder_attention_heads=4),
    )
    yield Reference("bart", "untied", of(tie_word_embeddings=False))


def marian() -> Iterator[Reference]:
    tokens = {"pad_token_id": VOCAB - 1, "decoder_start_token_id": VOCAB - 1, "eos_token_id": 0}
    of = _seq2seq("MarianConfig", "MarianMTModel", activation_function="swish", **tokens)
    yield Reference("marian", "scaled embeddings, swish", of(scale_embedding=True))
    yield Reference("marian", "unscaled, gelu", of(activation_function="gelu"))
    yield Reference(
        "marian",
        "two vocabularies",
        of(share_encoder_decoder_embeddings=False, decoder_vocab_size=VOCAB, vocab_size=41),
    )


def t5() -> Iterator[Reference]:
    base = {"d_model": 24, "num_layers": 2, "num_heads": 3, "d_kv": 6, "d_ff": 40, "vocab_size": VOCAB}
    base |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 12, "decoder_start_token_id": 0}
    of = _model("T5Config", "T5ForConditionalGeneration", base)

    def untied() -> nn.Module:
        model: Any = of(feed_forward_proj="gated-gelu", tie_word_embeddings=False)()
        model.lm_head.weight = nn.Parameter(torch.randn_like(model.lm_head.weight))
        return model

    yield Reference("t5", "v1.0: relu, tied, scaled", of(), tables32=True)
    yield Reference("t5", "v1.1: gated gelu, untied, unscaled", untied, tables32=True)
    yield Reference(
        "t5",
        "gated silu, short decoder, eps 1e-3",
        of(feed_forward_proj="gated-silu", num_decoder_layers=1, layer_norm_epsilon=1e-3),
        tables32=True,
    )


ENCODER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}


def bert() -> Iterator[Reference]:
    base = ENCODER | {"vocab_size": VOCAB, "max_position_embeddings": 32}
    of = _model("BertConfig", "BertForMaskedLM", base)
    yield Reference("bert", "three heads", of())
    yield Reference(
        "bert", "relu, eps 1e-3, three segments", of(hidden_act="relu", layer_norm_eps=1e-3, type_vocab_size=3)
    )
    yield Reference("bert", "untied, four heads", of(tie_word_embeddings=False, num_attention_heads=4))
    classes = _model("BertConfig", "BertForSequenceClassification", base)
    yield Reference("bert", "classifier of three", classes(num_labels=3))


def esm2() -> Iterator[Reference]:
    base = ENCODER | {"vocab_size": 33, "mask_token_id": 32, "pad_token_id": 1, "position_embedding_type": "rotary"}
    base |= {"layer_norm_eps": 1e-5, "emb_layer_norm_before": False, "attn_implementation": "eager"}
    of = _model("EsmConfig", "EsmForMaskedLM", base)
    yield Reference("esm2", "token dropout", of(token_dropout=True), tables32=True)
    yield Reference("esm2", "no token dropout, eps 1e-3", of(token_dropout=False, layer_norm_eps=1e-3), tables32=True)
    yield Reference(
        "esm2", "untied, theta 500", of(token_dropout=True, tie_word_embeddings=False, rope_theta=500.0), tables32=True
    )


IMAGES = ENCODER | {"image_size": 32, "patch_size": 8}


def vit() -> Iterator[Reference]:
    of = _model("ViTConfig", "ViTForImageClassification", IMAGES)
    yield Reference("vit", "three heads", of())
    yield Reference("vit", "no biases of queries, grey, relu", of(qkv_bias=False, num_channels=1, hidden_act="relu"))
    yield Reference("vit", "five classes, eps 1e-3", of(num_labels=5, layer_norm_eps=1e-3, patch_size=16))


def deit() -> Iterator[Reference]:
    two = _model("DeiTConfig", "DeiTForImageClassificationWithTeacher", IMAGES)
    one = _model("DeiTConfig", "DeiTForImageClassification", IMAGES)
    yield Reference("deit", "two heads", two(num_labels=5))
    yield Reference("deit", "one head", one())


@dataclass(frozen=True)
class Timm(Reference):
    """A model of timm."""

    def save(self, model: Any, folder: Path) -> None:
        library("timm").models.save_for_hf(model, folder, safe_serialization=True)


def timm_vit() -> Iterator[Reference]:
    def of(name: str, **changes: Any) -> Callable[[], nn.Module]:
        args = {
            "img_size": 32,
            "patch_size": 8,
            "embed_dim": 24,
            "depth": 2,
            "num_heads": 3,
            "num_classes": 5,
        } | changes
        return lambda: library("timm").create_model(name, **args)

    yield Timm("timm", "vit", of("vit_small_patch16_224"))
    yield Timm("timm", "deit, distilled", of("deit_tiny_distilled_patch16_224"))
    yield Timm("timm", "deit III, registers, query norms", of("deit3_small_patch16_224", reg_tokens=2, qk_norm=True))
    yield Timm(
        "timm", "mean, no class token", of("vit_base_patch16_224", global_pool="avg", class_token=False, qkv_bias=False)
    )
    yield Timm(
        "timm",
        "attention pooling, norm before",
        of("vit_base_patch16_224", global_pool="map", pre_norm=True, mlp_ratio=2.0),
    )


def musicgen() -> Iterator[Reference]:
    base = {"vocab_size": VOCAB, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "ffn_dim": 40}
    base |= {"pad_token_id": VOCAB, "bos_token_id": VOCAB, "max_position_embeddings": 32}
    of = _model("MusicgenDecoderConfig", "MusicgenForCausalLM", base)
    yield Reference("musicgen", "four codebooks", of(num_codebooks=4), tables32=True)
    yield Reference(
        "musicgen",
        "two codebooks, relu",
        of(num_codebooks=2, scale_embedding=True, activation_function="relu"),
        tables32=True,
    )

    def whole() -> nn.Module:
        hf = library("transformers")
        parts = {
            "decoder": hf.MusicgenDecoderConfig(**base, num_codebooks=2),
            "text_encoder": hf.T5Config(d_model=16, num_layers=1, num_heads=2, d_kv=6, d_ff=20, vocab_size=20),
            "audio_encoder": hf.EncodecConfig(num_filters=4, hidden_size=8, codebook_size=32, codebook_dim=8),
        }
        model: nn.Module = hf.MusicgenForConditionalGeneration(hf.MusicgenConfig(**parts))
        return model

    yield Reference("musicgen", "within the whole, projected states", whole, tables32=True)


FAMILIES: dict[str, Callable[[], Iterator[Reference]]] = {
    "gpt2": gpt2,
    "bert": bert,
    "t5": t5,
    "marian": marian,
    "bart": bart,
    "llama": llama,
    "vit": vit,
    "deit": deit,
    "timm": timm_vit,
    "esm2": esm2,
    "musicgen": musicgen,
}


def references() -> list[Reference]:
    return [reference for family in FAMILIES.values() for reference in family()]
