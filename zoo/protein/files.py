"""Proteins as strangers write them: FASTA and tables (CSV, TSV), plain or gz. Errors name record and line.

Sequences come out as they are encoded (zoo/protein/tokens.py has the policy).
"""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from zoo.data.files import read_lines, read_text, separator_of
from zoo.errors import UserError, nearest
from zoo.protein.tokens import clean

DNA = frozenset("ACGTN")
LEAST_DNA = 30  # letters: a peptide of A, C, G, T and N alone may be shorter
TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


@dataclass(frozen=True)
class Protein:
    """A record: the first word of its header, the rest of it, its residues, the line that it begins on."""

    name: str
    sequence: str
    about: str = ""
    line: int = 0

    def __str__(self) -> str:
        return self.name


def read_fasta(path: Path, *, raw: bool = False) -> list[Protein]:
    """The records of a FASTA file, in its order.

    UserError names record and line: text before the first header, a record without a name or without residues, a name
    that came before, a letter that is none. Sequences of nothing but A, C, G, T and N are warned of on stderr. `raw`:
    what stands under a header is no protein (labels, a mask) and is taken as it is, blanks at its ends too.
    """
    path = Path(path)
    records: list[Protein] = []
    begins: dict[str, int] = {}
    header, start, parts = "", 0, [""]
    for number, line in enumerate([*read_lines(path, longest=None), ">"], 1):
        if not line.startswith(">"):
            if not start and line.strip():
                raise UserError(f"{path}, line {number}: a sequence without a header (FASTA headers begin with '>')")
            parts.append(line)
            continue
        if start:
            records.append(_record(path, header, start, "".join(parts), raw=raw))
        header, start, parts = line[1:].strip(), number, []
    for record in records:
        if record.name in begins:
            raise UserError(
                f"{path}, line {record.line}: the name {record.name!r} stands on line {begins[record.name]} already"
            )
        begins[record.name] = record.line
    if not raw:
        warn_of_dna(path, records)
    return records


def _record(path: Path, header: str, line: int, text: str, *, raw: bool) -> Protein:
    if not header:
        raise UserError(f"{path}, line {line}: a header without a name")
    name, *about = header.split(maxsplit=1)
    try:
        sequence = text if raw else clean(text)
    except ValueError as error:
        raise UserError(f"{path}, record {name!r} (line {line}): {error}") from None
    if not sequence:
        raise UserError(f"{path}, record {name!r} (line {line}): holds no residues")
    return Protein(name, sequence, "".join(about), line)


def warn_of_dna(path: Path, records: Sequence[Protein]) -> None:
    """Say on stderr how many sequences are DNA by their letters, and which is the first."""
    suspects = [r for r in records if len(r.sequence) >= LEAST_DNA and DNA.issuperset(r.sequence)]
    if suspects:
        print(
            f"warning: {path}: {len(suspects)} of {len(records)} sequences hold nothing but A, C, G, T and N "
            f"(first: {suspects[0].name!r}, line {suspects[0].line}): this looks like DNA, read as residues",
            file=sys.stderr,
        )


def is_table(path: Path) -> bool:
    return str(path).lower().endswith(TABLES)


class Row(dict[str, str]):
    """A row of a table by the names of its columns, with the line that it begins on."""

    line: int


def read_table(path: Path, columns: Sequence[str], *, blanks: bool = False) -> list[Row]:
    """Rows of a table with a header line (a tab separates in .tsv, else a comma). Blanks before a cell are left out,
    unless `blanks` mean something.

    UserError names file and line: a column that is asked for and is not there or stands twice, a row with more or fewer
    fields, a quotation mark that is not closed.
    """
    path = Path(path)
    lines = _fields(path, blanks=blanks)
    head = [name.strip() for name in next(lines)[1]]
    for column in columns:
        if column not in head:
            raise UserError(f"{path}, line 1: no column {column!r}{nearest(column, head)}")
    if twice := [name for i, name in enumerate(head) if name in head[:i]]:
        raise UserError(f"{path}, line 1: the column {twice[0]!r} stands twice")
    rows = []
    for line, fields in lines:
        if not fields:
            continue
        if len(fields) != len(head):
            raise UserError(f"{path}, line {line}: {len(fields)} fields, the header has {len(head)}")
        row = Row(zip(head, fields, strict=True))
        row.line = line
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: no row under the header")
    return rows


def _fields(path: Path, *, blanks: bool) -> Iterator[tuple[int, list[str]]]:
    """The fields of each row of a table, as they stand, with the line that it begins on."""
    text = io.StringIO(read_text(path), newline="")
    reader = csv.reader(text, delimiter=separator_of(path), skipinitialspace=not blanks, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            advice = (
                "" if "limit" in str(error) else "; a quotation mark that opens a cell closes it, and is doubled within"
            )
            raise UserError(f"{path}, line {line}: {error}{advice}") from None
        yield line, fields


def read_proteins(path: Path, column: str = "sequence") -> list[Protein]:
    """Proteins of a FASTA file, or of the `column` of a table; there a column "name" names them, else file and line."""
    path = Path(path)
    if not is_table(path):
        return read_fasta(path)
    records = []
    for row in read_table(path, [column]):
        line = row.line
        try:
            sequence = clean(row[column])
        except ValueError as error:
            raise UserError(f"{path}, line {line}: {error}") from None
        if not sequence:
            raise UserError(f"{path}, line {line}: holds no residues")
        name = " ".join(row.get("name", "").split())  # one line without tabs, as tables are written
        records.append(Protein(name or f"{path.name}, line {line}", sequence, line=line))
    warn_of_dna(path, records)
    return records


class Labelled(NamedTuple):
    """A row of a table: a whole protein, its label as it was written, and where that stands."""

    sequence: str
    label: str
    file: Path
    line: int

    @property
    def where(self) -> str:
        return f"{self.file}, line {self.line}"


def labelled_proteins(path: Path, column: str, label: str, longest: int) -> Iterator[Labelled]:
    """The rows of a table; UserError where one holds no whole protein of at most `longest` tokens with a label."""
    if not is_table(path):
        raise UserError(
            f"{path}: labels of proteins stand in a table (.csv or .tsv, also .gz) with columns {column!r}, {label!r}"
        )
    for protein, row in zip(read_proteins(path, column), read_table(path, [column, label]), strict=True):
        found = Labelled(protein.sequence, row[label].strip(), path, row.line)
        if not found.label:
            raise UserError(f"{found.where}: nothing in column {label!r}")
        if len(protein.sequence) + 2 > longest:
            raise UserError(
                f"{found.where}: {len(protein.sequence):,} residues; a label belongs to a whole protein, and "
                f"data.longest is {longest}"
            )
        yield found
