"""`zoo parity`: published weights beside the libraries that published them, as a table."""

import sys
from pathlib import Path

from zoo.atomic import write_atomically
from zoo.options import Options, check_ours

HEAD = """# Parity

Written by `zoo parity --out docs/parity.md`, never by hand. For each row a model of another library, a few numbers wide
and of random weights (norms and biases too), was saved by that library, opened by `zoo.load`, and given the same batch:
without padding, padded on the right, on the left, and between tokens. Positions count the tokens of a sequence here;
where the other library counts slots, it is told, or given one sequence at a time (ESM-2 cannot be told, so
nothing stands between its tokens).

- **float32**, **float64**: largest difference of the logits, as a share of the largest logit. It should be below 1e-5
  and 1e-9. Where the library keeps tables in float32 whatever the model's type (marked *), below 1e-6.
- **gradients**: of a loss, with respect to every parameter, in float64, as a share of the largest.
- **greedy**: tokens that both write, with a cache here and without, after prompts padded on the left.
- **beams**: hypotheses of four beams at two length penalties that are equal, with and without a ban on repeated pairs.

"""


def main(argv: list[str]) -> int:
    parser = Options(prog="zoo parity", description="Compare published weights here with transformers and timm.")
    parser.add_argument("--out", type=Path, help="write the table to this file too")
    given = parser.parse_args(argv)
    if given.out:
        check_ours("--out", given.out, HEAD.partition("\n")[0])

    from zoo.check.matrix import markdown
    from zoo.check.parity import measure
    from zoo.check.references import library, references
    from zoo.progress import bar

    versions = ", ".join(f"{name} {library(name).__version__}" for name in ("transformers", "timm"))
    rows = {str(r): measure(r) for r in bar(references(), "references")}
    table = f"{versions}\n\n{markdown(rows, 'reference')}"
    print(table, end="")
    if given.out:
        write_atomically(given.out, HEAD + table)
    broken = [f"{name}: {column}" for name, row in rows.items() for column, f in row.items() if not f.kept]
    for line in broken:
        print(f"broken: {line}", file=sys.stderr)
    return 1 if broken else 0
