"""`zoo fill MODEL [TEXT...]`: what may stand in the gaps of a text."""

import json

from zoo.options import Options
from zoo.verbs.opening import add_options, check_counts, open_model, texts


def main(argv: list[str]) -> int:
    parser = Options(
        prog="zoo fill",
        description="Fill the gaps of each TEXT, written [MASK]: a masked language model finds one token for each, "
        "a model that was trained on dropped spans writes as many as it likes.",
    )
    add_options(parser)
    parser.add_argument("text", nargs="*", help="one each; the lines of standard input where none is given")
    parser.add_argument("--top", type=int, default=5, help="fillings of each gap, likeliest first (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_intermixed_args(argv)
    check_counts(given, "top")

    from zoo.text.fill import GAP, fill

    loaded = open_model(given, "fill gaps", "MaskedLM", "Seq2Seq")
    for text in texts(given.text):
        gaps = fill(loaded.model, loaded.tokenizer, text, top=given.top)
        if given.json:
            found = [[{"text": way.text, "share": round(way.share, 6)} for way in gap] for gap in gaps]
            print(json.dumps({"text": text, "gaps": found}, ensure_ascii=False))
            continue
        filled = text
        for gap in gaps:
            filled = filled.replace(GAP, gap[0].text.strip(), 1)
        print(filled)
        for number, gap in enumerate(gaps, 1):
            print(f"  {number}: " + ", ".join(f"{way.text.strip()!r} {way.share:.3f}" for way in gap))
    return 0
