"""`zoo classify MODEL [INPUT...]`: the classes of texts, pictures and proteins."""

import importlib
import json
import sys
from typing import TYPE_CHECKING, Any

from zoo.errors import UserError
from zoo.options import Options
from zoo.verbs.opening import add_options, check_counts, inputs, open_model, texts

if TYPE_CHECKING:
    from zoo.weights.load import Loaded

# Kind of network: what gives the probabilities of its classes. Such a function takes the model, what makes tokens of
# its inputs, the inputs (texts, paths of files, proteins), and how many of them go together; it gives None for an input
# that cannot be read, which it has named on stderr.
READERS = {
    "SequenceModel": "zoo.protein.classify.classify",
    "TextClassifier": "zoo.text.classify.classify",
    "ViT": "zoo.vision.classify.classify",
}
# Where what is typed may stand for several inputs (a folder, a glob): what gives them.
MEANT = {"SequenceModel": "zoo.protein.classify.proteins", "ViT": "zoo.vision.classify.files"}


def main(argv: list[str]) -> int:
    parser = Options(
        prog="zoo classify",
        description="The likeliest classes of each INPUT: a text, image files (folders, globs), or proteins in FASTA "
        "files and tables.",
    )
    add_options(parser)
    parser.add_argument("input", nargs="*", help="one each; the lines of standard input where none is given")
    parser.add_argument("--top", type=int, default=3, help="classes that are shown, likeliest first (default 3)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, with every class")
    parser.add_argument(
        "--pair",
        action="store_true",
        help="a class for two texts together: two words of the command line, or a line with a tab between them",
    )
    parser.add_argument("--batch", type=int, default=32, help="inputs that go together (default 32)")
    given = parser.parse_intermixed_args(argv)
    check_counts(given, "top", "batch")
    loaded = open_model(given, "classify", *READERS)
    kind, names = loaded.config["kind"], names_of(loaded)
    if given.pair and kind != "TextClassifier":
        raise UserError(f"--pair is for classifiers of texts: {given.model} holds a {kind}")
    items: list[Any]
    if given.pair:
        items = pairs(given.input)
    else:
        items = _function(MEANT[kind])(inputs(given.input)) if kind in MEANT else texts(given.input)
    made = _function(READERS[kind])(loaded.model, loaded.tokenizer, items, batch=given.batch)
    unread = 0
    for item, shares in zip(items, made, strict=True):
        if shares is None:
            unread += 1
            continue
        best = sorted(zip(shares, names, strict=True), reverse=True)
        if given.json:
            shown = item if given.pair else str(item)
            line = {"input": shown, "class": best[0][1], "classes": {name: round(share, 6) for share, name in best}}
            print(json.dumps(line, ensure_ascii=False))
        else:
            shown = item if given.pair else [item]
            print("\t".join(f"{name} {share:.3f}" for share, name in best[: given.top]), *shown, sep="\t")
    if unread:
        print(f"{unread} of {len(items)} cannot be read", file=sys.stderr)
    return int(unread > 0)


def pairs(words: list[str]) -> list[tuple[str, str]]:
    """What was typed two by two, or the lines of standard input with a tab between two texts; UserError where something
    is left over."""
    given = texts(words)
    if words:
        if len(words) % 2:
            raise UserError(f"--pair: {len(words)} texts, a pair has two")
        return list(zip(given[::2], given[1::2], strict=True))
    found = []
    for number, line in enumerate(given, 1):
        cells = line.split("\t")
        if len(cells) != 2:
            raise UserError(f"standard input, line {number}: {len(cells)} columns, a pair has 2 (text, tab, text)")
        found.append((cells[0], cells[1]))
    return found


def _function(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def names_of(loaded: "Loaded[Any]") -> list[str]:
    """The names of a classifier's classes, or their numbers where its folder names none."""
    names = loaded.config.get("classes") or []
    settings = loaded.config["settings"]
    count = settings["classes"] if "classes" in settings else settings["outputs"]
    if not names and "outputs" in settings and count == 1:
        raise UserError("this model gives a value and no class: ask it with zoo score")
    if names and len(names) != count:
        raise UserError(f"the model has {count} classes, its folder names {len(names)}")
    return [str(name) for name in names] or [str(number) for number in range(count)]
