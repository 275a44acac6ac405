"""Residues to token ids and back, in ESM-2's order (Lin et al. 2023), so that its weights open.

What stands in a sequence, and what becomes of it:

    A ... Y         the 20 residues
    X B Z U O       unknown, Asx, Glx, selenocysteine, pyrrolysine: tokens of their own, as in ESM-2
    J               Leu or Ile: ESM-2's alphabet lacks it, so it is read as X, the residue that is not known
    lower case      read as upper case: soft masking says something of the sequence, not of its residues
    . -             gaps of an alignment: tokens of their own, as in ESM-2
    *               a stop: left out where it ends the sequence, an error within (several reading frames in one record)
    blanks          left out
    digits, others  an error that says where: a number in a sequence counts residues, or is a label
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

from zoo.data.files import InFolder
from zoo.errors import UserError

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
ALPHABET = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWC",
    *"XBUZO",
    *(".", "-", "<null_1>", "<mask>"),
)
LETTERS = frozenset(name for name in ALPHABET if len(name) == 1)
INDEX = {name: i for i, name in enumerate(ALPHABET)}
_READ = str.maketrans(ascii_lowercase + "J", ascii_uppercase.replace("J", "X") + "X")


def clean(sequence: str) -> str:
    """A sequence as it is encoded, by the policy above. ValueError names the first letter that none of it covers."""
    letters = "".join(sequence.split()).removesuffix("*").translate(_READ)
    if not LETTERS.issuperset(letters):
        place, letter = next((i, c) for i, c in enumerate(letters, 1) if c not in LETTERS)
        kind = "a digit" if letter.isdigit() else "a stop within the sequence" if letter == "*" else "no residue"
        raise ValueError(f"{letter!r} at residue {place} is {kind}")
    return letters


class Residues(InFolder):
    """ESM-2's tokens; there is nothing to train. ValueError, as of `clean`, for a sequence that cannot be read."""

    filename = "vocab.txt"  # in a model's folder: one token per line, as ESM-2 is published
    cls, pad, end, unknown = range(4)
    mask = len(ALPHABET) - 1
    vocab_size = len(ALPHABET)
    special = frozenset(i for i, name in enumerate(ALPHABET) if len(name) > 1)
    residues = tuple(map(ALPHABET.index, RESIDUES))  # ids of the 20, in the order of RESIDUES

    @classmethod
    def load(cls, path: str | Path) -> "Residues":
        """UserError where the file holds other tokens, or the same in another order."""
        try:
            found = tuple(Path(path).read_text(encoding="utf-8").split())
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from None
        if found != ALPHABET:
            place = next((i for i, pair in enumerate(zip(found, ALPHABET, strict=False)) if pair[0] != pair[1]), None)
            what = (
                f"{len(found)} tokens, not {len(ALPHABET)}" if place is None else f"token {place} is {found[place]!r}"
            )
            raise UserError(f"{path}: not ESM-2's tokens ({what})")
        return cls()

    def content(self) -> str:
        return "\n".join(ALPHABET) + "\n"

    def encode(self, sequence: str) -> list[int]:
        """Ids of the residues, without start or end."""
        return [INDEX[letter] for letter in clean(sequence)]

    def frame(self, sequence: str) -> list[int]:
        """Ids as a model reads them: start, residues, end."""
        return [self.cls, *self.encode(sequence), self.end]

    def decode(self, ids: Iterable[int]) -> str:
        """The letters of ids; special tokens leave nothing."""
        return "".join(ALPHABET[i] for i in ids if i not in self.special)

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return [self.decode(row) for row in rows]
