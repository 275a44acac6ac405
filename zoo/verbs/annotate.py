"""`zoo annotate MODEL X.fasta`: a label for every residue, with its probability."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.atomic import whole_file
from zoo.options import Options, check_new
from zoo.verbs.opening import add_options, open_model

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.protein.files import Protein


def main(argv: list[str]) -> int:
    parser = Options(
        prog="zoo annotate",
        description="Label every residue of every protein: a table with one row per residue (name, position from 1, "
        "residue, label, the probability of each label).",
    )
    add_options(parser)
    parser.add_argument("proteins", type=Path, help="FASTA, or a table with a column 'sequence'; plain or .gz")
    parser.add_argument("--longest", type=int, help="tokens of a window, for proteins that are longer (default 1024)")
    parser.add_argument("--fasta", action="store_true", help="labels alone, as FASTA records of the same names")
    parser.add_argument("--out", type=Path, help="write here (default: standard output)")
    given = parser.parse_args(argv)
    if given.out:
        check_new("--out", given.out)

    from zoo.protein.files import read_proteins
    from zoo.protein.reading import read_whole, window_of
    from zoo.verbs.classify import names_of

    records = read_proteins(given.proteins)
    loaded = open_model(given, "annotate residues", "ResidueModel")
    names = names_of(loaded)
    longest, overlap = window_of(loaded.model, given.longest)
    rows = [loaded.tokenizer.frame(record.sequence) for record in records]
    made = read_whole(
        lambda ids, keep: loaded.model(ids, keep).float().softmax(-1),
        rows,
        longest=longest,
        overlap=overlap,
        device=next(loaded.model.parameters()).device,
        name="annotate",
    )
    lines = _lines(records, (shares[1:-1] for shares in made), names, fasta=given.fasta)  # start and end have no label
    if given.out is None:
        sys.stdout.writelines(lines)
    else:
        with whole_file(given.out) as file:
            file.writelines(line.encode() for line in lines)
        print(f"written: {given.out}", file=sys.stderr)
    return 0


def _lines(records: "list[Protein]", made: "Iterable[Tensor]", names: list[str], *, fasta: bool) -> Iterator[str]:
    """What is written of proteins whose residues have such probabilities, "n c" each."""
    if not fasta:
        yield "\t".join(["name", "position", "residue", "label", *names]) + "\n"
    for record, shares in zip(records, made, strict=True):
        labels = [names[best] for best in shares.argmax(-1).tolist()]
        if fasta:
            yield f">{record.name}\n{''.join(labels)}\n"
            continue
        for place, (letter, label, row) in enumerate(zip(record.sequence, labels, shares.tolist(), strict=True), 1):
            cells = [record.name, str(place), letter, label, *(f"{share:.4f}" for share in row)]
            yield "\t".join(cells) + "\n"
