"""`zoo diff A B` and `zoo anatomy MODEL`: models as text."""

from zoo.options import Options


def main(verb: str, argv: list[str]) -> int:
    parser = Options(prog=f"zoo {verb}", description=ABOUT[verb])
    models = ["model"] if verb == "anatomy" else ["left", "right"]
    for name in models:
        parser.add_argument(name, help="a model folder, a hub name, or the (beginning of the) name of an architecture")
    given = parser.parse_args(argv)

    from zoo.weights.compare import anatomy, compare, describe

    found = [describe(getattr(given, name)) for name in models]
    print(anatomy(found[0]) if verb == "anatomy" else compare(found[0], found[1]))
    return 0


ABOUT = {
    "diff": "In which settings two models differ.",
    "anatomy": "Draw what a model is made of, with shapes and counts of parameters.",
}
