"""Variants of a protein as they are written, and the protein that each makes.

    A108D                 residue 108, an A, becomes a D
    A108D,N144D           several at once; `,` `;` `:` or `/` separates
    A108del  A108_K110del deleted; inserted between two neighbours: A108_K109insGS; both: A108_K110delinsGS
    A108*                 a stop: the protein ends before residue 108
    A108=                 residue 108 stays as it is
    p.Ala108Asp           HGVS: the same with three letters a residue, also p.(Ala108Asp) and p.Ala108=
    WT, p.= (or nothing)  the protein as it is
    MKV...                letters alone: the variant's whole sequence, a stop at its end left out
    NA, NaN, none, null   missing values (also N/A, in any case): an error, though some are peptides

Positions count from the number that the first residue has: 1 in most tables, 0 in some, another where the sequence is a
part of a longer protein. Every variant says which residue it replaces, so the number is found by trying.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from zoo.errors import UserError
from zoo.protein.tokens import LETTERS, clean

_ONE = re.compile(r"([A-Z])(-?\d+)(?:_([A-Z])(-?\d+))?(?:([A-Z*=])|(delins|del|ins)([A-Z]*))")
_WILD = ("", "WT", "_WT", "WILDTYPE", "P.=")
_MISSING = ("NA", "N/A", "NAN", "NONE", "NULL")
# HGVS's three letters of a residue, and the one
_LETTERS = dict(
    pair.split(":")
    for pair in "Ala:A Arg:R Asn:N Asp:D Cys:C Gln:Q Glu:E Gly:G His:H Ile:I Leu:L Lys:K Met:M Phe:F Pro:P Ser:S Thr:T "
    "Trp:W Tyr:Y Val:V Asx:B Glx:Z Sec:U Pyl:O Xaa:X Ter:*".split()
)


@dataclass(frozen=True)
class Change:
    """Residues first to last (as they are numbered) become `new`. `known`: (number, letter) that must stand there."""

    text: str
    first: int
    last: int  # one below first: an insertion, nothing is replaced
    new: str
    known: tuple[tuple[int, str], ...]

    @property
    def substitution(self) -> bool:
        return self.last - self.first + 1 == len(self.new) and self.new != "*"


Variant = tuple[Change, ...] | str


class NothingLeftError(ValueError):
    """A variant that is no protein at all: a stop at its first residue, or all of it deleted."""


def parse(text: str) -> Variant:
    """The changes of a variant, or a whole sequence. ValueError names the part that is neither."""
    text = text.strip()
    if text.upper() in _WILD:
        return ()
    if text.upper() in _MISSING:
        raise ValueError(f"{text!r} is a missing value: leave the row out (an empty cell is the wild type)")
    if text.removesuffix("*").isalpha():
        return clean(text)
    return tuple(_change(part.strip()) for part in re.split(r"[,;:/]", text))


def _change(text: str) -> Change:
    plain = re.sub(r"^p\.(?:\((.*)\)$)?", r"\1", text)
    found = _ONE.fullmatch(re.sub("|".join(_LETTERS), lambda code: _LETTERS[code[0]], plain))
    if not found:
        raise ValueError(
            f"{text!r} is no variant: expected one like A108D, p.Ala108Asp, A108del, A108_K109insGS, "
            "A108_K110delinsGS, its residues in upper case"
        )
    letter, number, other, until, new, kind, run = found.groups()
    first, known = int(number), [(int(number), letter)]
    last = first
    if other:
        last = int(until)
        known.append((last, other))
        if last < first + (kind == "ins"):
            raise ValueError(f"{text!r}: {until} does not follow {number}")
    if new:
        if other:
            raise ValueError(f"{text!r} names two residues and one letter")
        run = letter if new == "=" else new
    if kind == "ins":
        if not other or last != first + 1 or not run:
            raise ValueError(f"{text!r}: an insertion names two neighbours and what stands between them")
        first, last = last, first
    if (kind == "delins" and not run) or (kind == "del" and run):
        raise ValueError(f"{text!r}: del names what goes, delins what comes in its place too")
    if new != "*" and not LETTERS.issuperset(run):
        raise ValueError(f"{text!r}: {run!r} are no residues")
    return Change(text, first, last, run, tuple(known))


@dataclass(frozen=True)
class Wildtype:
    """A protein whose first residue has the number `offset`."""

    sequence: str
    offset: int = 1

    def disagreement(self, variant: Variant) -> str | None:
        """What in a variant does not fit this protein, in words; None where all does."""
        for change in () if isinstance(variant, str) else variant:
            for number, letter in change.known:
                place = number - self.offset
                if not 0 <= place < len(self.sequence):
                    last = self.offset + len(self.sequence) - 1
                    return f"{change.text}: residues are numbered {self.offset} to {last} here"
                if self.sequence[place] != letter:
                    return f"{change.text}: residue {number} is {self.sequence[place]}, not {letter}"
        return None

    def apply(self, variant: Variant) -> str:
        """The variant's whole sequence. ValueError where it does not fit, or two changes touch the same residue;
        NothingLeftError where none is left of it."""
        if isinstance(variant, str):
            return variant
        if wrong := self.disagreement(variant):
            raise ValueError(wrong)
        sequence, before = self.sequence, len(self.sequence) + self.offset
        for change in sorted(variant, key=lambda c: (c.first, c.last), reverse=True):
            if change.last >= before:
                raise ValueError(f"{change.text}: another change of the same variant touches the same residue")
            begin, end = change.first - self.offset, change.last + 1 - self.offset
            sequence, before = sequence[:begin] + change.new + sequence[end:], change.first
        sequence = sequence.partition("*")[0]
        if not sequence:
            raise NothingLeftError("the variant leaves nothing of the protein")
        return sequence

    def places(self, variant: Variant) -> list[int] | None:
        """Where (from 0) residues are replaced one for one; None where the variant is none of that kind alone."""
        if isinstance(variant, str):
            if len(variant) != len(self.sequence):
                return None
            return [i for i, (a, b) in enumerate(zip(self.sequence, variant, strict=True)) if a != b]
        if not all(change.substitution for change in variant):
            return None
        after = self.apply(variant)
        return [i for i, (a, b) in enumerate(zip(self.sequence, after, strict=True)) if a != b]


def fitting_offset(sequence: str, variants: Sequence[Variant]) -> tuple[int, str]:
    """The number of the first residue under which every variant fits, and what is to be said of it ("" for nothing).

    Counting from 1 is tried first, then from 0, then whatever number fits. ValueError where none does.
    """
    changes = {known for variant in variants if not isinstance(variant, str) for c in variant for known in c.known}
    if not changes:
        return 1, ""

    def fits(offset: int) -> int:
        return sum(
            0 <= number - offset < len(sequence) and sequence[number - offset] == letter for number, letter in changes
        )

    if fits(1) == len(changes):
        return 1, ("positions fit counting from 0 as well as from 1: 1 was taken" if fits(0) == len(changes) else "")
    if fits(0) == len(changes):
        return 0, "positions count from 0"
    lowest, highest = min(changes)[0], max(changes)[0]
    others = [o for o in range(highest - len(sequence) + 1, lowest + 1) if fits(o) == len(changes)]
    if len(others) == 1:
        return others[0], f"the first residue has the number {others[0]}"
    if others:
        raise ValueError(f"positions fit several numbers of the first residue ({', '.join(map(str, others[:5]))})")
    from_one, from_zero = fits(1), fits(0)
    raise ValueError(
        f"of {len(changes)} residues that the variants name, {from_one} agree with the sequence counting from 1, "
        f"{from_zero} counting from 0"
    )


def check(wildtype: Wildtype, variants: Sequence[Variant], lines: Sequence[int], path: object) -> None:
    """UserError names the first variant, by its line, that does not fit the protein."""
    for variant, line in zip(variants, lines, strict=True):
        try:
            wildtype.apply(variant)
        except ValueError as error:
            raise UserError(f"{path}, line {line}: {error}") from None
