"""Settings of the TREC classifier held against each other on held-out training questions: none of the test's.

    python experiments/sentences/search.py [NAME ...]

A quarter of the training questions validates. Each variant of configs/text/trec.yaml is trained with three seeds, and
what counts is the accuracy after the last epoch, the mean of the seeds. Writes results/search.json, which keeps what it
held of other variants.
"""

import csv
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from zoo.cli import main as zoo
from zoo.provenance import keep

SEEDS = (21, 22, 23)
VARIANTS: dict[str, list[str]] = {
    "as shipped": [],
    "norms before the branches": ["--model.stack.norm", "LayerNorm"],
    "no norm at the end either": ["--model.stack.final_norm", "NoNorm"],
    "half the feed-forward": ["--model.stack.ffn.dim", "256"],
    "a twentieth of the decay": ["--model.optimizer.weight_decay", "0.1"],
    "dropout 0.3": ["--model.stack.dropout", "0.3"],
    "words dropped 0.2": ["--model.word_dropout", "0.2"],
    "the settings before": [
        *("--model.stack.norm", "LayerNorm", "--model.stack.ffn.dim", "256", "--model.stack.dropout", "0.3"),
        *("--model.word_dropout", "0.2", "--model.optimizer.weight_decay", "0.1"),
    ],
}


def accuracy(name: str, seed: int, folder: Path) -> float:
    run = folder / f"{name}-{seed}".replace(" ", "-").replace(",", "")
    given = ["--config", "configs/text/trec.yaml", "--run", str(run), "--seed_everything", str(seed)]
    quiet = ["--trainer.enable_progress_bar", "false", "--data.held_out", "0.25"]
    if zoo(["fit", *given, *quiet, *VARIANTS[name]]) != 0:
        raise SystemExit(f"{name}: zoo fit failed")
    with (run / "metrics.csv").open() as file:
        return [float(row["val/accuracy"]) for row in csv.DictReader(file) if row.get("val/accuracy")][-1]


def main() -> None:
    path = Path(__file__).parent / "results" / "search.json"
    found = json.loads(path.read_text())["variants"] if path.is_file() else {}
    for name in sys.argv[1:] or VARIANTS:
        begin = time.time()
        with tempfile.TemporaryDirectory() as folder:
            seeds = {seed: round(accuracy(name, seed, Path(folder)), 4) for seed in SEEDS}
        found[name] = {
            "settings": VARIANTS[name],
            "accuracy": seeds,
            "mean": round(statistics.mean(seeds.values()), 4),
            "deviation": round(statistics.stdev(seeds.values()), 4),
        }
        print(name, found[name]["mean"], found[name]["deviation"], file=sys.stderr)
        keep(__file__, "search", begin, {"held_out": 0.25, "variants": found}, seed=SEEDS[0])


if __name__ == "__main__":
    main()
