"""Settings of the classifiers held against each other on sentences that are not the test's.

    python experiments/sentences/search.py TREC|SST-2 [NAME ...]

TREC: a quarter of the training questions validates; SST-2: its development part. Each variant of the set's YAML is
trained with three seeds, and what counts is the accuracy after the last epoch, the mean of the seeds. Writes
results/search.json or results/search-sst2.json, which keeps what it held of other variants.
"""

import csv
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from zoo.cli import main as zoo
from zoo.provenance import keep

SEEDS = (21, 22, 23)


class Search(NamedTuple):
    config: str
    held_out: float | None  # share of the training part that validates; None: the set's own development part
    kept: str  # name of the file of results
    variants: dict[str, list[str]]


TREC = Search(
    "configs/text/trec.yaml",
    0.25,
    "search",
    {
        "as shipped": [],
        "norms before the branches": ["--model.stack.norm", "LayerNorm"],
        "no norm at the end either": ["--model.stack.final_norm", "NoNorm"],
        "half the feed-forward": ["--model.stack.ffn.dim", "256"],
        "a twentieth of the decay": ["--model.optimizer.weight_decay", "0.1"],
        "dropout 0.3": ["--model.stack.dropout", "0.3"],
        "words dropped 0.2": ["--model.word_dropout", "0.2"],
        "two readings held together": ["--model.consistency", "1"],
        "two readings, four times as much": ["--model.consistency", "4"],
        "the settings before": [
            *("--model.stack.norm", "LayerNorm", "--model.stack.ffn.dim", "256", "--model.stack.dropout", "0.3"),
            *("--model.word_dropout", "0.2", "--model.optimizer.weight_decay", "0.1"),
        ],
    },
)
SST2 = Search(
    "configs/text/sst2.yaml",
    None,
    "search-sst2",
    {
        "as shipped": [],
        "TREC's rate and dropped words": ["--model.word_dropout", "0.1", "--model.optimizer.lr", "0.002"],
        "words dropped 0.2": ["--model.word_dropout", "0.2"],
        "words dropped 0.5": ["--model.word_dropout", "0.5"],
        "twice the rate": ["--model.optimizer.lr", "0.002"],
        "half the rate": ["--model.optimizer.lr", "0.0005"],
        "two blocks": ["--model.stack.depth", "2"],
        "norms before the branches": ["--model.stack.norm", "LayerNorm"],
        "byte pairs, larger batches": [
            *("--data.tokens", "bpe", "--data.vocab_size", "4000", "--data.tokens_per_batch", "2048"),
        ],
    },
)


def accuracy(search: Search, name: str, seed: int, folder: Path) -> float:
    run = folder / f"{name}-{seed}".replace(" ", "-").replace(",", "")
    given = ["--config", search.config, "--run", str(run), "--seed_everything", str(seed)]
    quiet = ["--trainer.enable_progress_bar", "false"]
    held_out = [] if search.held_out is None else ["--data.held_out", str(search.held_out)]
    if zoo(["fit", *given, *quiet, *held_out, *search.variants[name]]) != 0:
        raise SystemExit(f"{name}: zoo fit failed")
    with (run / "metrics.csv").open() as file:
        return [float(row["val/accuracy"]) for row in csv.DictReader(file) if row.get("val/accuracy")][-1]


def main() -> None:
    known = {"TREC": TREC, "SST-2": SST2}
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        raise SystemExit(f"name a set: {' or '.join(known)}")
    search = known[sys.argv[1]]
    path = Path(__file__).parent / "results" / f"{search.kept}.json"
    found = json.loads(path.read_text())["variants"] if path.is_file() else {}
    for name in sys.argv[2:] or search.variants:
        begin = time.time()
        with tempfile.TemporaryDirectory() as folder:
            seeds = {seed: round(accuracy(search, name, seed, Path(folder)), 4) for seed in SEEDS}
        found[name] = {
            "settings": search.variants[name],
            "accuracy": seeds,
            "mean": round(statistics.mean(seeds.values()), 4),
            "deviation": round(statistics.stdev(seeds.values()), 4),
        }
        print(name, found[name]["mean"], found[name]["deviation"], file=sys.stderr)
        held = {"held_out": search.held_out, "variants": found}
        keep(__file__, search.kept, begin, held, seed=SEEDS[0], given=sys.argv[1])


if __name__ == "__main__":
    main()
