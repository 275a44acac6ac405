"""Beta-lactamase (Stiffler et al. 2015) without training: what a pretrained model says of 4,996 single mutations.

    python experiments/protein/lactamase.py RUN

The wild type is read off the table itself, which names every residue from 24 on. Writes results/lactamase-RUN.json: the
rank correlation of each convention with the column 2500, the growth at the highest dose of ampicillin.
"""

import sys
import time
from pathlib import Path

import zoo
from zoo.data import public
from zoo.protein.files import read_table
from zoo.protein.scoring import agreement, score
from zoo.protein.variants import Wildtype, parse
from zoo.provenance import keep

METHODS = ("wildtype-marginals", "masked-marginals")


def main(run: Path) -> None:
    begin = time.time()
    name = "BLAT_ECOLX_Ranganathan2015.csv.gz"
    rows = read_table(public.fetch("beta_lactamase", [name]) / name, ["mutant", "2500"])
    variants = [parse(row["mutant"]) for row in rows]
    letters = {change.first: change.known[0][1] for variant in variants for change in variant}
    first, last = min(letters), max(letters)
    wildtype = Wildtype("".join(letters[place] for place in range(first, last + 1)), first)
    measured = [float(row["2500"]) for row in rows]
    model = zoo.load(run).model
    found = {}
    for method in METHODS:
        found[method], _ = agreement(score(model, wildtype, variants, method, name=method), measured)
    kept = {
        "variants": len(variants),
        "spearman": found,
    }
    keep(__file__, f"lactamase-{run.name}", begin, kept, given=run.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
