"""The domains side by side: one drawing of what each learned, and the settings that tell their stacks apart."""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from zoo.tour.draw import placed, size
from zoo.tour.stop import Stop
from zoo.weights.compare import differences, side_by_side

PANEL, GAP, PICTURE, HEIGHT = 225, 20, 200, 300  # of a panel: width, space between two, its picture's height, height

# What every such file begins with: by it the verb knows one of its own, which it may replace.
BEGINS = '<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="zoo tour"'

# What the drawing looks like outside the page, which has colours of its own.
_STYLE = (
    "text { font: 12px system-ui, sans-serif; fill: #60666d } .name, .score { fill: #1c2024 } "
    ".name { font-size: 17px; font-weight: 600 } .heat { fill: #9a3b1f }"
)


def beside(stops: Sequence[Stop]) -> str:
    """A panel for each domain, from left to right: its tokens, its picture, its score. Inline SVG."""
    width = len(stops) * (PANEL + GAP) - GAP
    panels = "".join(_panel(stop, i * (PANEL + GAP)) for i, stop in enumerate(stops))
    return f'<svg viewBox="0 0 {width} {HEIGHT}" style="max-width:{width}px" role="img">{panels}</svg>'


def _panel(stop: Stop, x: int) -> str:
    return (
        f'<text x="{x}" y="16" class="name">{escape(stop.domain)}</text>'
        f'<text x="{x}" y="36">tokens: {escape(stop.tokens)}</text>'
        f"{placed(stop.emblem, x, 48, PANEL, PICTURE)}"
        f'<text x="{x}" y="{HEIGHT - 28}" class="score">{stop.scored(stop.score)} {escape(stop.metric)}</text>'
        f'<text x="{x}" y="{HEIGHT - 10}">{stop.parameters:,} parameters, {stop.seconds:.0f} s</text>'
    )


def as_file(svg: str, margin: int = 16) -> str:
    """The drawing as a file of its own, on paper: smaller, since nothing in an image answers to a pointer."""
    still = re.sub(r"<title>.*?</title>", "", svg)
    still = re.sub(r'<rect [^>]*fill-opacity="0\.000"[^>]*></rect>', "", still)
    wide, high = size(still)
    width, height = wide + 2 * margin, high + 2 * margin
    within = placed(still, margin, margin, wide, high)
    box = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    paper = f'<rect width="{width:g}" height="{height:g}" fill="#fbfaf7"/>'
    return f"{BEGINS} {box}><style>{_STYLE}</style>{paper}{within}</svg>\n"


def settings(stops: Sequence[Stop]) -> tuple[list[str], dict[str, tuple[Any, ...]], dict[str, Any]]:
    """The names of all stacks, the settings in which any two differ (a value a stack), and those that all share."""
    stacks = {
        stop.domain if len(stop.stacks) == 1 else f"{stop.domain} {name}": stack
        for stop in stops
        for name, stack in stop.stacks.items()
    }
    rows, differ = side_by_side(*stacks.values()), differences(*stacks.values())
    owners = list(dict.fromkeys(name.partition(".")[0] for name in rows))  # beside whom stands what later ones have
    names = sorted(rows, key=lambda name: owners.index(name.partition(".")[0]))
    shared = {name: rows[name][0] for name in names if name not in differ}
    return list(stacks), {name: rows[name] for name in names if name in differ}, shared
