"""Learning-rate schedules as settings. Each is a factor on the optimiser's `lr`, changed every step, at most 1."""

import math
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from zoo.core.setting import Setting
from zoo.errors import UserError


class Schedule(Setting):
    """A schedule."""

    def factor(self, step: int, total: float) -> float:
        """What the learning rate of optimiser step `step` (from 0) of `total` is multiplied with."""
        raise NotImplementedError

    def build(self, optimizer: Optimizer, total_steps: float) -> LambdaLR:
        """`total_steps` may be infinite. ValueError where this schedule needs to know its end."""
        if self.ends and math.isinf(total_steps):
            raise UserError(
                f"{type(self).__name__} must know its last step: set trainer.max_steps or trainer.max_epochs"
            )
        return LambdaLR(optimizer, lambda step: self.factor(step, total_steps))

    @property
    def ends(self) -> bool:
        """Whether the factor depends on the number of steps."""
        return False


def warm(step: int, warmup: int) -> float:
    """The linear rise from 1 / warmup to 1."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def check_share(name: str, value: float) -> None:
    """ValueError where a share is none."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} ({value}) must be in [0, 1]")


def check_warmup(warmup: int) -> None:
    """ValueError where a number of steps is negative."""
    if warmup < 0:
        raise ValueError(f"warmup ({warmup}) must be at least 0")


@dataclass(frozen=True)
class Constant(Schedule):
    """Always the same, after a linear rise over `warmup` steps."""

    warmup: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_warmup(self.warmup)

    def factor(self, step: int, total: float) -> float:
        return warm(step, self.warmup)


@dataclass(frozen=True)
class InverseSquareRoot(Schedule):
    """A linear rise, then 1 / sqrt(step): "Noam", Vaswani et al. 2017, section 5.3.

    The paper's rate is this with lr = (dim * warmup) ** -0.5.
    """

    warmup: int = 4000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_warmup(self.warmup)

    def factor(self, step: int, total: float) -> float:
        return min(warm(step, self.warmup), math.sqrt(max(self.warmup, 1) / (step + 1)))


@dataclass(frozen=True)
class Cosine(Schedule):
    """A linear rise, then half a cosine down to `floor` (Loshchilov & Hutter 2017)."""

    warmup: int = 0
    floor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_warmup(self.warmup)
        check_share("floor", self.floor)

    def factor(self, step: int, total: float) -> float:
        if step < self.warmup:
            return warm(step, self.warmup)
        gone = min(1.0, (step - self.warmup) / max(1.0, total - self.warmup))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * gone))

    @property
    def ends(self) -> bool:
        return True


@dataclass(frozen=True)
class WSD(Schedule):
    """Warm-up, level, then linearly down to `floor` over the last share, `decay` (Hu et al. 2024, section 4)."""

    warmup: int = 0
    decay: float = 0.2
    floor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_warmup(self.warmup)
        check_share("decay", self.decay)
        check_share("floor", self.floor)

    def factor(self, step: int, total: float) -> float:
        length = max(1.0, self.decay * total)
        left = min(1.0, max(0.0, (total - step) / length))
        return warm(step, self.warmup) * (self.floor + (1 - self.floor) * left)

    @property
    def ends(self) -> bool:
        return True
