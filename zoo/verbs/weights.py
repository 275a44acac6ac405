"""`zoo import X OUT` and `zoo export MODEL OUT --to hf`: published weights to a folder of zoo's, and back."""

import sys
from pathlib import Path

from zoo.options import Options


def main(verb: str, argv: list[str]) -> int:
    parser = Options(prog=f"zoo {verb}", description=ABOUT[verb])
    parser.add_argument("model", help="a folder of published weights, a hub name, or a folder of zoo's")
    parser.add_argument("out", type=Path, help="the folder to write, which must not exist")
    if verb == "import":
        parser.add_argument("--image-size", type=int, help="carry an image model to images of this many pixels")
        parser.add_argument("--positions", type=int, help="carry a table of positions to sequences of this length")
        parser.add_argument("--vocabulary", type=int, help="carry tables of tokens and heads to this many tokens")
    else:
        parser.add_argument("--to", choices=["hf"], required=True, help="hf: as it was published")
        parser.add_argument("--like", help="published weights that a run began with: write it in their form")
        parser.add_argument("--checkpoint", default="best", help="of a run: best (default), last, or a path")
    given = parser.parse_args(argv)

    from zoo.weights.folders import alike, write, write_published
    from zoo.weights.load import find, load
    from zoo.weights.resize import resized

    folder = find(given.model)
    if verb == "import":
        sizes = {"image": given.image_size, "positions": given.positions, "vocabulary": given.vocabulary}
        write(resized(load(folder), **sizes), given.out, folder)
    elif given.like is None:
        write_published(load(folder, checkpoint=given.checkpoint), given.out, folder)
    else:
        like = find(given.like)
        made = alike(load(folder, checkpoint=given.checkpoint), load(like), like)
        write_published(made, given.out, like, folder)
    print(f"written: {given.out}", file=sys.stderr)
    return 0


ABOUT = {
    "import": "Open published weights and write them as a folder of zoo's, at other sizes where asked.",
    "export": "Write a model that was imported, or tuned, in its published form, with the weights that it has now.",
}
