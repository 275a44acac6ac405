"""`zoo score MODEL WILDTYPE.fasta VARIANTS.csv`: what mutations do, as a model of proteins sees it."""

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.atomic import write_atomically
from zoo.errors import UserError, nearest
from zoo.options import Options, check_new
from zoo.verbs.opening import add_options, open_model

if TYPE_CHECKING:
    from zoo.protein.variants import Wildtype

COLUMNS = ("mutant", "variant", "mutation", "mutations", "sequence")


def main(argv: list[str]) -> int:
    parser = Options(
        prog="zoo score",
        description="Add a column of scores to a table of variants, written as A108D, A108D,N144D, A108del, "
        "A108_K109insGS, A108_K110delinsGS, p.Ala108Asp, or as whole sequences; WT or an empty cell is the wild type. "
        "Above 0: likelier than the wild type (of a language model; one that was trained on values gives those).",
    )
    add_options(parser)
    parser.add_argument("wildtype", type=Path, help="FASTA of the protein (of several records, --record names it)")
    parser.add_argument("variants", type=Path, help="a table (.csv, .tsv, plain or .gz)")
    default = "masked-marginals, of a model that writes likelihood, of one trained on values predicted"
    parser.add_argument("--method", action="append", help=f"several times, or 'all' for every one (default: {default})")
    parser.add_argument("--column", help=f"the column of variants (default: the first of {', '.join(COLUMNS)})")
    parser.add_argument("--measured", metavar="COLUMN", help="say each score's rank correlation with this column")
    parser.add_argument("--offset", type=int, help="the number of the first residue (default: found by trying)")
    parser.add_argument("--record", help="name of the record of the wild type")
    parser.add_argument("--longest", type=int, help="tokens of a window, for proteins that are longer (default 1024)")
    parser.add_argument("--out", type=Path, help="write the table here (default: standard output)")
    given = parser.parse_args(argv)
    if given.out:
        check_new("--out", given.out)

    from zoo.data.files import separator_of
    from zoo.protein.files import read_table
    from zoo.protein.scoring import CAUSAL, LEARNED, MASKED, agreement, methods, score
    from zoo.protein.variants import parse

    record = _record(given.wildtype, given.record)
    rows = read_table(given.variants, [name for name in (given.column, given.measured) if name])
    column = given.column or next((name for name in COLUMNS if name in rows[0]), None)
    if column is None:
        held = ", ".join(name for name in rows[0] if name)
        raise UserError(f"{given.variants}: no column {' or '.join(COLUMNS)}; name one of {held} by --column")
    lines = [row.line for row in rows]
    variants = []
    for row, line in zip(rows, lines, strict=True):
        try:
            variants.append(parse(row[column]))
        except ValueError as error:
            raise UserError(f"{given.variants}, line {line}: {error}") from None
    measured = [_number(row[given.measured], f"{given.variants}, line {row.line}") for row in rows if given.measured]
    wildtype = _wildtype(given, record.sequence, variants, lines)
    loaded = open_model(given, "score variants", "ProteinLM", "SequenceModel")
    chosen = given.method or [methods(loaded.model)[0]]
    chosen = list(methods(loaded.model)) if "all" in chosen else list(dict.fromkeys(chosen))
    known = [*MASKED, *CAUSAL, *LEARNED]
    for method in chosen:
        if method not in known:
            raise UserError(f"--method: unknown {method!r}{nearest(method, known)}")
        if method in rows[0]:
            raise UserError(f"{given.variants}: has a column {method!r} already: nothing is overwritten")
    for method in chosen:
        found = score(loaded.model, wildtype, variants, method, longest=given.longest, name=method)
        if none := sum(value is None for value in found):
            print(f"{method}: {none} of {len(found)} variants insert or delete: no score", file=sys.stderr)
        if given.measured:
            rank, count = agreement(found, measured)
            print(f"{method}: Spearman {rank:.3f} with {given.measured}, {count} variants", file=sys.stderr)
        for row, value in zip(rows, found, strict=True):
            row[method] = "" if value is None else f"{value:.6f}"
    _write(rows, given.out, separator_of(given.variants))
    return 0


def _number(cell: str, where: str) -> float | None:
    """A measured value; None where the cell is empty or says that there is none. UserError where it is no number."""
    if cell.strip().lower() in ("", "na", "n/a", "nan", "none", "null"):
        return None
    try:
        return float(cell)
    except ValueError:
        raise UserError(f"{where}: {cell!r} was measured, expected a number") from None


def _record(path: Path, name: str | None) -> Any:
    """The wild type's record of a FASTA file: the named one, or the only one."""
    from zoo.protein.files import read_fasta

    records = {record.name: record for record in read_fasta(path)}
    if name is not None and name not in records:
        raise UserError(f"{path}: no record {name!r}{nearest(name, list(records))}")
    if name is None and len(records) > 1:
        raise UserError(f"{path}: holds {len(records)} records; name the wild type's by --record")
    return records[name] if name else next(iter(records.values()))


def _wildtype(given: Any, sequence: str, variants: list[Any], lines: list[int]) -> "Wildtype":
    """The protein with the number of its first residue; UserError names the first variant that does not fit it."""
    from zoo.protein.variants import Wildtype, check, fitting_offset

    offset, said, why = given.offset, "", ""
    if offset is None:
        try:
            offset, said = fitting_offset(sequence, variants)
        except ValueError as error:
            offset, why = 1, f"; {error}; --offset says where numbers begin"
    wildtype = Wildtype(sequence, offset)
    try:
        check(wildtype, variants, lines, given.variants)
    except UserError as error:
        raise UserError(f"{error}{why}") from None
    if said:
        print(f"{given.variants}: {said}", file=sys.stderr)
    return wildtype


def _write(rows: list[dict[str, str]], out: Path | None, separator: str) -> None:
    """The table with what was added, in the order that it came."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    if out is None:
        sys.stdout.write(text.getvalue())
    else:
        write_atomically(out, text.getvalue())
        print(f"written: {out}", file=sys.stderr)
