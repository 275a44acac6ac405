"""Attention against what it replaced, in every domain: the same networks with another mixer, of equal parameters.

    python experiments/mixers/compare.py [DOMAIN ...]        (text, vision, music, protein; default: all)

The built-in set and the shipped recipe of each domain, shortened where STEPS says so. Recurrent networks get narrower
feed-forwards, so that all have as many weights as attention's. The recipes were made for attention: each mixer learns
with their rate and with a quarter of it, by the first seed, and the one with the lower validation loss is what the
other seeds have. Writes results/mixers.json after every run, and leaves what stands there as it is.
"""

import csv
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.cli import main as zoo
from zoo.core import Attention, Plain, StackConfig
from zoo.core.mixer import Mixer
from zoo.core.recurrent import GRU, LSTM, RNN
from zoo.music.data import RuleHarmony
from zoo.provenance import keep

SEEDS = (1, 2, 3)
MIXERS: dict[str, Mixer] = {"Attention": Attention(), "LSTM": LSTM(), "GRU": GRU(), "RNN": RNN()}


@dataclass(frozen=True, kw_only=True)
class Domain:
    """`stacks`: the stacks of the model by their names in the YAML, with the settings that say how many weights a block
    has; `rate`: of the recipe; `figures`: of `zoo test`; `steps`: how much shorter than the recipe."""

    config: str
    stacks: dict[str, dict[str, Any]]
    rate: float
    figures: tuple[str, ...]
    steps: tuple[str, ...] = ()
    positions: bool = True  # are its positions embedded, so that a recurrent network can have them too?


DOMAINS = {
    "text": Domain(
        config="text/numbers.yaml",
        stacks={
            "encoder": {"dim": 64, "heads": 2, "ffn": 256},
            "decoder": {"dim": 64, "heads": 2, "ffn": 256, "causal": True, "cross": True},
        },
        rate=4e-3,
        figures=("exact", "nll"),
    ),
    "vision": Domain(
        config="vision/digits.yaml",
        stacks={"stack": {"dim": 48, "heads": 4, "ffn": 96}},
        rate=8e-3,
        figures=("accuracy", "nll"),
        steps=("--trainer.max_epochs", "20"),
    ),
    "music": Domain(
        config="music/harmony.yaml",
        stacks={"stack": {"dim": 96, "heads": 4, "ffn": 384, "causal": True}},
        rate=2e-2,
        figures=("nll", "accuracy"),
        steps=("--trainer.max_steps", "500"),
        positions=False,
    ),
    "protein": Domain(
        config="protein/planted.yaml",
        stacks={"stack": {"dim": 64, "heads": 4, "ffn": 256}},
        rate=1e-2,
        figures=("jacobian", "nll", "best_nll"),
        steps=("--trainer.max_steps", "500"),
    ),
}


def width(mixer: Mixer, dim: int, heads: int, ffn: int, **other: bool) -> int:
    """How wide the feed-forward is that makes up for what `mixer` has more than attention."""
    usual = StackConfig(dim=dim, depth=1, heads=heads, ffn=Plain("gelu", ffn), **other)
    more = mixer.parameters(usual) - Attention().parameters(usual)
    return ffn - round(more / (2 * dim + 1))


def settings(domain: Domain, name: str) -> list[str]:
    """The options that put a mixer into the recipe."""
    if name == "Attention":
        return []
    given = []
    for stack, sizes in domain.stacks.items():
        given += [f"--model.{stack}.mixer", name]
        given += [f"--model.{stack}.ffn.dim", str(width(MIXERS[name], **sizes))]
        given += [] if domain.positions else [f"--model.{stack}.position", "NoPosition"]
    return given


def run(domain: Domain, given: list[str], seed: int, rate: float, folder: Path) -> dict[str, Any]:
    """Train and test; what came of it."""
    train = ["fit", "--config", f"configs/{domain.config}", "--run", str(folder), "--seed_everything", str(seed)]
    train += ["--data.seed", str(seed), "--model.optimizer.lr", str(rate), "--trainer.enable_progress_bar", "false"]
    for argv in (train + list(domain.steps) + given, ["test", str(folder), "--trainer.enable_progress_bar", "false"]):
        if zoo(argv) != 0:
            raise SystemExit(f"zoo {' '.join(argv)}: failed")
    about = json.loads((folder / "run.json").read_text())
    (test,) = (json.loads(path.read_text()) for path in folder.glob("test*.json"))
    with (folder / "metrics.csv").open(newline="") as file:
        losses = [float(row["val/nll"]) for row in csv.DictReader(file) if row.get("val/nll")]
    return {
        "seed": seed,
        "rate": rate,
        "val_nll": losses[-1],
        **{figure: test[figure] for figure in domain.figures},
        "parameters": about["parameters"],
        "steps": about["legs"][-1]["to"],
        "seconds": about["legs"][-1]["seconds"],
    }


def planned(domain: Domain, runs: list[dict[str, Any]]) -> Iterator[tuple[int, float]]:
    """Seeds and rates; what comes after the first seed depends on what its runs have shown by then."""
    for share in (1, 0.25):
        yield SEEDS[0], domain.rate * share
    best = min((r for r in runs if r["seed"] == SEEDS[0]), key=lambda r: r["val_nll"])
    for seed in SEEDS[1:]:
        yield seed, best["rate"]


def main(names: list[str]) -> None:
    path = Path(__file__).parent / "results" / "mixers.json"
    kept = json.loads(path.read_text()) if path.is_file() else {"domains": {}, "seconds": 0.0}
    found, begin = kept["domains"], time.time() - kept["seconds"]
    rule = RuleHarmony().best("test")  # nats per token that the rule itself is left with
    for name in names or DOMAINS:
        domain = DOMAINS[name]
        for mixer in MIXERS:
            one = found.setdefault(name, {}).setdefault(mixer, {"options": settings(domain, mixer), "runs": []})
            for seed, rate in planned(domain, one["runs"]):
                if any((r["seed"], r["rate"]) == (seed, rate) for r in one["runs"]):
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    one["runs"].append(run(domain, one["options"], seed, rate, Path(folder) / "run"))
                print(name, mixer, one["runs"][-1], file=sys.stderr)
                keep(__file__, "mixers", begin, {"rule": rule, "domains": found}, seed=SEEDS[0])


if __name__ == "__main__":
    main(sys.argv[1:])
