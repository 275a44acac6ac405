"""Where residues are: chains of C-alpha atoms from npz files and mmCIF, and which of their residues touch.

Axes: n m residues of a chain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.errors import UserError
from zoo.protein.tokens import clean

NEAR = 8.0  # angstroms between C-alpha atoms that touch
SHORT, MEDIUM, LONG = 6, 12, 24  # residues along the chain from which a contact counts as of that range


@dataclass(frozen=True, eq=False)
class Backbone:
    """A chain: its residues and their C-alpha atoms "n 3" in angstroms, NaN where an atom was not seen."""

    name: str
    sequence: str
    places: np.ndarray

    def contacts(self, near: float = NEAR) -> np.ndarray:
        """True where two residues touch: "n m"; pairs whose atoms were not seen do not."""
        apart = np.linalg.norm(self.places[:, None] - self.places[None], axis=-1)
        return np.nan_to_num(apart, nan=np.inf) < near

    def seen(self) -> np.ndarray:
        """True where both atoms of a pair were seen: "n m"."""
        there = ~np.isnan(self.places[:, 0])
        return there[:, None] & there[None]


def read_npz(path: Path) -> list[Backbone]:
    """Chains of an npz file with arrays pdb, chain, sequence, offset ("chains + 1": the atoms of chain i are
    offset[i] to offset[i + 1]), seq_index (the residue of each atom) and xyz."""
    try:
        with np.load(path, allow_pickle=False) as held:
            parts = {name: held[name] for name in ("pdb", "chain", "sequence", "offset", "seq_index", "xyz")}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"{path}: not an npz file of chains ({error})") from None
    found = []
    for i, sequence in enumerate(parts["sequence"]):
        atoms = slice(int(parts["offset"][i]), int(parts["offset"][i + 1]))
        places = np.full((len(sequence), 3), np.nan, dtype=np.float32)
        places[parts["seq_index"][atoms]] = parts["xyz"][atoms]
        found.append(Backbone(f"{parts['pdb'][i]}_{parts['chain'][i]}", clean(str(sequence)), places))
    return found


def read_structure(path: Path, chain: str | None = None) -> Backbone:
    """A chain of an mmCIF file (.cif, .bcif), the first protein chain where none is named, by biotite.

    The sequence is that of the residues that were seen. UserError where biotite is missing or finds no such chain.
    """
    try:
        from biotite.sequence import ProteinSequence
        from biotite.structure.io import pdbx
    except ImportError:
        raise UserError(f"{path}: reading structures needs biotite: pip install 'transformer-zoo[protein]'") from None
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    kind = {".cif": pdbx.CIFFile, ".bcif": pdbx.BinaryCIFFile}.get(path.suffix)
    if kind is None:
        raise UserError(f"{path}: expected a structure in mmCIF (.cif or .bcif)")
    try:
        atoms = pdbx.get_structure(kind.read(str(path)), model=1)
    except Exception as error:  # a parser of strangers' files fails in a dozen ways
        raise UserError(f"{path}: not a structure that can be read ({str(error).splitlines()[0][:100]})") from None
    alpha = atoms[(atoms.atom_name == "CA") & (atoms.element == "C")]
    chains = list(dict.fromkeys(alpha.chain_id.tolist()))
    if not chains or (chain is not None and chain not in chains):
        raise UserError(f"{path}: no protein chain {'' if chain is None else repr(chain)} (it has {', '.join(chains)})")
    alpha = alpha[alpha.chain_id == (chain or chains[0])]
    letters = []
    for name in alpha.res_name:
        try:
            letters.append(ProteinSequence.convert_letter_3to1(name))
        except KeyError:
            letters.append("X")
    return Backbone(f"{path.stem}_{chain or chains[0]}", clean("".join(letters)), alpha.coord.astype(np.float32))


def precisions(
    scores: np.ndarray, backbone: Backbone, *, ranges: Sequence[int] = (SHORT, MEDIUM, LONG)
) -> dict[str, float]:
    """Precision of the best L pairs of "n m" at each least distance along the chain, and its chance level.

    L is the number of residues; pairs whose atoms were not seen are left out.
    """
    contacts, seen, found = backbone.contacts(), backbone.seen(), {}
    for apart in ranges:
        i, j = np.triu_indices(len(scores), apart)
        i, j = i[seen[i, j]], j[seen[i, j]]
        best = np.argsort(-scores[i, j], kind="stable")[: len(scores)]
        touch = contacts[i, j]
        found |= {f"P@L {apart}+": float(touch[best].mean()), f"chance {apart}+": float(touch.mean())} if len(i) else {}
    return found
