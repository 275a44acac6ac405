"""A run folder's results as one file: python experiments/multi30k/collect.py RUN NAME

Run `zoo test` on each test set before. Writes results/NAME.json: command, commit, seed, device, seconds, the settings
of the data, every test with its signatures, and the curve of validation.
"""

import csv
import json
import sys
from pathlib import Path

from zoo.atomic import write_atomically

HERE = Path(__file__).parent


def main(run: Path, name: str) -> None:
    about = json.loads((run / "run.json").read_text())
    tests = [json.loads(path.read_text()) for path in sorted(run.glob("test-*.json"))]
    with (run / "metrics.csv").open(newline="") as file:
        curve = [
            {key: float(row[key]) for key in ("step", "val/nll", "val/bleu", "val/chrf")}
            for row in csv.DictReader(file)
            if row.get("val/bleu")
        ]
    plain = {
        "name": name,
        **{key: about[key] for key in ("command", "commit", "seed", "device", "parameters", "versions", "data")},
        "steps": about["last_step"],
        "seconds": about["seconds"],
        "tests": {test["test_set"]: test for test in tests},
        "validation": curve,
    }
    (HERE / "results").mkdir(exist_ok=True)
    write_atomically(
        HERE / "results" / f"{name.replace(' ', '-').replace(',', '')}.json", json.dumps(plain, indent=1) + "\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
