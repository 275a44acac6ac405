"""`zoo contacts MODEL X.fasta`: which residues touch, as a table, a picture, and against a structure."""

import sys
from pathlib import Path
from typing import Any

from zoo.errors import UserError
from zoo.options import Options, check_new, numbered
from zoo.verbs.opening import add_options, check_counts, open_model

LONGEST = 2048  # residues: a map is their square


def main(argv: list[str]) -> int:
    parser = Options(
        prog="zoo contacts",
        description="The likeliest contacts of every protein: name, two positions from 1, their residues, a score. By "
        "attention (a probability, of a model whose regression of contacts was fitted), or by the categorical Jacobian "
        "(a size, of any masked model).",
    )
    add_options(parser)
    parser.add_argument("proteins", type=Path, help="FASTA, or a table with a column 'sequence'; plain or .gz")
    parser.add_argument("--method", choices=["attention", "jacobian"], help="default: attention where it was fitted")
    parser.add_argument("--top", type=int, help="pairs of a protein (default: as many as it has residues)")
    parser.add_argument(
        "--separation", type=int, default=6, help="how far apart two are along the chain, at least: j - i (default 6)"
    )
    parser.add_argument("--maps", type=Path, metavar="FOLDER", help="draw each map to FOLDER/NAME.png")
    parser.add_argument(
        "--structure",
        type=Path,
        help="mmCIF of the (only) protein, its sequence given whole: says the precision of the best L, L/2, L/5 pairs",
    )
    parser.add_argument("--chain", help="its chain (default: the first)")
    parser.add_argument("--fit", type=Path, metavar="CHAINS.npz", help="fit the regression to 20 known chains first")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the model with what was fitted here")
    parser.add_argument("--longest", type=int, default=LONGEST, help=f"residues, at most (default {LONGEST})")
    given = parser.parse_args(argv)
    check_counts(given, "separation", "longest", *(["top"] if given.top is not None else []))

    from zoo.protein.contacts import score_map
    from zoo.protein.files import read_proteins
    from zoo.protein.structures import read_structure

    if given.fit and not given.out:
        raise UserError("--fit needs --out FOLDER, where the model with its regression is written")
    if given.out:
        if not given.fit:
            raise UserError("--out is where a model with a new regression is written: give --fit CHAINS.npz too")
        check_new("--out", given.out)
    records = read_proteins(given.proteins)
    for record in records:
        if len(record.sequence) > given.longest:
            raise UserError(
                f"{given.proteins}, record {record.name!r} (line {record.line}): {len(record.sequence):,} residues; a "
                f"map is their square, and --longest is {given.longest:,}"
            )
    backbone = None
    if given.structure:
        if len(records) > 1:
            raise UserError(f"--structure belongs to one protein, {given.proteins} holds {len(records)}")
        chain = read_structure(given.structure, given.chain)
        backbone = chain.of(records[0].sequence)
        if backbone is None:
            raise UserError(
                f"{given.structure}: chain {chain.name} has {len(chain.sequence)} residues that are not those of "
                f"{records[0].name!r} ({len(records[0].sequence)}); give its whole sequence, or that from the first "
                "residue that was seen to the last"
            )
    pictures = _pictures(given.maps, [record.name for record in records]) if given.maps else []
    loaded = open_model(given, "predict contacts", "ProteinLM")
    model = loaded.model
    if given.fit:
        _fit(loaded, given)
    method = given.method or ("attention" if model.contacts.fitted else "jacobian")
    if given.method is None and method == "jacobian":
        print("this model's regression of contacts was not fitted: by the categorical Jacobian", file=sys.stderr)
    print("name\tfirst\tsecond\tresidues\tscore")
    from zoo.progress import bar

    # from short to long, so that the bar's estimate is on the safe side; said in the order of the file
    order = sorted(range(len(records)), key=lambda i: len(records[i].sequence))
    found: dict[int, Any] = {}
    for index in bar(order, method, "protein"):
        try:
            found[index] = score_map(model, records[index].sequence, method)
        except ValueError as error:
            raise UserError(f"{given.model}: {error}") from None
    for index, record in enumerate(records):
        _say(record, found[index], given)
        if given.maps:
            _draw(found[index], record.name, pictures[index], backbone)
    if backbone is not None:
        from zoo.protein.structures import NEAR, precisions

        seen = int(backbone.seen().diagonal().sum())
        print(
            f"{given.structure}: contacts are {backbone.atoms} atoms below {NEAR:g} angstroms; {seen} of "
            f"{len(backbone.sequence)} residues were seen",
            file=sys.stderr,
        )
        for name, value in precisions(found[0], backbone).items():
            print(f"{name}: {value:.3f}", file=sys.stderr)
    return 0


def _fit(loaded: Any, given: Any) -> None:
    """Fit the regression of contacts, and write the model that has it."""
    from zoo.protein.contacts import fit_regression
    from zoo.protein.structures import read_npz
    from zoo.weights.folders import write

    chains = [chain for chain in read_npz(given.fit) if 30 <= len(chain.sequence) <= 300][:20]
    try:
        fit_regression(loaded.model, chains)
    except ValueError as error:
        raise UserError(f"{given.fit}: {error}") from None
    write(loaded, given.out, Path(given.model))
    print(f"fitted to {len(chains)} chains, written: {given.out}", file=sys.stderr)


def _say(record: Any, scores: Any, given: Any) -> None:
    """The best pairs of one protein, best first."""
    from zoo.protein.structures import best_pairs

    pairs, letters = best_pairs(scores, given.separation, given.top or len(scores)), record.sequence
    if not len(pairs[0]):
        print(f"{record.name}: {len(letters)} residues, no two are {given.separation} apart", file=sys.stderr)
    for a, b in zip(*(ends.tolist() for ends in pairs), strict=True):
        print(f"{record.name}\t{a + 1}\t{b + 1}\t{letters[a]}{letters[b]}\t{scores[a, b]:.4f}")


def _pictures(folder: Path, names: list[str]) -> list[Path]:
    """A new file in a folder for each record, by its name; the second that would have the same is numbered.

    UserError names one that exists.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--maps {folder}: a file, expected a folder")
    taken: dict[Path, None] = {}  # in order
    for name in names:
        plain = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
        free = (folder / f"{stem}.png" for stem in numbered(plain))
        taken[next(path for path in free if path not in taken)] = None
    for path in taken if folder.is_dir() else ():
        check_new("--maps", path)
    return list(taken)


def _draw(scores: Any, name: str, path: Path, backbone: Any) -> None:
    """A map, above its diagonal what was predicted and, where a structure is given, what touches below it."""
    import numpy as np
    from matplotlib.figure import Figure

    shown = np.array(scores, dtype=float)
    if backbone is not None:
        below = np.tril_indices(len(shown))
        shown[below] = np.where(backbone.contacts()[below], np.nanmax(shown), np.nanmin(shown))
    figure = Figure(figsize=(6, 5.4))
    axes = figure.add_subplot()
    size = len(shown) + 0.5
    picture = axes.imshow(shown, cmap="Greys", extent=(0.5, size, size, 0.5), interpolation="none")
    figure.colorbar(picture)
    axes.set(title=name, xlabel="residue", ylabel="residue" if backbone is None else "residue (below: the structure)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, bbox_inches="tight")
    print(f"drawn: {path}", file=sys.stderr)
