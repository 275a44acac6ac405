"""`zoo generate RUN --prompt TEXT`: a language model goes on with a text or a protein, shown as it is written."""

import importlib
import sys

from zoo.errors import UserError
from zoo.options import Options
from zoo.verbs.opening import add_options, check_counts, check_text, open_model

# Kinds of networks that write, and what keeps them to the tokens of a sequence (a Constraint of zoo.core.decode).
WRITERS = {
    "CausalLM": None,
    "ProteinLM": "zoo.protein.writing.residues_alone",
}


def main(argv: list[str]) -> int:
    parser = Options(prog="zoo generate", description="Go on with a text or a protein, token by token as they come.")
    add_options(parser)
    parser.add_argument("--prompt", help="what it begins with (default: what texts begin with, or a new line)")
    parser.add_argument("--length", type=int, help="tokens to write (default 500, or as many as the model can place)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 always takes the likeliest (default 0.8)")
    parser.add_argument("--top-k", type=int, default=0, help="draw among the k likeliest tokens (default 0: all)")
    parser.add_argument("--top-p", type=float, default=1.0, help="among the fewest that hold this probability")
    parser.add_argument("--min-p", type=float, default=0.0, help="among those with this share of the likeliest's")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds write equal texts (default 0)")
    given = parser.parse_args(argv)
    check_text("--prompt", given.prompt)
    check_counts(given, "length")

    from zoo.core.decode import Sampling
    from zoo.text.generate import generate, start_of

    try:
        sampling = Sampling(
            temperature=given.temperature, top_k=given.top_k, top_p=given.top_p, min_p=given.min_p, seed=given.seed
        )
    except ValueError as error:
        raise UserError(str(error)) from None
    loaded = open_model(given, "go on with a text", *WRITERS)
    if not loaded.model.stack.config.causal:
        raise UserError(f"{given.model} looks both ways at once: only a model that reads from left to right goes on")
    module, _, name = (WRITERS[loaded.config["kind"]] or "").rpartition(".")
    constraint = getattr(importlib.import_module(module), name) if module else None
    begun = given.prompt
    if begun is None:
        begun = "\n" if start_of(loaded.model, loaded.tokenizer) is None else ""
    try:
        pieces = generate(
            loaded.model,
            loaded.tokenizer,
            begun,
            length=given.length,
            sampling=sampling,
            constraint=constraint,
        )
    except ValueError as error:  # a letter that is no token
        raise UserError(f"--prompt: {error}") from None
    for number, piece in enumerate(pieces):
        sys.stdout.write(piece if number else begun + piece)  # by now the prompt is known to fit
        sys.stdout.flush()
    sys.stdout.write("\n")
    return 0
