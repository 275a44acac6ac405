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


def music() -> str:
    """JSB by grid: what models, counting and compressing make of the same tokens."""
    (base,) = results("music", "baselines.json")
    body = []
    for grid, counted in base["grids"].items():
        tokens, notes, steps = (counted[unit]["test"] for unit in ("tokens", "notes", "steps"))
        for run in results("music", f"{grid}-*.json"):
            test = run["tests"]["test"]
            body.append(
                [
                    grid,
                    run["name"].removeprefix(f"{grid} "),
                    f"{run['parameters'] / 1e6:.2f} M",
                    f"{min(point['val/nll'] for point in run['validation']):.3f}",
                    *(f"{test[unit]:.3f}" for unit in ("nll", "nll_note", "nll_step")),
                    f"{run['steps']:,} steps, {run['seconds'] / 60:.0f} min, {run['device']}",
                ]
            )
        for name, nats in counted["nats_a_token"].items():
            units = [nats["test"], nats["test"] * tokens / notes, nats["test"] * tokens / steps]
            order = f"order {counted['order']}" if name == "n-gram" else ""
            body.append([grid, name, "", f"{nats['val']:.3f}", *(f"{unit:.3f}" for unit in units), order])
    head = ["grid", "model", "parameters", "val, a token", "test, a token", "a note", "a time step", "run"]
    return rows(head, body)


def music_samples() -> str:
    body = [
        [name, f"{one['samples']:,}", f"{one['tokens']:,}", *(f"{held:,}" for held in one["hold"].values())]
        for run in results("music", "samples.json")
        for name, one in run["valid"].items()
    ]
    return rows(["samples of", "pieces", "tokens", "hold the grammar", "come back from tokens", "from MIDI"], body)


def music_sense() -> str:
    measured = {name: one for run in results("music", "samples.json") for name, one in run["sense"].items()}
    names = ["parallel fifths a bar", "parallel octaves a bar", "steps with a voice crossing"]
    names.append("chords that the test set has too")
    body = [[name, *(f"{one[name]:.3f}" for one in measured.values())] for name in names]
    spans = "span of the voices, semitones"
    body.append([spans, *(", ".join(f"{span:.0f}" for span in one[spans]) for one in measured.values())])
    for lag in ("1", "2", "4", "8"):
        similar = [one["self-similarity by bars"].get(lag) for one in measured.values()]
        body.append([f"the same {lag} bars later", *("" if x is None else f"{x:.3f}" for x in similar)])
    return rows(["measure", *measured], body)


def music_pop909() -> str:
    (run,) = results("music", "pop909.json")
    onset, length = run["onset_error_quarters"], run["length_error_quarters"]
    body = [
        ["files", f"{run['files']:,}"],
        ["the same from tokens, from MIDI", f"{run['identical']['tokens']:,}, {run['identical']['midi']:,}"],
        ["notes read, kept", f"{run['notes']['read']:,}, {run['notes']['kept']:,}"],
        ["error of onsets in quarters, mean, largest", f"{onset['mean']:.4f}, {onset['max']:.4f}"],
        ["error of lengths in quarters, mean, largest", f"{length['mean']:.4f}, {length['max']:.4f}"],
    ]
    body += [[what, f"{count:,}"] for what, count in run["changed"].items()]
    return rows(["", "POP909"], body)


def music_memory() -> str:
    (run,) = results("music", "relative-memory.json")
    names = list(next(iter(run["peak_bytes"].values())))
    body = [
        [f"{int(length):,}", *(f"{peaks[name] / 2**20:,.0f} MiB" for name in names)]
        for length, peaks in run["peak_bytes"].items()
    ]
    return rows(["n", *names], body)


TABLES: dict[str, Callable[[], str]] = {
    "multi30k": multi30k,
    "shakespeare": shakespeare,
    "signatures": signatures,
    "core": core,
    "count": count,
    "music": music,
    "music_samples": music_samples,
    "music_sense": music_sense,
    "music_memory": music_memory,
    "music_pop909": music_pop909,
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
