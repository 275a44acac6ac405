"""The Transformer, once: torch and einops, no domain.

Axes: b sequences, n positions of the longest, t real tokens of all sequences, d model width. A stack takes the real
tokens one after another, "t d", and a Layout that says which sequence each belongs to:

    stack = Stack(StackConfig(dim=32, depth=2, heads=4, causal=True, position=Rotary()))
    x = torch.randn(2, 10, 32)  # "b n d", embedded tokens
    keep = torch.ones(2, 10, dtype=torch.bool)  # "b n", True = real token
    keep[1, 7:] = False  # the second sequence has 7 tokens, on whichever side its padding stands

    layout = Layout.of(x, keep)
    states = stack(layout.take(x, keep), layout)  # "t d" to "t d": (17, 32)
    layout.give(states, keep)  # "b n d" again, zero at padding: (2, 10, 32)

Without padding: `Layout.dense(2, 10)`, and `x.flatten(0, 1)`.
"""

from zoo.core.attend import attend
from zoo.core.attention import Attention
from zoo.core.block import Block
from zoo.core.cache import Cache, KeyValueState, RecurrentState, State
from zoo.core.config import Bias, StackConfig
from zoo.core.decode import Constraint, Sampling
from zoo.core.distance import ALiBi, Peaks, RelativeBuckets, Skewed, StaticBias
from zoo.core.feedforward import FeedForward, Gated, Plain
from zoo.core.head import TransformHead
from zoo.core.init import initialise
from zoo.core.layout import Layout
from zoo.core.linear import Linear
from zoo.core.mixer import FixedScale, Frame, HeadScale, Mixer, MixerModule, Scale
from zoo.core.network import Network
from zoo.core.norm import LayerNorm, NoNorm, Norm, RMSNorm
from zoo.core.pool import First, Last, LearnedQuery, Max, Mean, Pool, Pooler, Standardised
from zoo.core.position import Learned, NoPosition, Periodic, Position, PositionModule, Sinusoidal
from zoo.core.recurrent import GRU, LSTM, RNN
from zoo.core.rotary import EvenStretch, LongStretch, NoStretch, Rotary, Stretch
from zoo.core.setting import Setting
from zoo.core.stack import Stack
from zoo.core.writer import Context, Writer

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "ALiBi",
    "Attention",
    "Bias",
    "Block",
    "Cache",
    "Constraint",
    "Context",
    "EvenStretch",
    "FeedForward",
    "First",
    "FixedScale",
    "Frame",
    "Gated",
    "HeadScale",
    "KeyValueState",
    "Last",
    "LayerNorm",
    "Layout",
    "Learned",
    "LearnedQuery",
    "Linear",
    "LongStretch",
    "Max",
    "Mean",
    "Mixer",
    "MixerModule",
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
    "PositionModule",
    "RMSNorm",
    "RecurrentState",
    "RelativeBuckets",
    "Rotary",
    "Sampling",
    "Scale",
    "Setting",
    "Sinusoidal",
    "Skewed",
    "Stack",
    "StackConfig",
    "Standardised",
    "State",
    "StaticBias",
    "Stretch",
    "TransformHead",
    "Writer",
    "attend",
    "initialise",
]
