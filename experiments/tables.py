"""Tables of results, made from the result files, set into the documents between their marks.

    python experiments/tables.py            rewrites every marked table
    python experiments/tables.py --check    exit code 1 where a table is not what the files say

A mark is `<!-- table: NAME -->`, closed by `<!-- end -->`; NAME is a function of TABLES.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DOCUMENTS = ("README.md", "docs/design.md", "experiments/*/README.md")
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def results(topic: str, pattern: str = "*.json") -> list[dict[str, Any]]:
    files = sorted((HERE / topic / "results").glob(pattern))
    return [json.loads(path.read_text()) | {"file": f"experiments/{topic}/results/{path.name}"} for path in files]


def rows(head: list[str], body: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in body]) + "\n"


def multi30k() -> str:
    body = [
        [
            run["name"],
            f"{run['parameters'] / 1e6:.1f} M",
            ", ".join(f"{name.removeprefix('test_')} {test['bleu']:.1f}" for name, test in run["tests"].items()),
            ", ".join(f"{test['chrf']:.1f}" for test in run["tests"].values()),
            f"{run['steps']:,}",
            f"{run['seconds'] / 60:.0f} min",
            run["device"],
        ]
        for run in results("multi30k")
    ]
    return rows(["run", "parameters", "sacreBLEU", "chrF", "steps", "time", "device"], body)


def shakespeare() -> str:
    body = [
        [
            run["name"],
            f"{run['parameters'] / 1e6:.1f} M",
            f"{run['tests']['test']['nll']:.3f}",
            f"{run['steps']:,}",
            f"{run['seconds'] / 60:.0f} min",
            run["device"],
        ]
        for run in results("shakespeare")
    ]
    return rows(["run", "parameters", "nats a character", "steps", "time", "device"], body)


def signatures() -> str:
    tests = [test for run in results("multi30k") for test in run["tests"].values()]
    found = {(name, value) for test in tests for name, value in test.items() if name.endswith("_signature")}
    return "".join(f"- {name.removesuffix('_signature')}: `{value}`\n" for name, value in sorted(found))


def core() -> str:
    body = []
    for run in results("bench", "core-*.json"):
        for race in run["results"]:
            if not race["case"].startswith(("causal LM", "encoder block", "decoder block", "norm")):
                continue
            others = [(name, c) for name, c in race["candidates"].items() if name != race["reference"]]
            cells = ", ".join(f"{name} {c['ratio']:.2f}" for name, c in others)
            body.append([race["case"], f"{race['reference']} 1", cells, f"{run['device']}, torch {run['torch']}"])
    return rows(["case", "reference", "share of its time (below 1 is faster)", "machine"], body)


def count() -> str:
    (run,) = results("design", "count.json")
    counts: dict[str, dict[str, Any]] = run["counts"]
    names = ["modules", "settings classes", "settings", "branches", "statements", "a new position scheme touches"]
    body = [["architectures of 13", *(str(len(c["architectures"])) for c in counts.values())]]
    body += [[name, *(str(c[name]) for c in counts.values())] for name in names]
    return rows(["", *counts], body)


TABLES: dict[str, Callable[[], str]] = {
    "multi30k": multi30k,
    "shakespeare": shakespeare,
    "signatures": signatures,
    "core": core,
    "count": count,
}


def made(text: str) -> str:
    """A document with its tables as the files say."""
    return MARKED.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def main(argv: list[str]) -> int:
    stale = []
    for pattern in DOCUMENTS:
        for path in sorted(HERE.parent.glob(pattern)):
            text = path.read_text()
            if made(text) != text:
                stale.append(path)
                if "--check" not in argv:
                    path.write_text(made(text))
    for path in stale:
        print(f"{'not what the results say' if '--check' in argv else 'rewritten'}: {path}")
    return int("--check" in argv and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
