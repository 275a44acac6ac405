"""The settings of a stack. A published architecture is a short list of them (configs/arch), not a new file."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from zoo.core.attention import Attention
from zoo.core.feedforward import FeedForward, Plain
from zoo.core.mixer import FixedScale, HeadScale, Mixer, Scale
from zoo.core.norm import LayerNorm, NoNorm, Norm
from zoo.core.position import NoPosition, Position
from zoo.core.setting import check_kinds, read, to_plain

__all__ = ["Bias", "FixedScale", "HeadScale", "StackConfig"]


@dataclass(frozen=True, kw_only=True)
class Bias:
    """Which linear maps of a block add a bias: the input side of its mixer, the output side, the feed-forward."""

    qkv: bool = True
    out: bool = True
    ffn: bool = True


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """A stack of blocks, from embedded tokens to states, both "t d". ValueError where settings do not fit each other.

    An encoder is a stack, a decoder is a stack with `cross=True`, and an encoder-decoder is two of them.
    """

    dim: int  # d: width of a token
    depth: int  # blocks
    heads: int  # h: query heads
    kv_heads: int | None = None  # g: key/value heads, each shared by h/g queries (Ainslie et al. 2023); None: h
    head_dim: int | None = None  # e: width of a head; None: d / h
    mixer: Mixer = field(default_factory=Attention)  # what moves information between tokens
    causal: bool = False  # a token sees itself and the past only
    cross: bool = False  # blocks also look at a context
    position: Position = field(default_factory=NoPosition)
    norm: Norm = field(default_factory=LayerNorm)  # of every branch; the other norms are not changed by it
    norm_order: Literal["pre", "post"] = "pre"  # before the branch, or after its residual sum
    embed_norm: Norm = field(default_factory=NoNorm)  # after position.embed
    # After the last block. An all-RMSNorm model sets `norm` and this; a post-norm one mostly sets NoNorm here.
    final_norm: Norm = field(default_factory=LayerNorm)
    qk_norm: Norm = field(default_factory=NoNorm)  # over each head of queries and keys, before rotation
    scale: Scale = field(default_factory=HeadScale)  # of the scores
    bias: Bias = field(default_factory=Bias)
    ffn: FeedForward = field(default_factory=Plain)
    dropout: float = 0.0  # of embeddings and branches
    attention_dropout: float = 0.0  # of attention weights; leaves the fast kernels
    drop_path: float = 0.0  # of whole branches for a sequence, growing linearly to this with depth (Huang et al. 2016)
    layer_scale: float | None = None  # first value of a learned gain on each branch (Touvron et al. 2021)

    def __post_init__(self) -> None:
        check_kinds(self)
        for name in ("dim", "depth", "heads", "kv_heads", "head_dim"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} ({value}) must be at least 1")
        for name in ("dropout", "attention_dropout", "drop_path"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} ({getattr(self, name)}) must be in [0, 1)")
        if self.head_dim is None and self.dim % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide dim ({self.dim}); or set head_dim")
        if self.heads % self.key_heads:
            raise ValueError(f"kv_heads ({self.key_heads}) must divide heads ({self.heads})")
        self.position.check(self)
        self.mixer.check(self)

    @property
    def key_heads(self) -> int:
        """g: key/value heads."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def head_width(self) -> int:
        """e: width of a head."""
        return self.dim // self.heads if self.head_dim is None else self.head_dim

    def parameters(self) -> int:
        """Trainable numbers of the stack that these settings build."""
        branches = 3 if self.cross else 2
        gains = branches * self.dim if self.layer_scale is not None else 0
        block = branches * self.norm.parameters(self.dim) + gains
        block += self.mixer.parameters(self) + self.ffn.parameters(self)
        block += Attention().parameters(self) if self.cross else 0
        ends = self.embed_norm.parameters(self.dim) + self.final_norm.parameters(self.dim)
        return self.depth * block + self.position.parameters(self) + ends

    def replace(self, **changes: Any) -> "StackConfig":
        """These settings with some changed."""
        return replace(self, **changes)

    def to_plain(self) -> dict[str, Any]:
        """Plain values (for JSON or YAML) from which `from_plain` makes an equal config."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_plain(cls, values: Mapping[str, Any], where: str = "stack") -> "StackConfig":
        """ValueError names the setting that does not exist or fit, and the nearest that does. Nothing is imported."""
        return read(cls, values, where)
