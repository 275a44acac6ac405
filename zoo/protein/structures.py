"""Where residues are: an atom of each from npz files and mmCIF, which of them touch, and how many a map has found.

Axes: n m residues of a chain.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zoo.errors import UserError
from zoo.protein.tokens import clean

NEAR = 8.0  # angstroms between atoms that touch
ALPHA, BETA = "C-alpha", "C-beta (C-alpha where there is none)"
SHORT, MEDIUM, LONG = 6, 12, 24  # residues along the chain from which a contact counts as of that range


@dataclass(frozen=True, eq=False)
class Backbone:
    """A chain: its residues, X where its file does not say which, and an atom of each, "n 3" in angstroms, NaN where it
    was not seen. `atoms`: which atoms these are."""

    name: str
    sequence: str
    places: np.ndarray
    atoms: str = ALPHA

    def of(self, sequence: str) -> "Backbone | None":
        """The places of `sequence`, which is this chain's, or what it has from the first residue that was seen to the
        last; None where it is neither."""
        seen = np.flatnonzero(~np.isnan(self.places[:, 0]))
        for part in (slice(None), slice(seen[0], seen[-1] + 1)):
            own = self.sequence[part]
            if len(own) == len(sequence) and all(a in (b, "X") for a, b in zip(own, sequence, strict=True)):
                return replace(self, sequence=sequence, places=self.places[part])
        return None

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

    The sequence is the whole one that the file gives (entity_poly_seq). Its residues stand where label_seq_id says,
    each placed by its C-beta, or where it has none (glycine) by its C-alpha. UserError where biotite is missing or
    finds no such chain.
    """
    try:
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
        block = next(iter(kind.read(str(path)).values()))
        atoms = pdbx.get_structure(block, model=1, extra_fields=["label_seq_id", "label_entity_id"])
        told = block.get("entity_poly_seq", {})
        columns = [told[name].as_array(str).tolist() for name in ("entity_id", "num", "mon_id")] if told else []
    except Exception as error:  # a parser of strangers' files fails in a dozen ways
        said = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a structure that can be read ({said})") from None
    atoms = atoms[(atoms.element == "C") & np.char.isdigit(atoms.label_seq_id)]  # no ligands: these have no place
    chains = list(dict.fromkeys(atoms.chain_id[atoms.atom_name == "CA"].tolist()))
    if not chains or (chain is not None and chain not in chains):
        raise UserError(f"{path}: no protein chain {'' if chain is None else repr(chain)} (it has {', '.join(chains)})")
    atoms = atoms[atoms.chain_id == (chain or chains[0])]
    entity = str(atoms.label_entity_id[atoms.atom_name == "CA"][0])
    letters = {int(place): _letter(name) for of, place, name in zip(*columns, strict=True) if of == entity}
    letters |= {int(place): _letter(name) for place, name in zip(atoms.label_seq_id, atoms.res_name, strict=True)}
    places = np.full((max(letters), 3), np.nan, dtype=np.float32)
    for name in ("CA", "CB"):
        found = atoms[atoms.atom_name == name]
        places[found.label_seq_id.astype(int) - 1] = found.coord
    sequence = "".join(letters.get(place, "X") for place in range(1, len(places) + 1))
    which = BETA if (atoms.atom_name == "CB").any() else ALPHA
    return Backbone(f"{path.stem}_{chain or chains[0]}", clean(sequence), places, which)


def _letter(name: str) -> str:
    """The letter of a residue's name in mmCIF; X where it has none."""
    from biotite.sequence import ProteinSequence

    try:
        return str(ProteinSequence.convert_letter_3to1(name))
    except KeyError:
        return "X"


def best_pairs(
    scores: np.ndarray, separation: int, top: int, seen: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The `top` best pairs i < j of "n n" at least `separation` apart, best first; of those that were `seen`."""
    i, j = np.triu_indices(len(scores), separation)
    if seen is not None:
        i, j = i[seen[i, j]], j[seen[i, j]]
    best = np.argsort(-scores[i, j], kind="stable")[:top]
    return i[best], j[best]


def precision(
    scores: np.ndarray, contacts: np.ndarray, *, separation: int, top: int, seen: np.ndarray | None = None
) -> tuple[float, float]:
    """Share of contacts among `best_pairs`, and what chance would give; NaN where there are no such pairs."""
    every, best = (contacts[best_pairs(scores, separation, count, seen)] for count in (scores.size, top))
    return (float(best.mean()), float(every.mean())) if len(every) else (np.nan, np.nan)


def precisions(
    scores: np.ndarray, backbone: Backbone, *, ranges: Sequence[int] = (SHORT, MEDIUM, LONG)
) -> dict[str, float]:
    """Precision of the best L, L/2 and L/5 pairs of "n m" at each least distance along the chain, and its chance level.

    L is the number of residues; pairs whose atoms were not seen are left out, and distances without any pair.
    """
    contacts, seen, found = backbone.contacts(), backbone.seen(), {}
    for apart in ranges:
        for name, part in {"P@L": 1, "P@L/2": 2, "P@L/5": 5}.items():
            top = max(len(scores) // part, 1)
            share, chance = precision(scores, contacts, separation=apart, top=top, seen=seen)
            found |= {} if np.isnan(share) else {f"{name} {apart}+": share, f"chance {apart}+": chance}
    return found
