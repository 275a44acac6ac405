"""Documents say what is: tables are those of the result files, links lead somewhere, commands and settings exist."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import zoo.core
from zoo.cli import VERBS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(p for pattern in ("*.md", "docs/*.md", "experiments/*/README.md") for p in ROOT.glob(pattern))


def test_tables_are_what_the_results_say() -> None:
    script = ROOT / "experiments" / "tables.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_and_commands_exist(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (path.parent / target).exists(), target
    for verb in re.findall(r"(?:^|`)zoo ([a-z]+)", text, re.MULTILINE):
        assert verb in VERBS, verb
    for config in re.findall(r"configs/[\w/]+\.yaml", text):
        assert (ROOT / config).is_file(), config
    for make in re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE):
        assert f"\n{make}:" in (ROOT / "Makefile").read_text(), make


def test_what_the_readme_shows_in_python_is_typed(tmp_path: Path) -> None:
    """By mypy, as strictly as it can, as in a project that uses zoo. Of torch, backward is not typed."""
    pytest.importorskip("mypy")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "shown.py").write_text("\n".join(blocks))
    options = ["--strict", "--untyped-calls-exclude", "torch", "--follow-imports", "silent"]
    command = [sys.executable, "-m", "mypy", *options, "--cache-dir", str(ROOT / ".mypy_cache" / "shown"), "shown.py"]
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_example_of_the_core_runs() -> None:
    """Of its docstring: the shapes that it says."""
    example = textwrap.dedent("\n".join(line for line in str(zoo.core.__doc__).split("\n") if line.startswith("    ")))
    names = vars(zoo.core) | {"torch": torch}
    exec(example, names)
    assert names["states"].shape == (17, 32)
    back = names["layout"].give(names["states"], names["keep"])
    assert back.shape == (2, 10, 32)
    assert not back[~names["keep"]].any()


def test_what_extending_shows_works(tmp_path: Path) -> None:
    """The blocks of docs/extending.md as the files that they name: each promise kept, each part trained with."""
    files: dict[str, str] = {}
    for name, block in re.findall(
        r"```(?:python|yaml)\n# ([\w.]+)\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL
    ):
        files[name] = files.get(name, "") + block
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "text.txt").write_text("a short text, many times over. " * 100)
    few = "--trainer.max_steps 2 --trainer.enable_progress_bar false --trainer.limit_val_batches 1"
    numbers = f"fit --config {ROOT}/configs/text/numbers.yaml {few} --trainer.callbacks+=mine.Steps"
    own = "--data Reversed --data.digits 3 --model.optimizer SGD --model.schedule Halving"
    parts = "--model.encoder.position mine.Noise --model.decoder.position Noise --model.encoder.norm MaxNorm"
    script = f"""
import runpy
import mine
from zoo.cli import main
runpy.run_path("check.py")
assert main("fit --config smoothed.yaml {few} --trainer.val_check_interval 2".split()) == 0
assert main("generate runs/smoothed --prompt short --length 3".split()) == 0
assert main("fit --config bigrams.yaml {few} --trainer.val_check_interval 2".split()) == 0
assert main("test runs/bigrams --trainer.enable_progress_bar false".split()) == 0
more = "--run runs/more --init-from runs/bigrams/checkpoints/last.ckpt --trainer.val_check_interval 2"
assert main(f"fit --config bigrams.yaml {few} {{more}}".split()) == 0
runpy.run_path("opened.py")
assert main("generate runs/bigrams --prompt short".split()) == 2
assert main("{numbers} --trainer.logger mine.Printed --run runs/logged {own} {parts}".split()) == 0
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "sees the future: 0" in done.stdout
    assert "BROKEN" not in done.stdout
    assert "those there are: 0" in done.stdout
    assert "2 steps" in done.stdout
    assert "likeliest after each: " in done.stdout
    assert "a network of your own is opened by its class: zoo.load(FOLDER, kind=CLASS)" in done.stderr
    assert "zoo.text.task.Translation" in done.stdout  # the logger was given the settings
    assert (tmp_path / "runs" / "logged" / "metrics.csv").is_file()
    launched = [sys.executable, "-m", "zoo", "--import", "mine", "translate", "runs/logged", "1 2 3"]
    assert subprocess.run(launched, cwd=tmp_path, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("path", sorted(ROOT.glob("experiments/*/results/*.json")), ids=lambda p: p.stem)
def test_results_say_how_they_came_about(path: Path) -> None:
    plain = json.loads(path.read_text())
    assert {"command", "commit", "seed", "device", "seconds"} <= plain.keys()


def test_nothing_speaks_of_the_machine_it_was_written_on() -> None:
    names = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False).stdout
    for name in names.split():
        path = ROOT / name
        if (
            path.suffix in (".py", ".md", ".yaml", ".toml", ".json", ".txt")
            and path != Path(__file__)
            and path.is_file()
        ):
            assert not re.search(r"/(work|root|tmp)/\w", path.read_text()), name
