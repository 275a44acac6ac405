"""`zoo classify MODEL [INPUT...]`: the classes of texts, and of what other kinds of classifier read."""

import importlib
import json
from typing import TYPE_CHECKING

from zoo.errors import UserError
from zoo.options import Options
from zoo.verbs.opening import add_options, check_counts, inputs, open_model

if TYPE_CHECKING:
    from zoo.weights.load import Loaded

# Kind of network: what gives the probabilities of its classes. Such a function takes the model, what makes tokens of
# its inputs, the inputs as they were typed (a text, the path of a file), and how many of them go together.
READERS = {
    "TextClassifier": "zoo.text.classify.classify",
}


def main(argv: list[str]) -> int:
    parser = Options(prog="zoo classify", description="The likeliest classes of each INPUT: a text, or a file's path.")
    add_options(parser)
    parser.add_argument("input", nargs="*", help="one each; the lines of standard input where none is given")
    parser.add_argument("--top", type=int, default=3, help="classes that are shown, likeliest first (default 3)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, with every class")
    parser.add_argument("--batch", type=int, default=32, help="inputs that go together (default 32)")
    given = parser.parse_intermixed_args(argv)
    check_counts(given, "top", "batch")
    loaded = open_model(given, "classify", *READERS)
    module, _, name = READERS[loaded.config["kind"]].rpartition(".")
    read = getattr(importlib.import_module(module), name)
    given_inputs, names = inputs(given.input), names_of(loaded)
    for item, shares in zip(
        given_inputs, read(loaded.model, loaded.tokenizer, given_inputs, batch=given.batch), strict=True
    ):
        best = sorted(zip(shares, names, strict=True), reverse=True)
        if given.json:
            line = {"input": item, "class": best[0][1], "classes": {name: round(share, 6) for share, name in best}}
            print(json.dumps(line, ensure_ascii=False))
        else:
            print("\t".join(f"{name} {share:.3f}" for share, name in best[: given.top]), item, sep="\t")
    return 0


def names_of(loaded: "Loaded") -> list[str]:
    """The names of a classifier's classes: its data's, or those that a published model carries, or their numbers."""
    published = {} if loaded.origin is None else loaded.origin.config.get("id2label") or {}
    names = loaded.config.get("classes") or [published[number] for number in sorted(published, key=int)]
    count = loaded.config["settings"]["classes"]
    if names and len(names) != count:
        raise UserError(f"the model has {count} classes, its folder names {len(names)}")
    return [str(name) for name in names] or [str(number) for number in range(count)]
