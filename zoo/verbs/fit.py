"""`zoo fit|validate|test|predict`: Lightning's command line over the tasks and data of every domain."""

import zoo.text.corpus
import zoo.text.data
import zoo.text.language
import zoo.text.task  # noqa: F401  (imported so that their classes have short names)
from zoo.train.cli import evaluate, fit


def main(verb: str, argv: list[str]) -> int:
    return fit(argv) if verb == "fit" else evaluate(verb, argv)
