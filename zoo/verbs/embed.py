"""`zoo embed MODEL X.fasta --out FILE.npz`: vectors of residues, and of whole proteins."""

import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.atomic import whole_file
from zoo.errors import UserError
from zoo.options import Options, check_new
from zoo.verbs.opening import add_options, open_model

if TYPE_CHECKING:
    import numpy as np


def main(argv: list[str]) -> int:
    parser = Options(
        prog="zoo embed",
        description="The states of a model's last layer, as NumPy's npz: 'names', 'pooled' (one row per protein: the "
        "mean of its residues), and 'residues' with 'offsets' (protein i has rows offsets[i] to offsets[i + 1]).",
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

    made = read_whole(
        states,
        rows,
        longest=longest,
        overlap=overlap,
        device=next(loaded.model.parameters()).device,
        name="embed",
    )
    vectors = (out[1:-1].float().numpy() for out in made)  # start and end are no residues
    offsets = np.cumsum([0, *(len(record.sequence) for record in records)])
    with whole_file(given.out) as file, zipfile.ZipFile(file, "w") as archive:  # what an npz is
        if given.pooled:
            pooled = [each.mean(0) for each in vectors]
        else:
            pooled = _residues(archive, vectors, int(offsets[-1]))
            _member(archive, "offsets", offsets)
        _member(archive, "names", np.array([record.name for record in records]))
        _member(archive, "pooled", np.stack(pooled))
    print(f"written: {given.out}", file=sys.stderr)
    return 0


def _member(archive: zipfile.ZipFile, name: str, array: "np.ndarray") -> None:
    """An array of an npz."""
    from numpy.lib import format as npy

    with archive.open(f"{name}.npy", "w", force_zip64=True) as out:
        npy.write_array(out, array, allow_pickle=False)


def _residues(archive: zipfile.ZipFile, vectors: "Iterable[np.ndarray]", count: int) -> "list[np.ndarray]":
    """The array "residues" of an npz, `count` rows, written a protein at a time; the mean of each protein."""
    from numpy.lib import format as npy

    pooled: list[np.ndarray] = []
    with archive.open("residues.npy", "w", force_zip64=True) as out:
        for each in vectors:
            if not pooled:
                shape = (count, each.shape[1])
                about = {"descr": npy.dtype_to_descr(each.dtype), "fortran_order": False, "shape": shape}
                npy.write_array_header_1_0(out, about)
            out.write(each.tobytes())
            pooled.append(each.mean(0))
    return pooled
