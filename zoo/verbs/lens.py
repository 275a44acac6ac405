"""`zoo lens MODEL INPUT`: where a model looks, as a picture."""

import importlib
import sys
from pathlib import Path

from zoo.options import Options, check_new, numbered
from zoo.verbs.classify import names_of
from zoo.verbs.opening import add_options, open_model

# Kind of network: what draws one input. Such a function takes the model, what makes tokens of its inputs, the input as
# it was typed, names of classes, the class to ask about (None: the likeliest), the layer, and the file to draw.
LENSES = {"ViT": "zoo.vision.lens.draw"}


def main(argv: list[str]) -> int:
    parser = Options(
        prog="zoo lens",
        description="Draw where a classifier of images looks: each head of a layer, their mean, rollout, and rollout "
        "weighted by the gradient of a class.",
    )
    add_options(parser)
    parser.add_argument("input", help="an image file")
    parser.add_argument("--out", type=Path, help="png, svg or pdf (default lens.png, lens-2.png, ...)")
    parser.add_argument("--layer", type=int, default=-1, help="whose heads are shown (default -1, the last)")
    parser.add_argument("--about", metavar="CLASS", help="the class whose evidence is shown (default: the likeliest)")
    given = parser.parse_args(argv)
    if given.out:
        check_new("--out", given.out)
    free = (Path(f"{name}.png") for name in numbered("lens"))
    out = given.out or next(path for path in free if not path.exists())
    loaded = open_model(given, "show where it looks", *LENSES)
    module, _, name = LENSES[loaded.config["kind"]].rpartition(".")
    draw = getattr(importlib.import_module(module), name)
    said = draw(
        loaded.model, loaded.tokenizer, given.input, names_of(loaded), out, about=given.about, layer=given.layer
    )
    print(said)
    print(f"drawn: {out}", file=sys.stderr)
    return 0
