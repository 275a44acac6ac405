"""`zoo bench lm`: GPT, BERT, T5 and Llama, trained and writing, beside the libraries that people take them from.

Sizes, activations and numbers of weights are equal within a race, dropout is off. Axes: b sequences, n tokens of each.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.bench.core import language_models, training_step
from zoo.bench.harness import HALF_UNITS, Bound, Race, Step
from zoo.bench.peers import ByHand, Checkpointed, HuggingFace, XTransformers
from zoo.core import (
    Bias,
    FixedScale,
    Gated,
    HeadScale,
    LayerNorm,
    Layout,
    Learned,
    NoNorm,
    Plain,
    RelativeBuckets,
    RMSNorm,
    Rotary,
    Stack,
    StackConfig,
)
from zoo.data.corruption import IGNORED, mask_tokens
from zoo.text.encoder import MaskedLM
from zoo.text.model import CausalLM, Seq2Seq
from zoo.train.losses import token_loss

BOUNDS = (
    Bound("causal LM step bfloat16 384x6 T 256", "zoo", "nanoGPT-style", 0.89, HALF_UNITS),
    Bound("causal LM step bfloat16 384x6 T 256", "zoo", "HF GPT-2", 0.70, HALF_UNITS),
    Bound("masked LM step bfloat16", "zoo", "HF BERT", 0.70, HALF_UNITS),
    Bound("span LM step bfloat16", "zoo", "HF T5", 0.70, HALF_UNITS),
    Bound("T5 block training", "zoo", "HF T5", 1.0, HALF_UNITS),
    Bound("Llama block training", "zoo", "HF Llama", 1.0, HALF_UNITS),
    Bound("writing float32 batch 1 ", "zoo", "HF GPT-2", 0.65, HALF_UNITS),
)
VOCAB, DIM, DEPTH, HEADS = 8192, 384, 6, 6
NO_BIAS = Bias(qkv=False, out=False, ffn=False)
# T5 v1.1 (Raffel et al. 2020, section 2.1; Shazeer 2020), an encoder.
T5 = StackConfig(
    dim=DIM,
    depth=DEPTH,
    heads=HEADS,
    position=RelativeBuckets(),
    norm=RMSNorm(),
    final_norm=RMSNorm(),
    scale=FixedScale(1.0),
    bias=NO_BIAS,
    ffn=Gated("gelu_tanh", 1024),
)
LLAMA = T5.replace(causal=True, position=Rotary(), scale=HeadScale(), ffn=Gated("silu", 1024))
BERT = StackConfig(
    dim=DIM,
    depth=DEPTH,
    heads=HEADS,
    position=Learned(512),
    norm=LayerNorm(1e-12),
    norm_order="post",
    embed_norm=LayerNorm(1e-12),
    final_norm=NoNorm(),
    ffn=Plain("gelu", 4 * DIM),
)


def races(dtype: torch.dtype, device: torch.device, *, quick: bool) -> Iterator[Race]:
    name = str(dtype).removeprefix("torch.")
    batch, length = (1, 64) if quick else (8, 256)
    yield Race(
        f"causal LM step {name} {DIM}x{DEPTH} T {length} B {batch}", language_models(batch, dtype, device, length)
    )
    yield Race(f"masked LM step {name} {DIM}x{DEPTH} T {length} B {batch}", masked(batch, length, dtype, device))
    yield Race(f"span LM step {name} {DIM}x{DEPTH}+{DEPTH} T {length} B {batch}", spans(batch, length, dtype, device))
    for kind, config, theirs in (("T5", T5, t5_block), ("Llama", LLAMA, llama_block)):
        yield Race(
            f"{kind} block training {name} T {length} B {batch}",
            blocks(kind, config, theirs, batch, length, dtype, device),
        )
    long = 128 if quick else 4096
    yield Race(
        f"causal LM step {name} {DIM}x{DEPTH} T {long} B 1, memory",
        language_models(1, dtype, device, long, {"zoo checkpointed": Checkpointed}),
    )
    if dtype == torch.float32:
        for rows in (1, 16):
            tokens = 16 if quick else 256
            yield Race(f"writing float32 batch {rows:<2} {tokens} tokens", writing(rows, tokens, device))


def _ids(batch: int, length: int, device: torch.device) -> Tensor:
    return torch.randint(4, VOCAB, (batch, length), generator=torch.Generator().manual_seed(0)).to(device)


def masked(batch: int, length: int, dtype: torch.dtype, device: torch.device) -> dict[str, Callable[[], Step]]:
    """BERT (Devlin et al. 2019): 15 % of the tokens are predicted. The others take logits of every token."""
    ids = _ids(batch, length, device)
    given, labels = mask_tokens(
        ids,
        torch.ones_like(ids, dtype=torch.bool),
        mask=3,
        random=(4, VOCAB),
        generator=torch.Generator().manual_seed(0),
    )
    chosen = labels.flatten() != IGNORED

    def ours() -> Step:
        torch.manual_seed(0)
        model = MaskedLM(BERT, VOCAB, types=2).to(device)
        head = model.head

        def loss() -> Tensor:
            states, _ = model.hidden(given)
            features = head.features(states[chosen])
            right = labels.flatten()[chosen]
            return token_loss(features, head.out.weight, right, head.out.bias).loss / len(right)

        return training_step(model, loss, dtype, device)

    def hf() -> Step:
        from transformers import BertConfig, BertForMaskedLM

        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=VOCAB,
            hidden_size=DIM,
            num_hidden_layers=DEPTH,
            num_attention_heads=HEADS,
            intermediate_size=4 * DIM,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        model = BertForMaskedLM(config).to(device)
        return training_step(model, lambda: model(input_ids=given, labels=labels).loss, dtype, device)

    def xt() -> Step:
        from x_transformers import Encoder, TransformerWrapper

        torch.manual_seed(0)
        layers = Encoder(dim=DIM, depth=DEPTH, heads=HEADS, attn_dim_head=DIM // HEADS, attn_flash=True, pre_norm=False)
        model = TransformerWrapper(num_tokens=VOCAB, max_seq_len=512, attn_layers=layers, tie_embedding=True).to(device)
        return training_step(
            model,
            lambda: F.cross_entropy(model(given).flatten(0, 1), labels.flatten(), ignore_index=IGNORED),
            dtype,
            device,
        )

    return {"HF BERT": hf, "zoo": ours, "x-transformers": xt}


def spans(batch: int, length: int, dtype: torch.dtype, device: torch.device) -> dict[str, Callable[[], Step]]:
    """T5 with gated feed-forwards: targets have a quarter of the sources' tokens, as spans of 3 at 15 % leave them."""
    source, target = _ids(batch, length, device), _ids(batch, length // 4, device)
    begun = F.pad(target[:, :-1], (1, 0))  # T5 begins with its padding token

    def ours() -> Step:
        torch.manual_seed(0)
        decoder = T5.replace(causal=True, cross=True)
        model = Seq2Seq(T5, decoder, VOCAB, embed_scale=False, head_scale=True, init="fan_in").to(device)

        def loss() -> Tensor:
            states, _ = model.hidden(source, begun)
            return token_loss(states, model.head.weight, target.flatten()).loss / target.numel()

        return training_step(model, loss, dtype, device)

    def hf() -> Step:
        from transformers import T5ForConditionalGeneration

        torch.manual_seed(0)
        model = T5ForConditionalGeneration(t5_config()).to(device)
        return training_step(
            model, lambda: model(input_ids=source, decoder_input_ids=begun, labels=target).loss, dtype, device
        )

    return {"HF T5": hf, "zoo": ours}


def t5_config() -> Any:
    from transformers import T5Config

    return T5Config(
        vocab_size=VOCAB,
        d_model=DIM,
        d_kv=DIM // HEADS,
        d_ff=1024,
        num_layers=DEPTH,
        num_heads=HEADS,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        use_cache=False,
    )


def t5_block() -> Callable[[Tensor], Tensor]:
    """transformers' first block of a T5 encoder, which makes the bias too."""
    from transformers.models.t5.modeling_t5 import T5Block

    return T5Block(t5_config(), has_relative_attention_bias=True)


def llama_block() -> nn.Module:
    """transformers' Llama block, with the tables of its rotation made in the step, as its model does."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

    config = LlamaConfig(
        hidden_size=DIM,
        intermediate_size=1024,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        num_hidden_layers=1,
        attn_implementation="sdpa",
    )

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.rotary = LlamaDecoderLayer(config, 0), LlamaRotaryEmbedding(config)

        def forward(self, x: Tensor) -> Tensor:
            places = torch.arange(x.shape[1], device=x.device).unsqueeze(0)
            out: Tensor = self.layer(x, position_embeddings=self.rotary(x, places))
            return out

    return Block()


def blocks(
    name: str,
    config: StackConfig,
    theirs: Callable[[], nn.Module],
    batch: int,
    length: int,
    dtype: torch.dtype,
    device: torch.device,
) -> dict[str, Callable[[], Step]]:
    """One block, forward and the gradients of all its inputs."""
    x = torch.randn(batch, length, DIM, generator=torch.Generator().manual_seed(0)).to(device)

    def step(parameters: list[Tensor], forward: Callable[[Tensor], Any]) -> Step:
        given = x.clone().requires_grad_()

        def run() -> object:
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                out = forward(given)
            return torch.autograd.grad(out.sum(), [given, *parameters])

        return run

    def ours() -> Step:
        stack = Stack(config.replace(depth=1, final_norm=NoNorm())).to(device)
        layout = Layout.dense(batch, length, device=device)
        return step(list(stack.parameters()), lambda given: stack(given.flatten(0, 1), layout))

    def hf() -> Step:
        block = theirs().to(device)
        return step(list(block.parameters()), lambda given: _first(block(given)))

    return {f"HF {name}": hf, "zoo": ours}


def _first(out: Tensor | tuple[Tensor, ...]) -> Tensor:
    return out if isinstance(out, Tensor) else out[0]


def writing(batch: int, tokens: int, device: torch.device) -> dict[str, Callable[[], Step]]:
    """Greedy, from one token, as many as asked for; all from a cache but nanoGPT-style code, which has none."""
    prompt = _ids(batch, 1, device)

    def ours() -> Step:
        torch.manual_seed(0)
        config = StackConfig(
            dim=DIM, depth=DEPTH, heads=HEADS, causal=True, position=Learned(tokens + 1), ffn=Plain("gelu", 4 * DIM)
        )
        model = CausalLM(config, VOCAB).to(device).eval()
        return lambda: model.generate(prompt, length=tokens)

    def hf() -> Step:
        torch.manual_seed(0)
        model: Any = HuggingFace(VOCAB, tokens + 1, DIM, DEPTH, HEADS).model.to(device).eval()
        exactly = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "use_cache": True}
        mask = torch.ones_like(prompt)
        return torch.no_grad()(lambda: model.generate(prompt, attention_mask=mask, pad_token_id=0, **exactly))

    def xt() -> Step:
        torch.manual_seed(0)
        from x_transformers import AutoregressiveWrapper

        wrapped = AutoregressiveWrapper(XTransformers(VOCAB, tokens + 1, DIM, DEPTH, HEADS).model).to(device).eval()
        return lambda: wrapped.generate(prompt, tokens, temperature=0.0, cache_kv=True)

    def by_hand() -> Step:
        torch.manual_seed(0)
        model = ByHand(VOCAB, tokens + 1, DIM, DEPTH, HEADS).to(device).eval()

        @torch.no_grad()
        def run() -> Tensor:
            ids = prompt
            for _ in range(tokens):
                ids = torch.cat((ids, model.scores(ids)[:, -1:].argmax(-1)), 1)
            return ids

        return run

    return {"HF GPT-2": hf, "zoo": ours, "x-transformers": xt} | ({"nanoGPT-style": by_hand} if batch == 1 else {})
