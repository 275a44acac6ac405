"""What a domain shows on the tour. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Example:
    """One worked example: what went in, what came out, what would have been right."""

    given: str
    made: str
    right: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawing on the page: inline SVG with a caption."""

    svg: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Sound:
    """Something to hear on the page: a WAV file's bytes with a caption."""

    wav: bytes
    caption: str


@dataclass(frozen=True, kw_only=True)
class Stop:
    """What a domain learned in its minute."""

    domain: str
    tokens: str  # what becomes a token
    task: str
    model: str
    parameters: int
    metric: str  # what `score` and `best` count
    score: float
    best: float  # the best possible score
    seconds: float  # of the whole stop: data, training, scoring
    steps: int
    stacks: Mapping[str, Mapping[str, Any]]  # the settings of each stack of the model, as plain values
    emblem: str  # inline SVG: the picture that stands beside those of the other domains
    examples: tuple[Example, ...] = ()
    pictures: tuple[Picture, ...] = ()
    sounds: tuple[Sound, ...] = ()
    digits: int = 1  # of score and best behind the point
    unit: str = "nats per token"  # of the losses
    losses: tuple[float, ...] = field(default=(), repr=False)  # of each step

    def scored(self, value: float) -> str:
        """A score as it is shown."""
        return f"{value:.{self.digits}f}"
