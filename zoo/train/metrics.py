"""metrics.csv of a run folder: one file, however often the run was interrupted."""

import csv
import io
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from zoo.atomic import write_atomically


class MetricsFile(Logger):
    """Writes what is logged as rows of one CSV file, at most every `every` seconds.

    A run that goes on keeps the rows before the step where it goes on.
    """

    def __init__(self, path: Path, every: float = 10.0):
        super().__init__()
        self.path, self.every = path, every
        self.rows: list[dict[str, str]] = []
        self.begun = False
        self.written = time.monotonic()

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Settings stand in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        step = 0 if step is None else step
        if not self.begun:
            self.begun = True
            self.rows = [row for row in self._read() if int(row["step"]) < step]
        self.rows.append({"step": str(step)} | {name: f"{value:.6g}" for name, value in metrics.items()})
        if time.monotonic() - self.written > self.every:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        if not self.begun:
            return
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        table = csv.DictWriter(text, names, lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        write_atomically(self.path, text.getvalue())
        self.written = time.monotonic()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()

    def _read(self) -> list[dict[str, str]]:
        if not self.path.is_file():
            return []
        with self.path.open(encoding="utf-8", newline="") as file:
            return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
