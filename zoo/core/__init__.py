"""The Transformer, once: torch and einops, no domain.

config = StackConfig(dim=256, depth=4, heads=4, causal=True, position=Rotary())
stack = Stack(config)
y = stack(x, Layout.dense(batch=2, length=10))  # x, y: "t d"
"""

from zoo.core.attend import attend
from zoo.core.attention import Attention
from zoo.core.cache import Cache
from zoo.core.config import Bias, StackConfig
from zoo.core.decode import Constraint, Sampling
from zoo.core.feedforward import FeedForward, Gated, Plain
from zoo.core.head import LinearHead, TransformHead
from zoo.core.init import initialise
from zoo.core.layout import Layout
from zoo.core.mixer import FixedScale, HeadScale, Mixer, Scale
from zoo.core.network import Network
from zoo.core.norm import LayerNorm, NoNorm, Norm, RMSNorm
from zoo.core.pool import First, Last, LearnedQuery, Max, Mean, Pool, Pooler, Standardised
from zoo.core.position import (
    ALiBi,
    EvenStretch,
    Learned,
    LongStretch,
    NoPosition,
    NoStretch,
    Peaks,
    Periodic,
    Position,
    RelativeBuckets,
    Rotary,
    Sinusoidal,
    Skewed,
    Stretch,
)
from zoo.core.recurrent import GRU, LSTM, RNN
from zoo.core.stack import Stack
from zoo.core.writer import Context, Writer

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "ALiBi",
    "Attention",
    "Bias",
    "Cache",
    "Constraint",
    "Context",
    "EvenStretch",
    "FeedForward",
    "First",
    "FixedScale",
    "Gated",
    "HeadScale",
    "Last",
    "LayerNorm",
    "Layout",
    "Learned",
    "LearnedQuery",
    "LinearHead",
    "LongStretch",
    "Max",
    "Mean",
    "Mixer",
    "Network",
    "NoNorm",
    "NoPosition",
    "NoStretch",
    "Norm",
    "Peaks",
    "Periodic",
    "Plain",
    "Pool",
    "Pooler",
    "Position",
    "RMSNorm",
    "RelativeBuckets",
    "Rotary",
    "Sampling",
    "Scale",
    "Sinusoidal",
    "Skewed",
    "Stack",
    "StackConfig",
    "Standardised",
    "Stretch",
    "TransformHead",
    "Writer",
    "attend",
    "initialise",
]
