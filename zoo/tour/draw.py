"""Drawings as inline SVG: no library, no request to anywhere."""

import re
from collections.abc import Sequence
from html import escape


def curve(values: Sequence[float], width: int = 640, height: int = 180) -> str:
    """A line through `values`, from the first step to the last, with its ends labelled."""
    if not values:
        return ""
    top = max(values)
    across, up = (width - 60) / max(len(values) - 1, 1), (height - 40) / (top or 1)
    points = " ".join(f"{50 + i * across:.1f},{height - 25 - v * up:.1f}" for i, v in enumerate(values))
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="loss by step">'
        f'<line x1="50" y1="{height - 25}" x2="{width - 10}" y2="{height - 25}" class="axis"/>'
        f'<line x1="50" y1="10" x2="50" y2="{height - 25}" class="axis"/>'
        f'<polyline points="{points}" class="line"/>'
        f'<text x="45" y="20" text-anchor="end">{top:.2f}</text>'
        f'<text x="45" y="{height - 22}" text-anchor="end">0</text>'
        f'<text x="50" y="{height - 6}">step 1</text>'
        f'<text x="{width - 10}" y="{height - 6}" text-anchor="end">{len(values)}</text></svg>'
    )


def heat(rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]], cell: int = 26) -> str:
    """A map of `values` (0 to 1) with a label for each row and column."""
    left = 12 + 8 * max(map(len, rows), default=0)
    above = 12 + 7 * max(map(len, columns), default=0)
    width, height = left + cell * len(columns) + 10, above + cell * len(rows) + 6
    parts = [f'<svg viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img">']
    for j, name in enumerate(columns):
        x, y = left + cell * j + cell / 2 + 4, above - 6
        parts.append(f'<text x="{x:.0f}" y="{y}" transform="rotate(-90 {x:.0f} {y})">{escape(name)}</text>')
    for i, (name, row) in enumerate(zip(rows, values, strict=True)):
        y = above + cell * i
        parts.append(f'<text x="{left - 6}" y="{y + cell / 2 + 4:.0f}" text-anchor="end">{escape(name)}</text>')
        parts += [
            f'<rect x="{left + cell * j}" y="{y}" width="{cell - 1}" height="{cell - 1}" class="heat" '
            f'fill-opacity="{value:.3f}"><title>{escape(name)} / {escape(column)}: {value:.2f}</title></rect>'
            for j, (column, value) in enumerate(zip(columns, row, strict=True))
        ]
    return "".join(parts) + "</svg>"


def bars(boxes: Sequence[tuple[float, float, float]], unit: str, width: int = 640, height: int = 200) -> str:
    """Boxes (begin, end, level): time in `unit` to the right, level upwards: a piano roll."""
    if not boxes:
        return ""
    last = max(end for _, end, _ in boxes)
    low, high = min(level for *_, level in boxes) - 1, max(level for *_, level in boxes) + 1
    across, up = (width - 20) / last, (height - 30) / (high - low + 1)
    shapes = "".join(
        f'<rect x="{10 + begin * across:.1f}" y="{10 + (high - level) * up:.1f}" '
        f'width="{max((end - begin) * across - 1, 1):.1f}" height="{up:.1f}" class="heat"/>'
        for begin, end, level in boxes
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="notes over time">{shapes}'
        f'<text x="10" y="{height - 5}">0</text>'
        f'<text x="{width - 10}" y="{height - 5}" text-anchor="end">{last:.0f} {escape(unit)}</text></svg>'
    )


def size(svg: str) -> tuple[float, float]:
    """Width and height of a drawing of this module."""
    wide, high = re.findall(r'viewBox="0 0 (\S+) (\S+)"', svg)[0]
    return float(wide), float(high)


def placed(svg: str, x: float, y: float, width: float, height: float) -> str:
    """A drawing of this module as a part of another, as large as fits the box."""
    opened = re.sub(r' style="[^"]*"', "", svg[: svg.index(">")]) + svg[svg.index(">") :]
    return opened.replace("<svg ", f'<svg x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" ', 1)


def tiles(drawings: Sequence[str], columns: int, gap: int = 8) -> str:
    """Drawings of one size in rows of `columns`, as one."""
    wide, high = size(drawings[0])
    rows = -(-len(drawings) // columns)
    parts = [
        placed(drawing, i % columns * (wide + gap), i // columns * (high + gap), wide, high)
        for i, drawing in enumerate(drawings)
    ]
    box = f"0 0 {columns * (wide + gap) - gap:g} {rows * (high + gap) - gap:g}"
    return f'<svg viewBox="{box}" role="img">{"".join(parts)}</svg>'


def raster(values: Sequence[Sequence[float]], over: Sequence[Sequence[float]], label: str, width: int = 104) -> str:
    """A square picture of `values` (0 black to 1 white), a coarser map `over` it (0 nothing to 1), its label below."""
    parts = [
        f'<svg viewBox="0 0 {width} {width + 18}" style="width:{width}px;margin-right:8px" role="img">'
        f'<rect width="{width}" height="{width}" fill="black"/>'
    ]
    for rows, kind, strength in ((values, 'fill="white"', 1.0), (over, 'class="heat"', 0.75)):
        high, wide = width / len(rows), width / len(rows[0])
        parts += [
            f'<rect x="{j * wide:.4g}" y="{i * high:.4g}" width="{wide:.4g}" height="{high:.4g}" {kind} '
            f'fill-opacity="{strength * value:.3f}"/>'
            for i, row in enumerate(rows)
            for j, value in enumerate(row)
            if value > 0
        ]
    return "".join(parts) + f'<text x="0" y="{width + 14}">{escape(label)}</text></svg>'
