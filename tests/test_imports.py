"""A setting of the user's own, through the command line: trained with, gone on with, opened; named by no file."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from zoo import imports
from zoo.cli import main

MINE = """
from dataclasses import dataclass
import torch
from zoo.core.position import Position, PositionModule

@dataclass(frozen=True)
class Noise(Position):
    size: float = 0.1

    def build(self, config):
        return Noisy()

class Noisy(PositionModule):
    def embed(self, x, layout):
        return x + torch.sin(layout.pos.unsqueeze(-1).to(x.dtype))
"""
STACK = {"dim": 16, "depth": 1, "heads": 2, "position": {"class_path": "mine.Noise", "init_args": {"size": 0.2}}}
SETTINGS = {
    "model": {
        "class_path": "Translation",
        "init_args": {"encoder": STACK, "decoder": STACK | {"causal": True, "cross": True, "position": "Sinusoidal"}},
    },
    "data": {
        "class_path": "Numbers",
        "init_args": {"train": 60, "val": 6, "test": 6, "limit": 100, "tokens_per_batch": 200, "vocab_size": 270},
    },
    "trainer": {"accelerator": "cpu", "limit_val_batches": 1, "enable_progress_bar": False, "max_steps": 2},
}
# -P: as an installed command, whose path begins with its own folder and not with the current one
HEAD = "import sys\nfrom zoo.cli import main\ndef run(*words): print('code', main(list(words)), flush=True)\n"


def python(folder: Path, script: str) -> tuple[list[str], str]:
    """What a fresh interpreter in `folder` prints, the lines with codes alone, and what it says on stderr."""
    words = [sys.executable, "-P", "-c", HEAD + script]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True, errors="replace")
    return [line for line in done.stdout.splitlines() if line.startswith("code ")], done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(SETTINGS))
    return tmp_path


def test_a_setting_of_ones_own_is_trained_with_and_opened_where_its_module_is_named(folder: Path) -> None:
    codes, said = python(
        folder,
        "run('fit', '--config', 'base.yaml', '--run', 'run')\n"
        "run('--import', 'mine', 'fit', '--config', 'base.yaml', '--run', 'run', '--model.decoder.position', 'Noise')\n"
        "run('--import=mine', 'fit', '--run', 'run', '--resume', 'last', '--trainer.max_steps', '3')\n"
        "run('--import', 'mine', 'test', 'run')\n"
        "run('--import', 'mine', 'validate', 'run')\n",
    )
    assert codes == ["code 2", "code 0", "code 0", "code 0", "code 0"], said
    assert said.splitlines()[0] == (
        "zoo fit: model.encoder.position: there is no 'mine.Noise'; if it is your own, name its module: "
        "zoo --import mine ..., or import it before zoo.load"
    )
    assert '"zoo --import mine fit --config base.yaml' in (folder / "run" / "run.json").read_text()
    codes, said = python(
        folder,
        "import zoo\n"
        "sys.path.append('.')\n"
        "run('translate', 'run', 'two')\n"
        "assert 'mine' not in sys.modules\n"  # though a folder says its name, and it could be found
        "run('--import', 'mine', 'translate', 'run', 'two')\n"
        "zoo.load('run')\n",
    )
    assert codes == ["code 2", "code 0"], said
    assert said.count("\n") == 1
    assert "encoder.position: unknown Position 'Noise'; allowed: " in said
    assert said.endswith("if it is your own, name its module: zoo --import MODULE ..., or import it before zoo.load\n")


HANDED_ON = """
from zoo.text.data import Numbers
from zoo.text.task import Translation

class Task(Translation):
    def __init__(self, *args, mine: float = 0.5, **kwargs):
        super().__init__(*args, **kwargs)

class Data(Numbers):
    def __init__(self, train: int = 60, **common):
        super().__init__(train=train, **common)
"""


def test_arguments_that_are_handed_on_by_name_are_arguments(folder: Path) -> None:
    """What the data says of itself reaches them, and what a training begins with: its network, and its tokens."""
    (folder / "mine.py").write_text(HANDED_ON)
    stack = {"dim": 16, "depth": 1, "heads": 2, "position": "Sinusoidal"}
    first = {"encoder": stack, "decoder": stack | {"causal": True, "cross": True}}
    numbers = {"train": 60, "val": 6, "test": 6, "limit": 100, "tokens_per_batch": 200}
    (folder / "first.yaml").write_text(
        yaml.safe_dump(SETTINGS | {"model": {"class_path": "Translation", "init_args": first}})
    )
    model = {"class_path": "mine.Task", "init_args": {"mine": 0.25}}
    data = {"class_path": "mine.Data", "init_args": numbers}
    (folder / "own.yaml").write_text(yaml.safe_dump({"model": model, "data": data, "trainer": SETTINGS["trainer"]}))
    codes, said = python(
        folder,
        "run('fit', '--config', 'first.yaml', '--run', 'first')\n"
        "run('--import', 'mine', 'fit', '--config', 'own.yaml', '--init-from', 'first', '--run', 'own')\n",
    )
    assert codes == ["code 0", "code 0"], said
    assert "as in first: model encoder, decoder" in said
    assert "data tokenizer" in said
    merged = yaml.safe_load((folder / "own" / "config.yaml").read_text())
    assert merged["model"]["init_args"]["mine"] == 0.25
    assert merged["model"]["init_args"]["encoder"]["dim"] == 16


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none_such", "--import none_such: no such module, in "),
        ("here.none", "--import here.none: no such module, in "),
        ("mine.py", "--import mine.py: name a module as Python does, as --import mine for mine.py"),
        ("", "--import : name a module as Python does"),
        ("halts", "--import halts: ZeroDivisionError: division by zero ("),
        ("lacks", "--import lacks: ModuleNotFoundError: No module named 'what_it_needs' ("),
        ("broken", "--import broken: SyntaxError: "),
        ("taken", "--import taken: ValueError: Rotary is a choice of zoo.core.rotary already"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "halts.py").write_text("1 / 0\n")
    (tmp_path / "lacks.py").write_text("import what_it_needs\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "taken.py").write_text("from zoo.core.position import Position\nclass Rotary(Position): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["--import", name, "data", "list"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"zoo data: {said}")
    assert error.count("\n") == 1
    assert imports.brought == []


def test_help_names_the_option_and_imports_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--import", "none_such"], ["--import"], ["--import=none_such", "--help"]):
        assert main(words) == 0
        assert "zoo --import MODULE VERB" in capsys.readouterr().out
