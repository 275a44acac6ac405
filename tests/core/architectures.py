"""Every shipped architecture made tiny, what no shipped one uses, and the recurrent mixers."""

from pathlib import Path

from zoo.check.matrix import architectures, recurrent
from zoo.check.tiny import build, context, one_context, tiny
from zoo.core import ALiBi, Peaks, Periodic, StackConfig

__all__ = ["ALL", "CAUSAL", "FULL_SIZE", "TINY", "build", "context", "one_context", "tiny"]

ARCH = Path(__file__).parents[2] / "configs" / "arch"
FULL_SIZE = architectures(ARCH)
# What a user may set and no shipped architecture does: no position at all, and a bias by distance (BLOOM's and MPT's),
# heads that look at neighbours, places in a cycle.
EXTRA = {
    "no position": StackConfig(dim=24, depth=2, heads=4, causal=True),
    "alibi": StackConfig(dim=24, depth=2, heads=6, position=ALiBi()),
    "alibi/causal": StackConfig(dim=24, depth=2, heads=4, causal=True, position=ALiBi()),
    "peaks": StackConfig(dim=24, depth=2, heads=4, position=Peaks((-3, -1, 1, 3), (1.0, 1.0, 1.0, 0.1))),
    "periodic/causal": StackConfig(dim=24, depth=2, heads=4, causal=True, position=Periodic(3)),
}
TINY = {name: tiny(config) for name, config in FULL_SIZE.items()} | EXTRA
ALL = TINY | recurrent()
CAUSAL = {name: config for name, config in ALL.items() if config.causal}
