"""What a domain shows on the tour. Standard library only."""

from dataclasses import dataclass, field


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
class Stop:
    """What a domain learned in its minute."""

    domain: str
    task: str
    model: str
    parameters: int
    metric: str  # what `score` and `best` count
    score: float
    best: float  # the best possible score
    seconds: float  # of the whole stop: data, training, scoring
    steps: int
    examples: tuple[Example, ...] = ()
    pictures: tuple[Picture, ...] = ()
    losses: tuple[float, ...] = field(default=(), repr=False)  # of each step, nats a token
