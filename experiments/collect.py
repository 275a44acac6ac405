"""A run folder's results as one file: python experiments/collect.py RUN TOPIC NAME

Run `zoo test` on every test set before. Writes experiments/TOPIC/results/NAME.json: command, commit, seed, device,
seconds, the settings, every test, and the curve of validation.
"""

import csv
import json
import sys
from pathlib import Path

import yaml

from zoo.atomic import write_atomically

HERE = Path(__file__).parent


def main(run: Path, topic: str, name: str) -> None:
    about = json.loads((run / "run.json").read_text())
    tests = [json.loads(path.read_text()) for path in sorted(run.glob("test*.json"))]
    config = yaml.safe_load((run / "config.yaml").read_text())
    with (run / "metrics.csv").open(newline="") as file:
        curve = [
            {key: float(value) for key, value in row.items() if value and key.startswith(("step", "val/"))}
            for row in csv.DictReader(file)
            if any(value and key.startswith("val/") for key, value in row.items())
        ]
    plain = {
        "name": name,
        **{key: about[key] for key in ("command", "commit", "seed", "device", "parameters", "versions", "data")},
        "settings": {key: config[key] for key in ("model", "data", "trainer")},
        "steps": about["legs"][-1]["to"],
        "seconds": sum(leg["seconds"] for leg in about["legs"]),
        "legs": about["legs"],
        "tests": {test.get("test_set", "test"): test for test in tests},
        "validation": curve,
    }
    folder = HERE / topic / "results"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{name.replace(' ', '-').replace(',', '')}.json", json.dumps(plain, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
