"""`zoo generate RUN --prompt TEXT`: a language model goes on with a text or a protein, shown as it is written."""

import importlib
import sys

from zoo.errors import UserError
from zoo.options import Options
from zoo.verbs.opening import add_options, check_counts, open_model

# Kinds of networks that write, and what keeps them to the tokens of a sequence (a Constraint of zoo.core.decode).
WRITERS = {
    "CausalLM": None,
    "ProteinLM": "zoo.protein.writing.residues_alone",
}


def main(argv: list[str]) -> int:
    parser = Options(prog="zoo generate", description="Go on with a text or a protein, token by token as they come.")
    add_options(parser)
    parser.add_argument("--prompt", help="what it begins with (default: nothing, or a new line where something must)")
    parser.add_argument("--length", type=int, default=500, help="tokens to write (default 500)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 always takes the likeliest (default 0.8)")
    parser.add_argument("--top-k", type=int, default=0, help="draw among the k likeliest tokens (default 0: all)")
    parser.add_argument("--top-p", type=float, default=1.0, help="among the fewest that hold this probability")
    parser.add_argument("--min-p", type=float, default=0.0, help="among those with this share of the likeliest's")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds write equal texts (default 0)")
    given = parser.parse_args(argv)
    check_counts(given, "length")

    import torch

    from zoo.core.decode import Sampling

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
    start = loaded.model.start
    begun = given.prompt if given.prompt is not None else "\n" if start is None else ""
    try:
        given_ids = loaded.tokenizer.encode(begun)
        prompt = [*([] if start is None else [start]), *given_ids]
    except ValueError as error:  # a letter that is no token
        raise UserError(f"--prompt: {error}") from None
    if not prompt:
        raise UserError("--prompt is empty: give it at least one character")
    written: list[int] = []
    shown = ""
    before = loaded.tokenizer.decode(given_ids)  # decoded with it, a text keeps the space that it begins with
    steps = loaded.model.stream(
        torch.tensor([prompt], device=next(loaded.model.parameters()).device),
        length=given.length,
        sampling=sampling,
        constraint=constraint,
    )
    for token in steps:
        if not written:  # by now the prompt is known to fit
            sys.stdout.write(begun)
        written.append(int(token))
        whole = loaded.tokenizer.decode([*given_ids, *written])
        text = whole[_shared(before, whole) :]
        if text.endswith("\ufffd"):  # half a character so far
            continue
        sys.stdout.write(text[len(shown) :])
        sys.stdout.flush()
        shown = text
    sys.stdout.write("\n")
    return 0


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with together."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
