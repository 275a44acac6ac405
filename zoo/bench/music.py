"""`zoo bench music`: a model of events trained and writing at the lengths of music, beside other libraries.

All are 4 layers, 256 wide, with a head apart from the embeddings and nearly the same number of weights (feed-forwards
make up for biases and tables of positions). zoo and x-transformers turn queries and keys. GPT-2 has a table of
positions, whose weights cost no multiplication: its feed-forwards are narrower by them, and "zoo learned" is the same
sizes here. The relative attention of Music Transformer stands beside. What a chorale's 16ths take of these tokens
(`SECONDS` each) makes seconds of music a second out of writing times.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.bench.core import training_step
from zoo.bench.harness import Bound, Race, Step
from zoo.core import Learned, Plain, Position, Rotary, Skewed, StackConfig
from zoo.music.events import Events
from zoo.music.model import MusicLM
from zoo.train.losses import token_loss

BOUNDS = (
    Bound("music step", "zoo rotary", "x-transformers", 1.0),
    Bound("music step", "zoo rotary", "HF GPT-2", 1.0),
    Bound("music writing", "zoo rotary", "x-transformers", 1.0),
    Bound("music writing", "zoo rotary", "HF GPT-2", 1.0),
)
VOCAB, DIM, DEPTH, HEADS = Events().vocab_size, 256, 4, 4
RELATIVE = Skewed(512)  # what lies further back shares the last vector; its vectors are a quarter of a feed-forward
SECONDS = 60 / 96 / 16  # of music in a token: four voices on a 16th grid, 96 quarters per minute


def races(dtype: torch.dtype, device: torch.device, *, quick: bool) -> Iterator[Race]:
    name = str(dtype).removeprefix("torch.")
    for length in (64,) if quick else (1024, 2048):
        yield Race(f"music step {name} {DIM}x{DEPTH} T {length} B 2", training(length, dtype, device))
    if dtype == torch.float32:
        for length in (32,) if quick else (1024, 2048):
            yield Race(
                f"music writing float32 batch 1 {length} tokens",
                writing(length, device),
                length * SECONDS,
                "s of music",
            )


def ours(position: Position, ffn: int) -> MusicLM:
    torch.manual_seed(0)
    config = StackConfig(dim=DIM, depth=DEPTH, heads=HEADS, causal=True, position=position, ffn=Plain("gelu", ffn))
    return MusicLM(config, VOCAB)


def x_transformers(length: int) -> nn.Module:
    from x_transformers import Decoder, TransformerWrapper

    torch.manual_seed(0)
    layers = Decoder(
        dim=DIM, depth=DEPTH, heads=HEADS, attn_dim_head=DIM // HEADS, attn_flash=True, rotary_pos_emb=True
    )
    return TransformerWrapper(num_tokens=VOCAB, max_seq_len=length, attn_layers=layers, use_abs_pos_emb=False)


def gpt2(length: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCAB,
        n_positions=length,
        n_embd=DIM,
        n_layer=DEPTH,
        n_head=HEADS,
        n_inner=4 * DIM - length // 8,  # its table of positions would be so many weights more
        activation_function="gelu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


def models(length: int) -> dict[str, Callable[[], nn.Module]]:
    """Each library's model for sequences of `length`; the reference first."""
    return {
        "x-transformers": lambda: x_transformers(length),
        "HF GPT-2": lambda: gpt2(length),
        "zoo rotary": lambda: ours(Rotary(), 4 * DIM),
        "zoo learned": lambda: ours(Learned(length), 4 * DIM - length // 8),  # GPT-2's own sizes
        "zoo relative": lambda: ours(RELATIVE, 3 * DIM),
    }


def logits_of(name: str, model: nn.Module) -> Callable[[Tensor], Tensor]:
    return (lambda ids: model(ids).logits) if name.startswith("HF") else model


def training(length: int, dtype: torch.dtype, device: torch.device) -> dict[str, Callable[[], Step]]:
    ids = torch.randint(0, VOCAB, (2, length + 1), generator=torch.Generator().manual_seed(0)).to(device)
    given, labels = ids[:, :-1], ids[:, 1:]

    def step_of(name: str, make: Callable[[], nn.Module]) -> Callable[[], Step]:
        def build() -> Step:
            model = make().to(device)
            if isinstance(model, MusicLM):

                def loss() -> Tensor:
                    states, _ = model.hidden(given)
                    return token_loss(states, model.head.weight, labels.flatten()).loss / labels.numel()

                return training_step(model, loss, dtype, device)
            logits = logits_of(name, model)
            return training_step(
                model, lambda: F.cross_entropy(logits(given).flatten(0, 1).float(), labels.flatten()), dtype, device
            )

        return build

    return {name: step_of(name, make) for name, make in models(length).items()}


def writing(length: int, device: torch.device) -> dict[str, Callable[[], Step]]:
    """Greedy, from one token, `length` more, all from a cache."""
    prompt = torch.zeros(1, 1, dtype=torch.long, device=device)

    def xt() -> Step:
        from x_transformers import AutoregressiveWrapper

        wrapped = AutoregressiveWrapper(x_transformers(length + 1)).to(device).eval()
        return lambda: wrapped.generate(prompt, length, temperature=0.0, cache_kv=True)

    def hf() -> Step:
        model = gpt2(length + 8).to(device).eval()
        exactly = {"max_new_tokens": length, "min_new_tokens": length, "do_sample": False, "use_cache": True}
        mask = torch.ones_like(prompt)
        return torch.no_grad()(lambda: model.generate(prompt, attention_mask=mask, pad_token_id=0, **exactly))

    def zoo(position: Position, ffn: int) -> Callable[[], Step]:
        def build() -> Step:
            model = ours(position, ffn).to(device).eval()
            return lambda: model.generate(prompt, length=length)

        return build

    return {
        "x-transformers": xt,
        "HF GPT-2": hf,
        "zoo rotary": zoo(Rotary(), 4 * DIM),
        "zoo relative": zoo(RELATIVE, 3 * DIM),
    }
