"""The same language model by other means: what a step is compared with. Equal sizes, no dropout, sums of one loss."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.core import Layout, Learned, Plain, Stack, StackConfig
from zoo.core.init import initialise
from zoo.train.losses import token_loss


class Ours(nn.Module):
    """A causal stack between an embedding and its transpose; the loss never holds the logits."""

    def __init__(self, vocab: int, length: int, dim: int, depth: int, heads: int):
        super().__init__()
        self.stack = Stack(
            StackConfig(
                dim=dim, depth=depth, heads=heads, causal=True, position=Learned(length), ffn=Plain("gelu", 4 * dim)
            )
        )
        self.embedding = nn.Embedding(vocab, dim)
        initialise(self, "normal", std=0.02)

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        states = self.stack(self.embedding(ids.flatten()), Layout.dense(*ids.shape, device=ids.device))
        return token_loss(states, self.embedding.weight, labels.flatten()).loss / labels.numel()


class Checkpointed(Ours):
    """Ours with blocks that keep their inputs alone: less memory, more time."""

    def __init__(self, vocab: int, length: int, dim: int, depth: int, heads: int):
        super().__init__(vocab, length, dim, depth, heads)
        for block in self.stack.blocks:
            block.checkpointed = True


class ByHand(nn.Module):
    """A decoder as it is mostly written by hand, nanoGPT's way: fused qkv, SDPA with is_causal, logits of every token,
    one table for embedding and head."""

    class Block(nn.Module):
        def __init__(self, dim: int, heads: int):
            super().__init__()
            self.heads = heads
            self.first, self.second = nn.LayerNorm(dim), nn.LayerNorm(dim)
            self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
            self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

        def forward(self, x: Tensor) -> Tensor:
            b, n, d = x.shape
            q, k, v = (
                part.view(b, n, self.heads, d // self.heads).transpose(1, 2)
                for part in self.qkv(self.first(x)).split(d, dim=2)
            )
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).contiguous().view(b, n, d))
            return x + self.down(F.gelu(self.up(self.second(x))))

    def __init__(self, vocab: int, length: int, dim: int, depth: int, heads: int):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab, dim), nn.Embedding(length, dim)
        self.blocks = nn.ModuleList(self.Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocab, bias=False)
        self.head.weight = self.tokens.weight
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=0.02)

    def scores(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.head(self.norm(x))
        return out

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.scores(ids).flatten(0, 1), labels.flatten())


class Torchs(nn.Module):
    """nn.TransformerEncoder with a causal mask."""

    def __init__(self, vocab: int, length: int, dim: int, depth: int, heads: int):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab, dim), nn.Embedding(length, dim)
        layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, 0.0, F.gelu, batch_first=True, norm_first=True)
        self.stack = nn.TransformerEncoder(layer, depth, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.head = nn.Linear(dim, vocab, bias=False)
        self.head.weight = self.tokens.weight
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length), persistent=False)

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        n = ids.shape[1]
        x = self.tokens(ids) + self.places(torch.arange(n, device=ids.device))
        x = self.stack(x, self.mask[:n, :n], is_causal=True)
        return F.cross_entropy(self.head(x).flatten(0, 1), labels.flatten())


class XTransformers(nn.Module):
    def __init__(self, vocab: int, length: int, dim: int, depth: int, heads: int):
        super().__init__()
        from x_transformers import Decoder, TransformerWrapper

        layers = Decoder(dim=dim, depth=depth, heads=heads, attn_dim_head=dim // heads, attn_flash=True)
        self.model = TransformerWrapper(num_tokens=vocab, max_seq_len=length, attn_layers=layers, tie_embedding=True)

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.model(ids).flatten(0, 1), labels.flatten())


class HuggingFace(nn.Module):
    def __init__(self, vocab: int, length: int, dim: int, depth: int, heads: int):
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(
            vocab_size=vocab,
            n_positions=length,
            n_embd=dim,
            n_layer=depth,
            n_head=heads,
            activation_function="gelu",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
        )
        self.model = GPT2LMHeadModel(config)

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.model(ids).logits.flatten(0, 1), labels.flatten())


LANGUAGE_MODELS: dict[str, type[nn.Module]] = {
    "nanoGPT-style": ByHand,
    "zoo": Ours,
    "nn.TransformerEncoder": Torchs,
    "x-transformers": XTransformers,
    "HF GPT-2": HuggingFace,
}
