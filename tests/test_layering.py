"""Imports go down the floors, and what must be cheap to import is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "zoo"
FLOORS = [
    {"errors", "atomic"},  # standard library only
    {"imports", "options", "progress", "provenance"},
    {"core"},
    {"data", "train"},
    {"text", "vision", "music", "protein"},
    {"weights"},
    {"tour", "bench", "check"},
    {"verbs"},
    {"cli", "__main__", "__init__"},
]
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}


def modules() -> list[Path]:
    return sorted(p for p in ROOT.rglob("*.py"))


def part(path: Path) -> str:
    """The package, or the single module, at the root that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> list[str]:
    """Everything imported, inside functions and under TYPE_CHECKING too."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def upward(path: Path, tree: ast.AST) -> list[str]:
    """Imports of a file that do not go down: to a higher floor, or to another package of its own."""
    own = part(path)
    bad = []
    for name in imported(tree):
        pieces = name.split(".")
        if pieces[0] != "zoo" or len(pieces) < 2 or pieces[1] not in FLOOR or pieces[1] == own:
            continue
        if FLOOR[pieces[1]] >= FLOOR[own] and own not in ("__init__", "__main__"):
            bad.append(name)
    return bad


def test_every_module_has_a_floor() -> None:
    assert {part(p) for p in modules()} == FLOOR.keys()


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    assert upward(path, ast.parse(path.read_text())) == []


def test_an_upward_import_is_seen() -> None:
    tree = ast.parse("def f():\n    from zoo.train import losses")
    assert upward(ROOT / "core" / "block.py", tree) == ["zoo.train.losses"]
    assert upward(ROOT / "data" / "public.py", tree) == ["zoo.train.losses"]
    assert upward(ROOT / "text" / "task.py", tree) == []


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after `statement`."""
    code = f"import sys\n{statement}\nprint(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_zoo_is_free() -> None:
    assert not {"torch", "numpy", "lightning"} & loaded_by("import zoo, zoo.cli")


@pytest.mark.parametrize(
    "statement",
    [
        "import zoo.core",
        "import zoo.weights.load",
        "from zoo.text import Seq2Seq",
        "from zoo.music import MusicLM",
        "from zoo.vision import ViT",
    ],
)
def test_networks_are_free_of_lightning(statement: str) -> None:
    loaded = loaded_by(statement)
    assert "torch" in loaded
    assert "lightning" not in loaded
