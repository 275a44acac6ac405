"""`zoo annotate MODEL X.fasta`: a label for every residue, with its probability."""

import sys
from pathlib import Path

from zoo.atomic import write_atomically
from zoo.options import Options, check_new
from zoo.verbs.opening import add_options, open_model


def main(argv: list[str]) -> int:
    parser = Options(
        prog="zoo annotate",
        description="Label every residue of every protein: a table with a row a residue (name, position from 1, "
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
    found = dict(
        read_whole(
            lambda ids, keep: loaded.model(ids, keep).float().softmax(-1),
            rows,
            longest=longest,
            overlap=overlap,
            device=next(loaded.model.parameters()).device,
            name="annotate",
        )
    )
    lines = [] if given.fasta else ["\t".join(["name", "position", "residue", "label", *names])]
    for index, record in enumerate(records):
        shares = found[index][1:-1]  # start and end have no label
        labels = [names[best] for best in shares.argmax(-1).tolist()]
        if given.fasta:
            lines += [f">{record.name}", "".join(labels)]
            continue
        lines += [
            "\t".join([record.name, str(place), letter, label, *(f"{share:.4f}" for share in row)])
            for place, (letter, label, row) in enumerate(zip(record.sequence, labels, shares.tolist(), strict=True), 1)
        ]
    text = "\n".join(lines) + "\n"
    if given.out is None:
        sys.stdout.write(text)
    else:
        write_atomically(given.out, text)
        print(f"written: {given.out}", file=sys.stderr)
    return 0
