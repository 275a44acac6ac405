"""`zoo tour`: every domain trains on its built-in data, a table, and a page to look at."""

import importlib
import os
import platform
import sys
from pathlib import Path

from zoo.atomic import write_atomically
from zoo.errors import UserError, nearest
from zoo.options import Options, check_ours
from zoo.tour import STOPS, Stop


def main(argv: list[str]) -> int:
    parser = Options(prog="zoo tour", description="Train every domain on its built-in data; write a page about it.")
    parser.add_argument("domain", nargs="*", help=f"which stops (default: all of {', '.join(STOPS)})")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each domain (default 60)")
    parser.add_argument("--out", type=Path, default=Path("tour"), help="folder of the page (default tour)")
    given = parser.parse_args(argv)
    if given.seconds < 5:
        raise UserError(f"--seconds must be at least 5, got {given.seconds:g}")
    for name in given.domain:
        if name not in STOPS:
            raise UserError(f"unknown domain {name!r}{nearest(name, list(STOPS))}")
    from zoo.tour import beside, page

    path, drawing = given.out / "index.html", given.out / "beside.svg"
    check_ours("--out", path, page.BEGINS)
    check_ours("--out", drawing, beside.BEGINS)
    stops: list[Stop] = [importlib.import_module(STOPS[n]).run(given.seconds) for n in given.domain or STOPS]
    given.out.mkdir(parents=True, exist_ok=True)
    about = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}."
    write_atomically(path, page.page(stops, about))
    write_atomically(drawing, beside.as_file(beside.beside(stops)))
    print(table(stops))
    for stop in stops:
        if stop.examples:
            print(f"\n{stop.task}:")
        for example in stop.examples:
            mark = "=" if example.made == example.right else f"instead of {example.right!r}"
            print(f"  {example.given}\n    {example.made}  {mark}")
    print(f"\nthe page: {path}", file=sys.stderr)
    return 0


def table(stops: list[Stop]) -> str:
    """The results in columns."""
    head = ("task", "model", "parameters", "score", "best possible", "seconds")
    rows = [
        (
            s.task,
            s.model,
            f"{s.parameters:,}",
            f"{s.scored(s.score)} {s.metric}",
            s.scored(s.best),
            f"{s.seconds:.0f}",
        )
        for s in stops
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
