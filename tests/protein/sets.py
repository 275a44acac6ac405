"""Tiny files in the form of the public sets of proteins."""

import gzip
import random
import zipfile
from pathlib import Path

from zoo.protein.tokens import RESIDUES

GFP = "SKGEELFTGVVPILVELDGDVNGHKF"


def drawn(draw: random.Random, size: int) -> str:
    return "".join(draw.choices(RESIDUES, k=size))


def write_sets(folder: Path) -> None:
    """Below `folder`, a folder for each public set that the protein recipes use."""
    draw = random.Random(1)
    flip, netsurfp, natural, scans, gb1 = (
        folder / name for name in ("flip_secondary_structure", "cb513", "proteomes", "nn4dms_dms", "flip_gb1")
    )
    for path in (flip, netsurfp, natural, scans, gb1):
        path.mkdir(parents=True)
    chains = {f"c{i}": drawn(draw, draw.randint(8, 40)) for i in range(40)}
    parts = dict.fromkeys(chains, ("train", "False"))
    parts |= {f"c{i}": ("train", "True") for i in range(30, 35)} | {f"c{i}": ("test", "False") for i in range(35, 40)}
    with zipfile.ZipFile(flip / "splits.zip", "w") as held:
        held.writestr("splits/sequences.fasta", "".join(f">{n}\n{s}\n" for n, s in chains.items()))
        held.writestr("splits/mask.fasta", "".join(f">{n}\n0{'1' * (len(s) - 1)}\n" for n, s in chains.items()))
        marks = [
            f">{n} SET={parts[n][0]} VALIDATION={parts[n][1]}\n{''.join(draw.choices('CHE', k=len(s)))}\n"
            for n, s in chains.items()
        ]
        held.writestr("splits/sampled.fasta", "".join(marks))
    for name in ("CB513", "TS115"):
        tested = [*(drawn(draw, 20) for _ in range(4)), chains["c0"]]  # the last is trained on
        rows = ["input, dssp3, dssp8, disorder, cb513_mask"]
        for sequence in tested:
            ones = " ".join(["1.0"] * (len(sequence) - 2))
            labels = " ".join(draw.choices("CHE", k=len(sequence)))
            rows.append(f"{' '.join(sequence)} , {labels} , {labels} , 0.0 1.0 {ones} , 1.0 0.0 {ones} ")
        (netsurfp / f"{name}_HHblits.csv").write_text("\n".join(rows) + "\n")
    files = (
        "UP000000625_83333.fasta.gz UP000002311_559292.fasta.gz sp_species.9606.all.noexp.tfa.gz MMseqs2_QUERY.fasta.gz"
    ).split()
    for file in files:
        with gzip.open(natural / file, "wt") as out:
            out.write("".join(f">{file[:4]}{i}\n{drawn(draw, draw.randint(5, 60))}\n" for i in range(40)))
    (scans / "wild_types.fasta").write_text(f">avgfp offset=0 (of the first residue)\n{GFP}\n")
    with gzip.open(scans / "avgfp.tsv.gz", "wt") as out:
        out.write("variant\tnum_mutations\tscore\tscore_wt_norm\n")
        for i in range(60):
            places = draw.sample(range(len(GFP)), 1 + i % 5)
            text = ",".join(f"{GFP[p]}{p}{draw.choice(RESIDUES.replace(GFP[p], ''))}" for p in places)
            out.write(f"{text}\t{len(places)}\t{draw.gauss(0, 1):.4f}\t0\n")
    with zipfile.ZipFile(gb1 / "splits.zip", "w") as held:
        for split in ("two_vs_rest", "three_vs_rest", "low_vs_high"):
            rows = ["sequence,target,set,validation"]
            for i in range(60):
                part = ("test", "") if i % 3 == 0 else ("train", "True" if i % 3 == 1 and i % 2 else "")
                rows.append(f"{drawn(draw, 20)},{draw.random():.4f},{part[0]},{part[1]}")
            held.writestr(f"splits/{split}.csv", "\n".join(rows) + "\n")
