"""Documents say what is: tables are those of the result files, links lead somewhere, commands and settings exist."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
