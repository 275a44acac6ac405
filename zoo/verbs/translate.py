"""`zoo translate RUN [TEXT...]`: translate texts, or the lines of standard input."""

import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UserError
from zoo.options import Options, check_new
from zoo.progress import bar
from zoo.verbs.opening import add_options, check_counts, check_text, check_texts, lines, open_model

if TYPE_CHECKING:
    from zoo.weights.load import Loaded


def main(argv: list[str]) -> int:
    parser = Options(prog="zoo translate", description="Translate TEXT, or each line of standard input.")
    add_options(parser)
    parser.add_argument("text", nargs="*", help="one sentence each; standard input where none is given")
    parser.add_argument("--beams", type=int, default=4, help="width of the beam search; 1 is greedy (default 4)")
    parser.add_argument("--nbest", type=int, default=1, help="translations of each sentence, with scores if above 1")
    parser.add_argument("--length-penalty", type=float, default=1.0, help="score = log probability / length ** this")
    parser.add_argument("--max-length", type=int, default=128, help="longest translation in tokens (default 128)")
    parser.add_argument("--batch", type=int, default=32, help="sentences translated at a time (default 32)")
    parser.add_argument("--prefix", help="before each text (default: what the model was trained with, if anything)")
    parser.add_argument("--attention", type=Path, metavar="FILE", help="draw where the model looks (png, svg, pdf)")
    parser.add_argument("--layer", type=int, default=-1, help="the layer that is drawn (default -1, the last)")
    drawing = parser.add_argument_group("drawing at random instead of searching (any of these)")
    drawing.add_argument("--temperature", type=float, help="above 1 bolder, below 1 more careful")
    drawing.add_argument("--top-k", type=int, help="among the k likeliest tokens")
    drawing.add_argument("--top-p", type=float, help="among the fewest tokens that hold this probability")
    drawing.add_argument("--min-p", type=float, help="among tokens with this share of the likeliest one's probability")
    drawing.add_argument("--seed", type=int, help="equal seeds draw equal translations (default 0)")
    given = parser.parse_intermixed_args(argv)
    check_counts(given, "beams", "nbest", "max_length", "batch")
    check_text("--prefix", given.prefix)
    names = ("temperature", "top_k", "top_p", "min_p", "seed")
    drawn = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    if given.attention and drawn:
        raise UserError("--attention draws what a search finds: it does not go with drawing at random")
    if given.nbest > given.beams and not drawn:
        raise UserError(f"--nbest ({given.nbest}) cannot exceed --beams ({given.beams})")

    from zoo.core.decode import Sampling, check_length_penalty
    from zoo.text.translate import translations

    try:
        sampling = Sampling(**drawn) if drawn else None
        check_length_penalty(given.length_penalty, given.max_length)
    except ValueError as error:
        raise UserError(str(error)) from None
    loaded = open_model(given, "translate", "Seq2Seq")
    check_texts(given.text)
    sentences: Iterable[str] = given.text or lines()
    if given.attention:
        sentences = list(sentences)
    prefix = str(loaded.config.get("prefix", "")) if given.prefix is None else given.prefix
    pictures = _pictures(given.attention, [text for text in sentences if text.strip()]) if given.attention else []
    results = translations(
        loaded.model,
        loaded.tokenizer,
        sentences,
        beams=given.beams,
        nbest=given.nbest,
        length=given.max_length,
        length_penalty=given.length_penalty,
        sampling=sampling,
        batch=given.batch,
        prefix=prefix,
    )
    doing = "" if sys.stdout.isatty() else "translating"  # there the translations show how far it is
    for hypotheses in bar(results, doing, "text", total=len(given.text) or None):
        for score, text in hypotheses:
            print(text if given.nbest == 1 or sampling else f"{score:.4f}\t{text}")
        sys.stdout.flush()
    if given.attention:
        _draw(loaded, [prefix + text for text in sentences if text.strip()], pictures, given)
    return 0


def _pictures(path: Path, texts: list[str]) -> list[Path]:
    """The files to draw, numbered where there are several. UserError where one exists."""
    several = [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, len(texts) + 1)]
    pictures = several if len(texts) > 1 else [path]
    for picture in pictures:
        check_new("--attention", picture)
    return pictures


def _draw(loaded: "Loaded[Any]", texts: list[str], pictures: list[Path], given: Namespace) -> None:
    """A picture for each text."""
    from zoo.text.attention import cross_attention, draw

    for text, path in zip(texts, pictures, strict=False):
        try:
            looks = cross_attention(
                loaded.model,
                loaded.tokenizer,
                text,
                layer=given.layer,
                beams=given.beams,
                length=given.max_length,
                length_penalty=given.length_penalty,
            )
        except ValueError as error:  # a layer that does not exist
            raise UserError(str(error)) from None
        draw(looks, path)
        print(f"drawn: {path}", file=sys.stderr)
