"""What was logged, in one file however often a run was interrupted."""

import csv
from pathlib import Path

from zoo.train.metrics import MetricsFile


def test_a_run_that_goes_on_keeps_the_rows_before_its_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsFile(path)
    for step in range(4):
        first.log_metrics({"train/nll": 4.0 - step}, step)
    first.finalize("interrupted")
    again = MetricsFile(path)
    for step in (2, 3):
        again.log_metrics({"train/nll": 9.0, "val/nll": 5.0}, step)
    again.finalize("success")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["train/nll"] for row in rows] == ["4", "3", "9", "9"]
    assert [row["val/nll"] for row in rows] == ["", "", "5", "5"]
