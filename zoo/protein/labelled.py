"""Proteins with something known about them: labels of residues (structure), numbers (fitness), classes; public or
one's own."""

import re
import sys
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from zoo.data import public
from zoo.data.corruption import IGNORED
from zoo.errors import UserError
from zoo.protein.data import ORGANISMS, Chain, Known, Organism, ProteinData, part_proteins
from zoo.protein.files import Labelled, is_table, labelled_proteins, read_fasta, read_proteins, read_table
from zoo.protein.homologs import relatives
from zoo.protein.tokens import clean
from zoo.protein.variants import NothingLeftError, Wildtype, parse
from zoo.train.data import Split

UNLABELLED = ".-? "  # of a residue whose label is not known


class ResidueData(ProteinData):
    """Base of the sets with a label for every residue. `names`: the letters of the labels."""

    labelled = "residues"

    @property
    def classes(self) -> int:
        return len(self.names)

    def chain(self, sequence: str, letters: str, known: str | None = None) -> Chain:
        """A chain of equally long `letters`; where `known` has a 0 nothing is counted."""
        known = "1" * len(letters) if known is None else known
        place = {letter: i for i, letter in enumerate(self.names)}
        return Chain(
            sequence,
            tuple(place.get(a, IGNORED) if b == "1" else IGNORED for a, b in zip(letters, known, strict=True)),
        )


class SecondaryStructure(ResidueData):
    """Three states (C coil, H helix, E strand), FLIP's split: Dallago et al. 2021, from NetSurfP-2.0.

    Trained and validated as its headers say (SET=, VALIDATION=), without residues that its mask calls unresolved.
    `test_set`: `flip` (NEW364), `cb513` or `ts115`; chains that are trained or validated on are left out of the latter
    two, and residues that a mask of theirs leaves out do not count.
    """

    names = ("C", "H", "E")

    def __init__(
        self,
        test_set: Literal["flip", "cb513", "ts115"] = "flip",
        tokens_per_batch: int = 8192,
        longest: int = 512,
        overlap: int = 128,
        seed: int = 1,
        workers: int = 0,
    ):
        super().__init__(tokens_per_batch, longest, overlap, seed, workers)
        self.test_set = test_set

    def chains(self, split: Split) -> list[Chain]:
        flip = self._flip()
        if split != "test" or self.test_set == "flip":
            return flip[split]
        trained = {chain.sequence for name in ("train", "val") for chain in flip[name]}
        return [chain for chain in self._netsurfp() if chain.sequence not in trained]

    def _flip(self) -> dict[str, list[Chain]]:
        path = public.fetch("flip_secondary_structure") / "splits.zip"
        folder = unpacked(path, ["splits/sequences.fasta", "splits/sampled.fasta", "splits/mask.fasta"])
        masks = {r.name: r.sequence for r in read_fasta(folder / "mask.fasta", raw=True)}
        marks = {r.name: r for r in read_fasta(folder / "sampled.fasta", raw=True)}
        found: dict[str, list[Chain]] = {"train": [], "val": [], "test": []}
        for record in read_fasta(folder / "sequences.fasta"):
            said = dict(word.split("=") for word in marks[record.name].about.split())
            name = "test" if said["SET"] == "test" else "val" if said["VALIDATION"] == "True" else "train"
            found[name].append(self.chain(record.sequence, marks[record.name].sequence, masks[record.name]))
        return found

    def _netsurfp(self) -> list[Chain]:
        name = f"{self.test_set.upper()}_HHblits.csv"
        rows = read_table(public.fetch("cb513", [name]) / name, ["input", "dssp3", "disorder", "cb513_mask"])
        chains = []
        for row in rows:
            both = zip(row["disorder"].split(), row["cb513_mask"].split(), strict=True)
            known = "".join("1" if float(a) * float(b) else "0" for a, b in both)
            chains.append(self.chain(clean(row["input"]), "".join(row["dssp3"].split()), known))
        return chains


class OwnResidues(ResidueData):
    """Labels of residues of one's own: a table with columns `sequence` and `label`, or two FASTA files whose records
    have the same names (`path` the proteins, `marks` a letter for each residue). A residue marked `.`, `-`, `?` or with
    a blank has no label. The share `held_out` is drawn for validation, all rows of a protein on one side. A test is of
    what validates, and is called that.
    """

    test_set = "validation"

    def __init__(
        self,
        path: Path,
        marks: Path | None = None,
        column: str = "sequence",
        label: str = "label",
        held_out: float = 0.1,
        tokens_per_batch: int = 8192,
        longest: int = 512,
        overlap: int = 128,
        seed: int = 1,
        workers: int = 0,
    ):
        super().__init__(tokens_per_batch, longest, overlap, seed, workers)
        if is_table(path):
            letters = [row[label] for row in read_table(path, [column, label], blanks=True)]
            proteins = read_proteins(path, column)
        elif marks is None:
            raise UserError(f"{path}: labels of a FASTA file stand in a second one of the same names: give data.marks")
        else:
            proteins = read_fasta(path)
            known = {record.name: record.sequence for record in read_fasta(marks, raw=True)}
            if missing := [p.name for p in proteins if p.name not in known]:
                raise UserError(f"{marks}: no record {missing[0]!r}, which {path} has")
            letters = [known[p.name] for p in proteins]
        # blanks at the ends are residues without a label, unless it fits without them
        trimmed = [marked.strip() for marked in letters]
        letters = [
            less if len(less) == len(protein.sequence) else marked
            for protein, marked, less in zip(proteins, letters, trimmed, strict=True)
        ]
        for protein, marked in zip(proteins, letters, strict=True):
            if len(marked) != len(protein.sequence):
                said = "" if marked == marked.strip() else ", blanks at the ends counted: each is a residue without one"
                raise UserError(
                    f"{path}, record {protein.name!r} (line {protein.line}): {len(protein.sequence)} residues, "
                    f"{len(marked)} labels{said}"
                )
        self.names = tuple(sorted(set("".join(letters)) - set(UNLABELLED)))
        if len(self.names) < 2:
            raise UserError(
                f"{path}: labels of one kind only ({''.join(self.names)!r}): there is nothing to tell apart"
            )
        rows = [(protein.sequence, marked) for protein, marked in zip(proteins, letters, strict=True)]
        train, held = ([self.chain(*row) for row in side] for side in part_proteins(rows, held_out, seed))
        self.parts = {"train": train, "val": held, "test": held}


class ValueData(ProteinData):
    """Base of the sets with a number for every protein."""

    labelled = "values"


Scan = Literal["avgfp", "bgl3", "pab1", "ube4b"]


class DeepScan(ValueData):
    """Deep mutational scans (Gelman et al. 2021's collection): `name` one of avGFP's fluorescence (Sarkisyan et al.
    2016), Bgl3, Pab1, Ube4b. Trained on variants of at most `most` mutations, tested on those with more (TAPE's split
    of avGFP: 3); `held_out`: the share of the first that is validated on. All rows of a protein are on one side: a stop
    makes one protein of many variants, and the one with the fewest mutations says where it belongs.

    Variants that leave nothing of the protein are left out, and counted on stderr. UserError for a `most` with which
    there is nothing to train or test on.
    """

    def __init__(
        self,
        name: Scan = "avgfp",
        most: int = 3,
        held_out: float = 0.2,
        tokens_per_batch: int = 16384,
        seed: int = 1,
        workers: int = 0,
    ):
        super().__init__(tokens_per_batch, seed=seed, workers=workers)
        folder = public.fetch("nn4dms_dms", [f"{name}.tsv.gz", "wild_types.fasta"])
        wild = next(r for r in read_fasta(folder / "wild_types.fasta") if r.name == name)
        # written as "offset=126 (...)": the number of the first residue
        self.wildtype = Wildtype(wild.sequence, int(re.search(r"offset=(\d+)", wild.about)[1]))  # type: ignore[index]
        path = folder / f"{name}.tsv.gz"
        rows: list[tuple[str, float]] = []
        fewest: dict[str, int] = {}  # mutations by which each protein is made
        gone = 0
        for row in read_table(path, ["variant", "num_mutations", "score"]):
            try:
                sequence = self.wildtype.apply(parse(row["variant"]))
            except NothingLeftError:
                gone += 1
                continue
            except ValueError as error:
                raise UserError(f"{path}, line {row.line}: {error}") from None
            rows.append((sequence, float(row["score"])))
            mutations = int(row["num_mutations"])
            fewest[sequence] = min(mutations, fewest.get(sequence, mutations))
        if gone:
            every = gone + len(rows)
            print(f"{path}: {gone} of {every} variants leave nothing of the protein: left out", file=sys.stderr)
        low, high = min(fewest.values()), max(fewest.values())
        if not low <= most < high:
            raise UserError(
                f"{path}: variants of {low} to {high} mutations: data.most ({most}) must be from {low} to {high - 1}, "
                "so that some are trained on and some tested"
            )
        few = [row for row in rows if fewest[row[0]] <= most]
        train, held = ([Chain(*row) for row in side] for side in part_proteins(few, held_out, seed))
        many = [Chain(*row) for row in rows if fewest[row[0]] > most]
        self.parts = {"train": train, "val": held, "test": many}


class GB1(ValueData):
    """The four-site landscape of protein G's domain B1 (Wu et al. 2016) in FLIP's splits (Dallago et al. 2021).

    `split`: trained on variants of one, two or three mutations and tested on the rest, or on the less fit and tested on
    the fitter (low_vs_high).
    """

    def __init__(
        self,
        split: Literal["one_vs_rest", "two_vs_rest", "three_vs_rest", "low_vs_high", "sampled"] = "two_vs_rest",
        tokens_per_batch: int = 16384,
        seed: int = 1,
        workers: int = 0,
    ):
        super().__init__(tokens_per_batch, seed=seed, workers=workers)
        self.test_set = split
        name = f"splits/{split}.csv"
        path = unpacked(public.fetch("flip_gb1", ["splits.zip"]) / "splits.zip", [name]) / f"{split}.csv"
        self.parts = {"train": [], "val": [], "test": []}
        for row in read_table(path, ["sequence", "target", "set", "validation"]):
            name = row["set"] if row["set"] == "test" else "val" if row["validation"] == "True" else "train"
            self.parts[name].append(Chain(row["sequence"], float(row["target"])))


class OwnTable(ProteinData):
    """Base of the tables of one's own with a label for every protein. Subclasses give `known` and `chains_of`.

    `validation`: a table of its own, whose proteins are not trained on; where there is none, the share `held_out` is
    drawn. All rows of a protein are on one side. A test is of what validates, and is called that.
    """

    test_set = "validation"

    def __init__(
        self,
        path: Path,
        validation: Path | None = None,
        column: str = "sequence",
        label: str = "label",
        held_out: float = 0.1,
        tokens_per_batch: int = 8192,
        longest: int = 1024,
        seed: int = 1,
        workers: int = 0,
    ):
        super().__init__(tokens_per_batch, longest, min(128, longest // 2), seed, workers)
        train, held = (
            [] if file is None else self.known(list(labelled_proteins(file, column, label, longest)))
            for file in (path, validation)
        )
        if validation is None:
            train, held = part_proteins(train, held_out, seed)
        else:
            proteins, others = ({sequence for sequence, _ in rows} for rows in (train, held))
            train = [row for row in train if row[0] not in others]
            if shared := len(proteins & others):
                print(f"{validation}: {shared} proteins stand in {path} too: not trained on", file=sys.stderr)
            if not train:
                raise UserError(f"{path}: every protein stands in {validation} too: none is left to train on")
        learned, kept = self.chains_of(train, held, path)
        self.parts = {"train": learned, "val": kept, "test": kept}

    def known(self, rows: list[Labelled]) -> list[Known]:
        """Proteins with the label of each. UserError names a row whose label is none."""
        raise NotImplementedError

    def chains_of(self, train: list[Known], held: list[Known], path: Path) -> tuple[list[Chain], list[Chain]]:
        """What is trained on and what validates. UserError where there is nothing to learn of `path`."""
        raise NotImplementedError


class OwnValues(OwnTable, ValueData):
    """Numbers of one's own: a table with columns `sequence` and `label`; a protein that was measured several times has
    several rows. `validation`: a table of its own; where there is none, the share `held_out` is drawn."""

    def known(self, rows: list[Labelled]) -> list[Known]:
        return [(row.sequence, number_of(row)) for row in rows]

    def chains_of(self, train: list[Known], held: list[Known], path: Path) -> tuple[list[Chain], list[Chain]]:
        if len({value for _, value in train}) < 2:
            raise UserError(f"{path}: every value to train on is {train[0][1]:g}: there is nothing to learn")
        return [Chain(*row) for row in train], [Chain(*row) for row in held]


class ClassData(ProteinData):
    """Base of the sets with a class for every protein. `names`: the classes, in the order of their numbers."""

    labelled = "classes"

    @property
    def classes(self) -> int:
        return len(self.names)


class Organisms(ClassData):
    """Which of three organisms a natural protein is of (the proteomes of E. coli, yeast and human).

    `each`: at most so many proteins of each, equally many, drawn among those of at most `longest` tokens that no other
    of the three has: guessing is right for a third. A tenth validates and a tenth tests, without relatives of what is
    trained on.
    """

    names: tuple[Organism, ...] = ("ecoli", "yeast", "human")

    def __init__(
        self,
        each: int = 3000,
        tokens_per_batch: int = 4096,
        longest: int = 512,
        seed: int = 1,
        workers: int = 0,
    ):
        super().__init__(tokens_per_batch, longest, min(128, longest // 2), seed, workers)
        if each < 3:
            raise ValueError(f"each ({each}) must be at least 3: some to train on, one to validate and one to test")
        folder = public.fetch("proteomes", [ORGANISMS[name] for name in self.names])
        self.parts = {"train": [], "val": [], "test": []}
        held = [read_fasta(folder / ORGANISMS[name]) for name in self.names]
        times = Counter(sequence for records in held for sequence in {record.sequence for record in records})
        alone = [dict.fromkeys(r.sequence for r in records if times[r.sequence] == 1) for records in held]
        fitting = [[sequence for sequence in found if len(sequence) + 2 <= longest] for found in alone]
        each = min(each, *map(len, fitting))
        for number, found in enumerate(fitting):
            order = np.random.default_rng((seed, number)).permutation(len(found))[:each]
            tenth = max(len(order) // 10, 1)
            drawn = [Chain(found[i], number) for i in order.tolist()]
            self.parts["val"] += drawn[:tenth]
            self.parts["test"] += drawn[tenth : 2 * tenth]
            self.parts["train"] += drawn[2 * tenth :]
        trained = [chain.sequence for chain in self.parts["train"]]
        for split in ("val", "test"):
            chains = self.parts[split]
            near = relatives([chain.sequence for chain in chains], trained).tolist()
            self.parts[split] = [chain for chain, is_near in zip(chains, near, strict=True) if not is_near]


class OwnClasses(OwnTable, ClassData):
    """Classes of one's own: a table with columns `sequence` and `label`, whose words are the classes; a protein that
    stands several times counts once. `validation`: a table of its own; where there is none, the share `held_out` is
    drawn."""

    def known(self, rows: list[Labelled]) -> list[Known]:
        return list(class_by_sequence(rows).items())

    def chains_of(self, train: list[Known], held: list[Known], path: Path) -> tuple[list[Chain], list[Chain]]:
        self.names = tuple(sorted({name for _, name in train}))
        if lacking := {name for _, name in held} - set(self.names):
            raise UserError(f"{path}: no protein of class {min(lacking)!r} is left to train on")
        if len(self.names) < 2:
            raise UserError(f"{path}: holds one class only ({self.names[0]!r})")
        number = {name: i for i, name in enumerate(self.names)}
        learned, kept = ([Chain(sequence, number[name]) for sequence, name in rows] for rows in (train, held))
        return learned, kept


def number_of(row: Labelled) -> float:
    """UserError where the label is none."""
    try:
        value = float(row.label)
    except ValueError:
        raise UserError(f"{row.where}: label is {row.label!r}, expected a number") from None
    if not np.isfinite(value):
        raise UserError(f"{row.where}: label is {row.label!r}, expected a finite number")
    return value


def class_by_sequence(rows: Sequence[Labelled]) -> dict[str, str]:
    """UserError where a protein has two, or a missing one (NaN; "none" and "NA" may be classes)."""
    known: dict[str, str] = {}
    for row in rows:
        if row.label.lower() == "nan":
            raise UserError(f"{row.where}: label is {row.label!r}, a missing value, expected a class")
        if known.setdefault(row.sequence, row.label) != row.label:
            raise UserError(
                f"{row.where}: this protein stands above with class {known[row.sequence]!r}, here {row.label!r}"
            )
    return known


def unpacked(path: Path, names: Sequence[str]) -> Path:
    """The folder that holds the named members of a zip file, unpacked once beside it."""
    folder = path.parent / f"{path.stem}.unpacked"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(path) as held:
            for name in names:
                target = folder / Path(name).name
                if not target.is_file():
                    beside = target.with_name(target.name + ".part")
                    beside.write_bytes(held.read(name))
                    beside.replace(target)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{path}: not the zip file that it should be ({error})") from None
    return folder
