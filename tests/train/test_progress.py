"""What a training says where there is no terminal."""

from pathlib import Path

import pytest

from tests.test_traps import Bench
from zoo.cli import main


def test_a_line_at_each_validation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path)
    given = ["--config", str(bench.config), "--run", str(bench.run), "--trainer.max_steps", "4"]
    assert main(["fit", *given, "--trainer.val_check_interval", "2"]) == 0
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("step ")]
    assert [line.split(":")[0] for line in lines] == ["step 2 of 4", "step 4 of 4"]
    assert all("train/nll " in line and "val/nll " in line and line.endswith(" s)") for line in lines)
    assert out.splitlines() == [f"run: {bench.run}"]  # and no bar
