"""`zoo matrix`: what the core promises, measured for every architecture, as a table."""

import sys
from pathlib import Path

from zoo.atomic import write_atomically
from zoo.options import Options, check_ours

HEAD = """# Leaks and caches

Made by `zoo matrix --out docs/matrix.md`. Each row is a stack of random weights, a few numbers wide, checked as in
`tests/core`: whether an output depends on later tokens (largest gradient; exactly 0 where causal, "all" where a stack
looks both ways), the largest gradient of padding, how many numbers change when padding holds other values (also NaN),
how far outputs move when a batch is padded further (float32, other kernels: below 2e-5), how far a packed batch lies
from its sequences one by one and a cached pass from an uncached one (float64, other order of sums: below 1e-12),
parameters that no gradient reaches, and whether bfloat16 stays finite. A stack that looks ahead cannot go on from a
cache: it is refused when the cache is made. The parameters are those of the full size, predicted from the settings and
counted on the built stack, which agree. A promise that did not hold would stand in bold.

Recurrent mixers are refused, when the settings are read, with a position that acts on queries, keys or scores, and
with an odd hidden width where they read both ways. `torch.compile` takes every row as one graph but these: torch's
compiler takes no recurrent kernel, so their stacks are compiled around it.

"""


def main(argv: list[str]) -> int:
    parser = Options(prog="zoo matrix", description="Check every architecture for leaks and cache errors.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("configs/arch"), help="YAMLs (configs/arch)")
    parser.add_argument("--out", type=Path, help="write the table to this file too")
    given = parser.parse_args(argv)
    if given.out:
        check_ours("--out", given.out, HEAD.partition("\n")[0])
    from zoo.check.matrix import architectures, markdown, measure, recurrent

    rows = measure(architectures(given.folder) | recurrent())
    table = markdown(rows)
    print(table, end="")
    if given.out:
        write_atomically(given.out, HEAD + table)
    broken = [f"{name}: {column}" for name, row in rows.items() for column, f in row.items() if not f.kept]
    for line in broken:
        print(f"broken: {line}", file=sys.stderr)
    return 1 if broken else 0
