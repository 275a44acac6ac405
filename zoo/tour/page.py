"""The tour's page: one HTML file that asks nobody for anything."""

import base64
from collections.abc import Sequence
from html import escape

from zoo import __version__
from zoo.tour.beside import beside, settings
from zoo.tour.draw import curve
from zoo.tour.stop import Sound, Stop
from zoo.weights.compare import shown

# What every such page begins with: by it the verb knows one of its own, which it may replace.
BEGINS = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><title>zoo tour</title>'
)

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60666d; --paper: #fbfaf7; --line: #d9d6cf;
  --mark: #9a3b1f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e6e1; --soft: #a2a6ab; --paper: #17191c; --line: #363a3f; --mark: #e88a66; }
}
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 0 auto; padding: 2rem 1.2rem 4rem; }
h1 { font-size: 1.9rem; margin: 0; } h2 { margin: 2.6rem 0 .3rem; } p, figcaption { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .45rem .8rem .45rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; } td.number, th.number { text-align: right; }
figure { margin: 1.4rem 0; } svg { width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }
.axis { stroke: var(--line); } .line { fill: none; stroke: var(--mark); stroke-width: 1.6; }
.heat { fill: var(--mark); }
.name { font-size: 17px; font-weight: 600; } svg .name, svg .score { fill: var(--ink); }
.wrong { color: var(--mark); }
"""


def page(stops: Sequence[Stop], about: str) -> str:
    """The whole page. `about`: the machine and the day, in a line."""
    sections = "".join(map(_section, stops))
    return (
        f"{BEGINS}<style>{_STYLE}</style></head><body>"
        "<h1>One Transformer, every domain</h1>"
        f"<p>zoo {escape(__version__)}. Each model below is the same block, trained from nothing just now. "
        f"{escape(about)}</p><figure>{beside(stops)}</figure>{_table(stops)}{_settings(stops)}{sections}</body></html>\n"
    )


def _table(stops: Sequence[Stop]) -> str:
    head = "<tr><th>task</th><th>model</th><th class='number'>parameters</th><th class='number'>score</th>"
    head += "<th class='number'>best possible</th><th class='number'>seconds</th></tr>"
    rows = "".join(
        f"<tr><td>{escape(s.task)}</td><td>{escape(s.model)}</td><td class='number'>{s.parameters:,}</td>"
        f"<td class='number'>{s.scored(s.score)} {escape(s.metric)}</td><td class='number'>{s.scored(s.best)}</td>"
        f"<td class='number'>{s.seconds:.0f}</td></tr>"
        for s in stops
    )
    return f"<div class='scroll'><table>{head}{rows}</table></div>"


def _settings(stops: Sequence[Stop]) -> str:
    """Where the stacks differ, a column each; what they share is said in a line."""
    stacks, differ, shared = settings(stops)
    if len(stacks) < 2:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in ("setting", *stacks))
    rows = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{escape(shown(value))}</td>' for value in values)}</tr>"
        for name, values in differ.items()
    )
    same = ", ".join(f"{escape(name)} {escape(shown(value))}" for name, value in shared.items())
    return (
        f"<h2>One block, {len(stacks)} stacks</h2><p>They are instances of one class. These settings tell them apart:"
        f"</p><div class='scroll'><table><tr>{head}</tr>{rows}</table></div><p>All share: {same}.</p>"
    )


def _section(stop: Stop) -> str:
    rows = "".join(
        f"<tr><td>{escape(e.given)}</td><td{' class=wrong' if e.made != e.right else ''}>{escape(e.made)}</td>"
        f"<td>{escape(e.right)}</td></tr>"
        for e in stop.examples
    )
    examples = (
        ""
        if not rows
        else f"<div class='scroll'><table><tr><th>given</th><th>made</th><th>right</th></tr>{rows}</table></div>"
    )
    pictures = "".join(
        f"<figure><div class='scroll'>{p.svg}</div><figcaption>{escape(p.caption)}</figcaption></figure>"
        for p in stop.pictures
    )
    sounds = "".join(map(_sound, stop.sounds))
    caption = f"Loss in {stop.unit} over {stop.steps} steps."
    loss = f"<figure>{curve(stop.losses)}<figcaption>{caption}</figcaption></figure>" if stop.losses else ""
    return f"<h2>{escape(stop.domain)}</h2><p>{escape(stop.task)}</p>{examples}{pictures}{sounds}{loss}"


def _sound(sound: Sound) -> str:
    data = base64.b64encode(sound.wav).decode()
    player = f"<audio controls src='data:audio/wav;base64,{data}'></audio>"
    return f"<figure>{player}<figcaption>{escape(sound.caption)}</figcaption></figure>"
