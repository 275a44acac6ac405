"""Proteins for training: public, built in, or the user's own.

Every set is a list of chains a split. Chains are framed (start, residues, end), cut where they are longer than
`longest` tokens, and batched by a budget of tokens. In training one window of a long chain is taken in each epoch;
elsewhere overlapping windows cover it, and each token counts in one of them.
"""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zoo.data import public
from zoo.data.batches import EpochSampler, rows_of
from zoo.data.corruption import IGNORED
from zoo.errors import UserError
from zoo.protein.files import read_fasta, read_proteins
from zoo.protein.homologs import relatives
from zoo.protein.potts import Family, plant
from zoo.protein.structures import Backbone, read_npz
from zoo.protein.tokens import RESIDUES, Residues
from zoo.protein.windows import Cut, cuts
from zoo.train.data import DataModule, Split

Known = tuple[str, Any]  # a protein's sequence, and what is known of it


class Batch(NamedTuple):
    """Windows of chains in rows, padded at the right."""

    ids: Tensor  # "b n"
    keep: Tensor  # "b n", True = real token
    labels: Tensor  # "b n": the token, or its label; -100 where nothing is counted. Of values and classes: "b"
    index: Tensor  # "b": the chain's row in its split
    begin: Tensor  # "b": the first token's place in the framed chain


@dataclass(frozen=True)
class Chain:
    """A protein with what is to be learned of it: its own tokens (None), a label per residue (-100: none), a value or
    the number of its class."""

    sequence: str
    labels: tuple[int, ...] | float | int | None = None


class Windows(Dataset[tuple[int, int, list[int], Any]]):
    """The windows of one split: (row of the chain, first token, ids, labels) by (epoch, window).

    In training, where a long chain is cut is drawn from (seed, epoch, row): a run that goes on cuts as it would have.
    """

    def __init__(self, chains: Sequence[Chain], longest: int, overlap: int, *, whole: bool, seed: int):
        self.chains, self.longest, self.whole, self.seed = chains, longest, whole, seed
        self.tokenizer = Residues()
        self.cuts: list[tuple[int, Cut]] = []
        for row, chain in enumerate(chains):
            size = len(chain.sequence) + 2
            found = cuts(size, longest, overlap) if whole else [Cut(0, min(size, longest), 0, min(size, longest))]
            self.cuts += [(row, cut) for cut in found]

    @property
    def lengths(self) -> list[int]:
        return [cut.end - cut.begin for _, cut in self.cuts]

    def __len__(self) -> int:
        return len(self.cuts)

    def __getitem__(self, item: tuple[int, int]) -> tuple[int, int, list[int], Any]:
        epoch, number = item
        row, cut = self.cuts[number]
        chain = self.chains[row]
        ids = self.tokenizer.frame(chain.sequence)
        if not self.whole and len(ids) > self.longest:
            begin = int(np.random.default_rng((self.seed, epoch, row)).integers(len(ids) - self.longest + 1))
            cut = Cut(begin, begin + self.longest, begin, begin + self.longest)
        window = ids[cut.begin : cut.end]
        if isinstance(chain.labels, (float, int)):
            return row, cut.begin, window, chain.labels
        labels = ids if chain.labels is None else [IGNORED, *chain.labels, IGNORED]
        before, after = [IGNORED] * (cut.first - cut.begin), [IGNORED] * (cut.end - cut.last)
        return row, cut.begin, window, [*before, *labels[cut.first : cut.last], *after]


def collate(items: list[tuple[int, int, list[int], Any]]) -> Batch:
    """Windows to a batch."""
    ids, keep = rows_of([ids for _, _, ids, _ in items], Residues.pad)
    labels = [labels for *_, labels in items]
    if isinstance(labels[0], (float, int)):
        learned = torch.tensor(labels)
    else:
        learned, _ = rows_of(labels, IGNORED)
    return Batch(ids, keep, learned, *(torch.tensor([item[i] for item in items]) for i in (0, 1)))


class ProteinData(DataModule):
    """Base of the sets of proteins. Subclasses set `parts`, or give `chains(split)` where that is read when asked for.

    `longest`: tokens of a window, start and end included; `overlap`: what two windows of a chain share at least, where
    all of a chain is counted (everywhere but in training).
    """

    test_set = "test"
    labelled = ""  # what is known of a protein beside its sequence
    parts: dict[str, list[Chain]]

    def __init__(
        self, tokens_per_batch: int = 8192, longest: int = 1024, overlap: int = 128, seed: int = 1, workers: int = 0
    ):
        super().__init__()
        if tokens_per_batch < 1:
            raise ValueError(f"tokens_per_batch ({tokens_per_batch}) must be at least 1")
        if longest < 4 or not 0 <= overlap < longest:
            raise ValueError(f"longest ({longest}) must be at least 4, overlap ({overlap}) from 0 to below it")
        self.tokens_per_batch, self.longest, self.overlap = tokens_per_batch, longest, overlap
        self.seed, self.workers = seed, workers
        self.tokenizer = Residues()
        self.vocab_size = Residues.vocab_size
        self._chains: dict[str, list[Chain]] = {}

    def chains(self, split: Split) -> list[Chain]:
        """The chains of a split."""
        return self.parts[split]

    def held(self, split: Split) -> list[Chain]:
        """The chains of a split, read once. UserError where there are none."""
        if split not in self._chains:
            self._chains[split] = self.chains(split)
            if not self._chains[split]:
                raise UserError(f"{type(self).__name__}: the {split} part holds no proteins")
        return self._chains[split]

    def manifest(self) -> dict[str, Any]:
        """What the data is: the hash of each part, its proteins and residues, what shapes its batches."""
        splits: tuple[Split, ...] = ("train", "val", "test")
        return {
            "set": type(self).__name__,
            "sha256": {split: _digest(self.held(split)) for split in splits},
            "proteins": {split: len(self.held(split)) for split in splits},
            "residues": {split: sum(len(c.sequence) for c in self.held(split)) for split in splits},
            "tokens_per_batch": self.tokens_per_batch,
            "longest": self.longest,
            "overlap": self.overlap,
        }

    def save(self, folder: Path) -> None:
        """The tokens, into a run folder."""
        self.tokenizer.save(folder)

    def _loader(self, split: Split, *, shuffle: bool) -> DataLoader[Any]:
        windows = Windows(self.held(split), self.longest, self.overlap, whole=not shuffle, seed=self.seed)
        sampler = EpochSampler(windows.lengths, self.tokens_per_batch, seed=self.seed, shuffle=shuffle, **self.ranks())
        return DataLoader(
            windows,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )


def _digest(chains: Sequence[Chain]) -> str:
    return hashlib.sha256("\n".join(f"{c.sequence} {c.labels}" for c in chains).encode()).hexdigest()


def part(chains: Sequence[Any], held_out: float, seed: int) -> tuple[list[Any], list[Any]]:
    """Chains in two parts, the second with the share `held_out`, at least one; drawn by `seed`. ValueError for a share
    that leaves one part empty."""
    count = max(round(held_out * len(chains)), 1)
    if not 0 < held_out < 1 or count >= len(chains):
        raise ValueError(f"held_out ({held_out}) of {len(chains)} proteins leaves one part empty")
    order = np.random.default_rng(seed).permutation(len(chains))
    second = set(order[:count].tolist())
    return [c for i, c in enumerate(chains) if i not in second], [chains[i] for i in sorted(second)]


def part_proteins(rows: Sequence[Known], held_out: float, seed: int) -> tuple[list[Known], list[Known]]:
    """As `part`, of proteins with what is known of them: all rows of one protein are on one side."""
    _, held = part(list(dict.fromkeys(sequence for sequence, _ in rows)), held_out, seed)
    second = set(held)
    return [row for row in rows if row[0] not in second], [row for row in rows if row[0] in second]


class Planted(ProteinData):
    """The built-in family (zoo/protein/potts.py): contacts that are planted, and therefore known."""

    def __init__(
        self,
        length: int = 32,
        strength: float = 5.0,
        train: int = 40_000,
        val: int = 1_000,
        test: int = 1_000,
        tokens_per_batch: int = 2048,
        seed: int = 1,
        workers: int = 0,
    ):
        super().__init__(tokens_per_batch, longest=length + 2, overlap=0, seed=seed, workers=workers)
        self.family: Family = plant(length, strength=strength, seed=seed)
        self.sizes: dict[str, int] = {"train": train, "val": val, "test": test}

    def chains(self, split: Split) -> list[Chain]:
        drawn = self.family.sample(self.sizes[split], seed=self.seed + 1 + list(self.sizes).index(split))
        return [Chain("".join(RESIDUES[kind] for kind in row)) for row in drawn]

    def manifest(self) -> dict[str, Any]:
        about = {"length": self.family.length, "degree": 2, "contacts": self.family.edges}
        return super().manifest() | about | {"strength": float(self.family.energies.max())}


class Apart(ProteinData):
    """Base of the sets without labels, whose held-out part shares no protein with what is trained on."""

    def divide(self, train: list[str], held: list[str], *, apart: bool) -> None:
        """Keep both parts. Of the second what is trained on is left out, and where they shall be `apart` its relatives
        too; how many that are is said on stderr."""
        if apart:
            out, what = relatives(held, train).tolist(), ("relatives", "a relative")
        else:
            trained = set(train)
            out, what = [sequence in trained for sequence in held], ("copies", "a copy")
        if apart or any(out):
            print(
                f"{sum(out)} of {len(held)} held-out proteins are {what[0]} of what is trained on: left out",
                file=sys.stderr,
            )
        if all(out):
            raise UserError(f"every held-out protein is {what[1]} of what is trained on: nothing is left")
        kept = [Chain(sequence) for sequence, left_out in zip(held, out, strict=True) if not left_out]
        self.parts = {"train": [Chain(sequence) for sequence in train], "val": kept, "test": kept}


class Proteins(Apart):
    """Proteins of one's own, without labels: FASTA, or a table with a column of sequences; plain or gz. Each counts
    once, however often it stands in a file.

    `validation`: a file of its own; where there is none, the share `held_out` is drawn. What is trained on is left out
    of validation, and where `apart` its relatives too (zoo/protein/homologs.py).
    """

    def __init__(
        self,
        path: Path,
        validation: Path | None = None,
        column: str = "sequence",
        held_out: float = 0.05,
        apart: bool = True,
        tokens_per_batch: int = 8192,
        longest: int = 1024,
        overlap: int = 128,
        seed: int = 1,
        workers: int = 0,
    ):
        super().__init__(tokens_per_batch, longest, overlap, seed, workers)
        train = _each_once(path, column)
        if validation is None:
            train, held = part(train, held_out, seed)
        else:
            held = _each_once(validation, column)
        self.divide(train, held, apart=apart)


def _each_once(path: Path, column: str) -> list[str]:
    """The different proteins of a file; how many are copies is said on stderr."""
    every = [protein.sequence for protein in read_proteins(path, column)]
    found = list(dict.fromkeys(every))
    if copies := len(every) - len(found):
        print(f"{path}: {copies} of {len(every)} proteins are copies of others: left out", file=sys.stderr)
    return found


ORGANISMS = {
    "ecoli": "UP000000625_83333.fasta.gz",
    "yeast": "UP000002311_559292.fasta.gz",
    "human": "sp_species.9606.all.noexp.tfa.gz",
    "mixed": "MMseqs2_QUERY.fasta.gz",
}
Organism = Literal["ecoli", "yeast", "human", "mixed"]


class Proteomes(Apart):
    """Natural proteins (UniProt), divided by organism: all but one are trained on, `validation` is held out.

    Relatives of what is trained on are left out of validation. `limit`: at most so many validation proteins, drawn.
    """

    def __init__(
        self,
        train: tuple[Organism, ...] = ("ecoli", "yeast"),
        validation: Organism = "human",
        limit: int | None = None,
        tokens_per_batch: int = 8192,
        longest: int = 1024,
        overlap: int = 128,
        seed: int = 1,
        workers: int = 0,
    ):
        super().__init__(tokens_per_batch, longest, overlap, seed, workers)
        if validation in train:
            raise ValueError(f"{validation} cannot be trained on and validated on")
        names = {*train, validation}
        folder = public.fetch("proteomes", [ORGANISMS[name] for name in names])
        found = {name: [p.sequence for p in read_fasta(folder / ORGANISMS[name])] for name in names}
        held = list(dict.fromkeys(found[validation]))
        self.divide(list(dict.fromkeys(s for name in train for s in found[name])), held, apart=True)
        if limit is not None and limit < len(self.parts["val"]):
            _, kept = part(self.parts["val"], limit / len(self.parts["val"]), seed)
            self.parts |= {"val": kept, "test": kept}


def pdb_chains() -> list[Backbone]:
    """The public set `pdb_calpha`, sequences that came before left out."""
    chains = read_npz(public.fetch("pdb_calpha") / "ca_chains.npz")
    return list({chain.sequence: chain for chain in reversed(chains)}.values())[::-1]
