"""`zoo embed MODEL X.fasta --out FILE.npz`: vectors of residues, and of whole proteins."""

import os
import sys
from pathlib import Path

from zoo.errors import UserError
from zoo.options import Options, check_new
from zoo.verbs.opening import add_options, open_model


def main(argv: list[str]) -> int:
    parser = Options(
        prog="zoo embed",
        description="The states of a model's last layer, as NumPy's npz: 'names', 'pooled' (a row a protein: the mean "
        "of its residues), and 'residues' with 'offsets' (protein i has rows offsets[i] to offsets[i + 1]).",
    )
    add_options(parser)
    parser.add_argument("proteins", type=Path, help="FASTA, or a table with a column 'sequence'; plain or .gz")
    parser.add_argument("--out", type=Path, required=True, help="the file to write (.npz)")
    parser.add_argument("--longest", type=int, help="tokens of a window, for proteins that are longer (default 1024)")
    parser.add_argument("--pooled", action="store_true", help="leave the vectors of residues out")
    given = parser.parse_args(argv)
    if given.out.suffix != ".npz":
        raise UserError(f"--out {given.out}: expected a name that ends in .npz")
    check_new("--out", given.out)

    import numpy as np

    from zoo.protein.files import read_proteins
    from zoo.protein.reading import read_whole, window_of

    records = read_proteins(given.proteins)
    loaded = open_model(given, "embed proteins", "ProteinLM", "ResidueModel", "SequenceModel")
    longest, overlap = window_of(loaded.model, given.longest)
    rows = [loaded.tokenizer.frame(record.sequence) for record in records]

    def states(ids, keep):  # type: ignore[no-untyped-def]
        found, layout = loaded.model.trunk(ids, keep)
        return layout.give(found, keep)

    found = {
        index: out[1:-1].float().numpy()
        for index, out in read_whole(
            states,
            rows,
            longest=longest,
            overlap=overlap,
            device=next(loaded.model.parameters()).device,
            name="embed",
        )
    }
    ordered = [found[index] for index in range(len(records))]
    arrays = {
        "names": np.array([record.name for record in records]),
        "pooled": np.stack([vectors.mean(0) for vectors in ordered]),
    }
    if not given.pooled:
        arrays |= {
            "residues": np.concatenate(ordered),
            "offsets": np.concatenate(([0], np.cumsum([len(vectors) for vectors in ordered]))),
        }
    beside = given.out.with_name(f"{given.out.name}.{os.getpid()}.part")
    with beside.open("wb") as file:
        np.savez(file, **arrays)
    beside.replace(given.out)
    print(f"written: {given.out}", file=sys.stderr)
    return 0
