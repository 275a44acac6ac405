"""`zoo fit|validate|test|predict`: Lightning's command line over the tasks and data of every domain."""

import importlib
from pathlib import Path

from zoo.train.evaluate import evaluate
from zoo.train.fit import fit
from zoo.train.start import Source

# Imported so that their classes have short names on the command line.
MODULES = (
    "zoo.music.audio",
    "zoo.music.data",
    "zoo.music.task",
    "zoo.text.classification",
    "zoo.protein.data",
    "zoo.protein.labelled",
    "zoo.protein.task",
    "zoo.text.corpus",
    "zoo.text.data",
    "zoo.text.labelled",
    "zoo.text.language",
    "zoo.text.masked",
    "zoo.text.spans",
    "zoo.text.task",
    "zoo.vision.data",
    "zoo.vision.task",
)


def main(verb: str, argv: list[str]) -> int:
    for module in MODULES:
        importlib.import_module(module)
    return fit(argv, opened) if verb == "fit" else evaluate(verb, argv)


def opened(source: Path) -> Source:
    """What lies in a model's folder. Handed to the trainings, which stand below what opens every domain's."""
    from zoo.weights.load import find, load

    folder = find(source)
    loaded = load(folder)
    state = {f"network.{name}": value for name, value in loaded.model.state_dict().items()}
    about = loaded.config
    return Source(source, state, about["settings"], folder, tuple(about.get("classes") or ()), about["kind"])
