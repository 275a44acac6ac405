"""`zoo bench text`: an encoder-decoder trained on sentences of real lengths, and writing, beside other libraries.

All have 3 + 3 layers, 512 wide, and Marian's architecture where the library has it, and the same number of weights. For
beam search they have the same weights too, so that they write the same.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.bench.harness import HALF_UNITS, Bound, Race, Step
from zoo.core import NoNorm, Plain, Sinusoidal, StackConfig
from zoo.errors import UserError
from zoo.text.data import Batch, Multi30k, collate
from zoo.text.model import Seq2Seq, shifted_right
from zoo.text.tokens import Tokenizer
from zoo.train.losses import token_loss

BOUNDS = (
    Bound("seq2seq step bfloat16 random", "zoo", "nn.Transformer", 0.44, HALF_UNITS),
    Bound("seq2seq step bfloat16 by length", "zoo", "HF Marian", 0.67, HALF_UNITS),
    Bound("greedy float32 batch 1 ", "zoo", "HF Marian", 0.65, HALF_UNITS),
    Bound("greedy float32 batch 16", "zoo", "HF Marian", 0.78, HALF_UNITS),
    Bound("beam 5 float32", "zoo", "HF Marian", 0.80, HALF_UNITS),
)
VOCAB, DIM, DEPTH, HEADS, PAIRS = 8000, 512, 3, 8, 32


def races(dtype: torch.dtype, device: torch.device, *, quick: bool) -> Iterator[Race]:
    name = str(dtype).removeprefix("torch.")
    lengths, origin = pair_lengths()
    for order in ("random", "by length"):
        case = f"seq2seq step {name} {order} {DEPTH}+{DEPTH}x{DIM}, {origin}"
        yield Race(case, training(batches(lengths, order, 1 if quick else 2), dtype, device))
    if dtype == torch.float32:
        for batch in (1, 16):
            tokens = 16 if quick else 256
            yield Race(f"greedy float32 batch {batch:<2} {tokens} tokens", greedy(batch, tokens, device))
        batch, tokens = (2, 8) if quick else (8, 48)
        yield Race(f"beam 5 float32 batch {batch} {tokens} tokens", beam(batch, tokens, device))


def pair_lengths() -> tuple[np.ndarray, str]:
    """Tokens of sources and targets "pairs 2", and where they are from: Multi30k, or drawn like it where it is not."""
    try:
        data = Multi30k(vocab_size=VOCAB).train_dataloader().batch_sampler
    except UserError:
        drawn = np.random.default_rng(0).lognormal(2.55, 0.33, (2000, 1))
        spread = np.random.default_rng(1).normal(1, 0.15, (2000, 2))
        return np.clip(drawn * spread, 4, 50).astype(int), "lengths like Multi30k's"
    return data.sides, "Multi30k's lengths"  # type: ignore[union-attr]


def batches(lengths: np.ndarray, order: str, count: int) -> list[Batch]:
    """Batches of pairs of these lengths, of random tokens: drawn at random, or of similar length together."""
    random = np.random.default_rng(0)
    chosen = random.permutation(lengths)[: PAIRS * 40]
    if order == "by length":
        chosen = chosen[np.lexsort((chosen[:, 0], chosen[:, 1]))]
        begins = random.permutation(40)[:count] * PAIRS
    else:
        begins = np.arange(count) * PAIRS
    return [
        collate(
            [
                (i, *([*random.integers(4, VOCAB, n - 1).tolist(), Tokenizer.end] for n in pair))
                for i, pair in enumerate(chosen[b : b + PAIRS])
            ]
        )
        for b in begins
    ]


class Ours(nn.Module):
    def __init__(self, *, tied: bool = True) -> None:
        super().__init__()
        encoder = StackConfig(
            dim=DIM,
            depth=DEPTH,
            heads=HEADS,
            position=Sinusoidal("halves"),
            norm_order="post",
            final_norm=NoNorm(),
            ffn=Plain("silu", 4 * DIM),
        )
        self.model = Seq2Seq(encoder, encoder.replace(causal=True, cross=True), VOCAB, tied=tied)

    def forward(self, batch: Batch) -> Tensor:
        target = shifted_right(batch.labels, Tokenizer.start)
        states, layout = self.model.hidden(batch.source, target, batch.source_keep, batch.keep)
        labels = layout.take(batch.labels, batch.keep)
        return token_loss(states, self.model.head.weight, labels).loss / len(labels)


class Torchs(nn.Module):
    """nn.Transformer between one table and its transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCAB, DIM)
        nn.init.normal_(self.table.weight, std=DIM**-0.5)
        self.model = nn.Transformer(DIM, HEADS, DEPTH, DEPTH, 4 * DIM, 0.0, F.silu, batch_first=True)

    def forward(self, batch: Batch) -> Tensor:
        target = shifted_right(batch.labels, Tokenizer.start)
        past = nn.Transformer.generate_square_subsequent_mask(target.shape[1], device=target.device)
        hidden = {"src_key_padding_mask": ~batch.source_keep, "memory_key_padding_mask": ~batch.source_keep}
        out = self.model(self.table(batch.source), self.table(target), tgt_mask=past, tgt_is_causal=True, **hidden)
        return F.cross_entropy((out @ self.table.weight.T)[batch.keep], batch.labels[batch.keep])


class HuggingFace(nn.Module):
    def __init__(self, *, tied: bool = True) -> None:
        super().__init__()
        from transformers import MarianConfig, MarianMTModel

        sizes = {
            f"{side}_{name}": value
            for side in ("encoder", "decoder")
            for name, value in {"layers": DEPTH, "attention_heads": HEADS, "ffn_dim": 4 * DIM}.items()
        }
        config = MarianConfig(
            vocab_size=VOCAB,
            d_model=DIM,
            activation_function="swish",
            scale_embedding=True,
            dropout=0.0,
            attention_dropout=0.0,
            activation_dropout=0.0,
            pad_token_id=0,
            bos_token_id=1,
            decoder_start_token_id=1,
            eos_token_id=2,
            forced_eos_token_id=None,
            max_position_embeddings=512,
            tie_word_embeddings=tied,
            **sizes,
        )
        self.model = MarianMTModel(config)

    def forward(self, batch: Batch) -> Tensor:
        logits = self.model(
            input_ids=batch.source,
            attention_mask=batch.source_keep,
            decoder_input_ids=shifted_right(batch.labels, Tokenizer.start),
            use_cache=False,
        ).logits
        return F.cross_entropy(logits[batch.keep], batch.labels[batch.keep])


class XTransformers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        from x_transformers import XTransformer

        side = {"num_tokens": VOCAB, "max_seq_len": 512, "depth": DEPTH, "heads": HEADS, "pre_norm": False}
        side |= {"attn_dim_head": DIM // HEADS, "attn_flash": True, "ff_swish": True}
        sides = {f"{name}_{key}": value for name in ("enc", "dec") for key, value in side.items()}
        self.model = XTransformer(dim=DIM, tie_token_emb=True, **sides)

    def forward(self, batch: Batch) -> Tensor:
        encoded = self.model.encoder(batch.source, mask=batch.source_keep, return_embeddings=True)
        logits = self.model.decoder.net(
            shifted_right(batch.labels, Tokenizer.start), context=encoded, context_mask=batch.source_keep
        )
        return F.cross_entropy(logits[batch.keep], batch.labels[batch.keep])


def training(chosen: list[Batch], dtype: torch.dtype, device: torch.device) -> dict[str, Callable[[], Step]]:
    """Steps over some batches: forward under autocast where numbers are halves, backward, fused AdamW."""
    chosen = [Batch(*(part.to(device) for part in batch)) for batch in chosen]

    def make(kind: type[nn.Module]) -> Step:
        torch.manual_seed(0)
        model = kind().to(device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

        def step() -> None:
            for batch in chosen:
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    loss = model(batch)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()

        return step

    kinds = {"nn.Transformer": Torchs, "HF Marian": HuggingFace, "zoo": Ours, "x-transformers": XTransformers}
    return {name: lambda kind=kind: make(kind) for name, kind in kinds.items()}  # type: ignore[misc]


def sentences(batch: int, device: torch.device) -> Tensor:
    """Sources of 12 random tokens each."""
    source = torch.randint(4, VOCAB, (batch, 12), generator=torch.Generator().manual_seed(0))
    source[:, -1] = 2
    return source.to(device)


def greedy(batch: int, tokens: int, device: torch.device) -> dict[str, Callable[[], Step]]:
    """As many tokens as asked for, none of which ends a sentence early, each from the cache."""
    source = sentences(batch, device)

    def ours() -> Step:
        torch.manual_seed(0)
        model = Ours().model.to(device).eval()
        model.end = -1  # no token
        return lambda: model.generate(source, length=tokens)

    def hf() -> Step:
        torch.manual_seed(0)
        model: Any = HuggingFace().model.to(device).eval()
        exactly = {"max_new_tokens": tokens, "min_new_tokens": tokens, "num_beams": 1, "do_sample": False}
        return torch.no_grad()(lambda: model.generate(source, attention_mask=torch.ones_like(source), **exactly))

    def xt() -> Step:
        torch.manual_seed(0)
        model = XTransformers().model.to(device).eval()
        start = torch.ones(batch, 1, dtype=torch.long, device=device)
        return lambda: model.generate(source, start, tokens, temperature=0.0, cache_kv=True)

    return {"HF Marian": hf, "zoo": ours, "x-transformers": xt}


def twins(device: torch.device) -> tuple[Seq2Seq, Any]:
    """Our model and transformers' with the same random weights; a head of its own, or they would repeat one token."""
    torch.manual_seed(0)
    ours, theirs = Ours(tied=False).model.eval(), HuggingFace(tied=False).model.eval()
    with torch.no_grad():
        ours.target_embedding.weight.mul_(3)  # or what stands in the source would outweigh what was just written
        ours.head.weight.mul_(3)
        theirs.lm_head.weight.copy_(ours.head.weight)
        for table in (theirs.model.shared, theirs.model.encoder.embed_tokens, theirs.model.decoder.embed_tokens):
            table.weight.copy_(ours.target_embedding.weight)
        for side in ("encoder", "decoder"):
            for block, layer in zip(getattr(ours, side).blocks, getattr(theirs.model, side).layers, strict=True):
                _copy(block.mixer.branch.to_qkv, *(getattr(layer.self_attn, f"{n}_proj") for n in "qkv"))
                _copy(block.mixer.branch.to_out, layer.self_attn.out_proj)
                _copy(block.mixer.after, layer.self_attn_layer_norm)
                if side == "decoder":
                    _copy(block.cross.branch.to_q, layer.encoder_attn.q_proj)
                    _copy(block.cross.branch.to_kv, layer.encoder_attn.k_proj, layer.encoder_attn.v_proj)
                    _copy(block.cross.branch.to_out, layer.encoder_attn.out_proj)
                    _copy(block.cross.after, layer.encoder_attn_layer_norm)
                _copy(block.ffn.branch.up, layer.fc1)
                _copy(block.ffn.branch.down, layer.fc2)
                _copy(block.ffn.after, layer.final_layer_norm)
    return ours.to(device), theirs.to(device)


def _copy(source: nn.Module, *targets: nn.Module) -> None:
    """A linear map or a norm into one, or a fused map into its parts."""
    for name, value in source.named_parameters():
        for part, target in zip(value.chunk(len(targets)), targets, strict=True):
            getattr(target, name).copy_(part)


def written(ours: Seq2Seq, theirs: Any, source: Tensor, tokens: int) -> tuple[list[list[int]], list[list[int]]]:
    """What both write with 5 beams, to the end token, without a length penalty."""
    own = [row[0].tokens for row in ours.generate(source, length=tokens, beams=5, length_penalty=0.0)]
    found = _hf_beams(theirs, source, tokens)
    ends = [row[1:].tolist() for row in found]
    return own, [row[: row.index(2)] if 2 in row else row for row in ends]


def _hf_beams(theirs: Any, source: Tensor, tokens: int) -> Tensor:
    with torch.no_grad():
        found: Tensor = theirs.generate(
            source,
            attention_mask=torch.ones_like(source),
            max_new_tokens=tokens,
            num_beams=5,
            length_penalty=0.0,
            do_sample=False,
        )
    return found


def beam(batch: int, tokens: int, device: torch.device) -> dict[str, Callable[[], Step]]:
    source = sentences(batch, device)
    ours, theirs = twins(device)
    return {
        "HF Marian": lambda: lambda: _hf_beams(theirs, source, tokens),
        "zoo": lambda: lambda: ours.generate(source, length=tokens, beams=5, length_penalty=0.0),
    }
