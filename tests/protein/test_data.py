"""Sets of proteins: their parts, what is counted in them, and batches."""

import gzip

import numpy as np
import pytest
import torch

from tests.protein.sets import GFP, write_sets
from zoo.data.corruption import IGNORED
from zoo.errors import UserError
from zoo.protein.data import ORGANISMS, Chain, Planted, ProteinData, Proteins, Proteomes, Windows
from zoo.protein.homologs import relatives
from zoo.protein.labelled import GB1, DeepScan, Organisms, OwnClasses, OwnResidues, OwnValues, SecondaryStructure
from zoo.protein.tokens import RESIDUES, Residues


@pytest.fixture
def public(tmp_path, monkeypatch: pytest.MonkeyPatch):
    write_sets(tmp_path)
    monkeypatch.setattr("zoo.data.public.fetch", lambda name, files=None: tmp_path / name)
    return tmp_path


def counted(data: ProteinData, split: str) -> dict[int, list[int]]:
    """The labels of every chain of a split that its batches count, put together again."""
    found: dict[int, dict[int, int]] = {}
    for batch in data._loader(split, shuffle=False):
        for row, begin, labels in zip(batch.index.tolist(), batch.begin.tolist(), batch.labels.tolist(), strict=True):
            for place, label in enumerate(labels):
                if label != IGNORED:
                    assert begin + place not in found.setdefault(row, {})  # once
                    found[row][begin + place] = label
    return {row: [places[p] for p in sorted(places)] for row, places in found.items()}


def test_every_token_counts_once_however_long_a_chain_is(tmp_path) -> None:
    draw = np.random.default_rng(0)
    sizes = [2, 30, 31, 32, 200, 997]
    sequences = ["".join(draw.choice(list("ACDEFGHIKLMNPQRSTVWY"), n)) for n in sizes]
    (tmp_path / "x.fasta").write_text("".join(f">p{i}\n{s}\n" for i, s in enumerate(sequences)))
    (tmp_path / "y.fasta").write_text(">other\nWHWHWHWH\n")
    data = Proteins(tmp_path / "y.fasta", tmp_path / "x.fasta", apart=False, longest=32, overlap=8, tokens_per_batch=99)
    found = counted(data, "val")
    assert [found[i] for i in range(len(sizes))] == [Residues().frame(s) for s in sequences]


def test_chains_of_one_length_are_cut_at_places_of_their_own() -> None:
    windows = Windows([Chain("MKVLAWDEGH" * 30)] * 2, 50, 0, whole=False, seed=1)
    begins = [[windows[epoch, row][1] for epoch in range(6)] for row in (0, 1)]
    assert begins[0] != begins[1]
    assert begins == [[windows[epoch, row][1] for epoch in range(6)] for row in (0, 1)]


def test_training_takes_a_window_of_a_long_chain_by_seed_and_epoch(tmp_path) -> None:
    sequence = "".join(np.random.default_rng(0).choice(list("ACDEFGHIKLMNPQRSTVWY"), 300))
    (tmp_path / "x.fasta").write_text(f">p\n{sequence}\n>q\nMKV\n")
    (tmp_path / "y.fasta").write_text(">other\nWHWHWHWH\n")
    data = Proteins(tmp_path / "x.fasta", tmp_path / "y.fasta", apart=False, longest=50, overlap=8)

    def begins(epochs: int) -> list[int]:
        loader, found = data.train_dataloader(), []
        for epoch in range(epochs):
            loader.batch_sampler.epoch = epoch
            for batch in loader:
                for row, begin, ids in zip(batch.index, batch.begin, batch.ids, strict=True):
                    if row == 0:
                        assert ids.tolist() == Residues().frame(sequence)[begin : begin + 50]
                        found.append(int(begin))
        return found

    first = begins(6)
    assert begins(6) == first
    assert len(set(first)) > 3


def test_relatives_of_what_is_trained_on_are_left_out(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAP"
    (tmp_path / "a.fasta").write_text(f">a\n{long}\n")
    (tmp_path / "b.fasta").write_text(f">same\n{long[5:20]}\n>other\nWHWHWHWHWHCCCCCCCC\n")
    data = Proteins(tmp_path / "a.fasta", tmp_path / "b.fasta")
    assert [c.sequence for c in data.held("val")] == ["WHWHWHWHWHCCCCCCCC"]
    assert "1 of 2 held-out proteins are relatives" in capsys.readouterr().err
    with pytest.raises(UserError, match="every held-out protein is a relative"):
        Proteins(tmp_path / "a.fasta", tmp_path / "a.fasta")


@pytest.mark.parametrize("size", [3, 8, 80])
@pytest.mark.parametrize("apart", [True, False])
def test_copies_never_stand_on_two_sides(
    tmp_path, capsys: pytest.CaptureFixture[str], size: int, *, apart: bool
) -> None:
    draw = np.random.default_rng(size)
    rows = ["".join(draw.choice(list(RESIDUES), size)) for _ in range(30)]
    (tmp_path / "x.csv").write_text("sequence\n" + "\n".join(rows * 3) + "\n")
    data = Proteins(tmp_path / "x.csv", held_out=0.2, apart=apart)
    trained, held = ([c.sequence for c in data.held(split)] for split in ("train", "val"))
    assert not set(trained) & set(held)
    assert sorted(trained + held) == sorted(set(rows))
    assert f"{90 - len(set(rows))} of 90 proteins are copies of others" in capsys.readouterr().err
    (tmp_path / "y.csv").write_text("sequence\nWWW\n" + "\n".join(rows[:10]) + "\n")
    data = Proteins(tmp_path / "x.csv", tmp_path / "y.csv", apart=apart)
    assert [c.sequence for c in data.held("val")] == ["WWW"]
    what = "relatives" if apart else "copies"
    assert f"10 of 11 held-out proteins are {what} of what is trained on" in capsys.readouterr().err


def test_organisms_are_kept_apart(public) -> None:
    data = Proteomes(limit=10)
    assert (len(data.held("train")), len(data.held("val"))) == (80, 10)
    with pytest.raises(ValueError, match="human cannot be trained on and validated on"):
        Proteomes(train=("human",), validation="human")


def test_structure_counts_what_its_masks_keep(public) -> None:
    data = SecondaryStructure()
    assert (data.names, data.classes) == (("C", "H", "E"), 3)
    assert [len(data.held(s)) for s in ("train", "val", "test")] == [30, 5, 5]
    for chain in data.held("test"):
        assert chain.labels[0] == IGNORED
        assert min(chain.labels[1:]) >= 0
    tested = SecondaryStructure(test_set="cb513")
    trained = {c.sequence for c in tested.held("train")}
    assert len(tested.held("test")) == 4  # the one that is trained on is gone
    for chain in tested.held("test"):
        assert chain.sequence not in trained
        assert list(chain.labels[:2]) == [IGNORED] * 2  # each mask takes one
        assert min(chain.labels[2:]) >= 0


def test_scans_are_divided_by_mutations(public) -> None:
    data = DeepScan(held_out=0.25)

    def mutations(split: str) -> set[int]:
        return {sum(a != b for a, b in zip(c.sequence, GFP, strict=True)) for c in data.held(split)}

    assert mutations("train") | mutations("val") == {1, 2, 3}
    assert mutations("test") == {4, 5}
    batch = next(iter(data.val_dataloader()))
    assert batch.labels.dtype == torch.float32
    assert batch.labels.shape == batch.index.shape
    gb1 = GB1(split="three_vs_rest")
    assert gb1.test_set == "three_vs_rest"
    assert len(gb1.held("test")) == 20


def test_a_scan_keeps_a_protein_on_one_side(public, capsys: pytest.CaptureFixture[str]) -> None:
    """A stop makes one protein of many variants: the fewest mutations say whether it is tested, and all of its rows go
    the same way. What a stop leaves nothing of is counted."""
    path = public / "nn4dms_dms" / "avgfp.tsv.gz"
    with gzip.open(path, "at") as out:
        for stop in range(1, 16):
            for mutations in range(1 if stop < 9 else 4, 7):
                later = (f",{GFP[p]}{p}W" for p in range(stop + 1, stop + mutations))
                out.write(f"{GFP[stop]}{stop}*{''.join(later)}\t{mutations}\t{stop + mutations / 10}\t0\n")
        out.write(f"{GFP[0]}0*,K1W\t2\t-1\t0\n")
    data = DeepScan(held_out=0.25)
    parts = {split: {c.sequence for c in data.held(split)} for split in ("train", "val", "test")}
    assert "1 of 130 variants leave nothing of the protein: left out" in capsys.readouterr().err
    assert not parts["train"] & parts["val"]
    assert not (parts["train"] | parts["val"]) & parts["test"]
    short = {GFP[:stop]: [] for stop in range(1, 16)}
    for split in parts:
        for chain in data.held(split):
            if chain.sequence in short:
                short[chain.sequence].append((split == "test", chain.labels))
    for stop, rows in enumerate(short.values(), 1):
        assert [tested for tested, _ in rows] == [stop >= 9] * len(rows)
        assert [label for _, label in rows] == [stop + m / 10 for m in range(1 if stop < 9 else 4, 7)]


def test_a_scan_of_fewer_mutations_says_what_divides_it(public) -> None:
    with pytest.raises(UserError, match=r"1 to 5 mutations: data.most \(5\) must be from 1 to 4, so that some are"):
        DeepScan(most=5)
    with pytest.raises(UserError, match=r"data.most \(0\) must be from 1 to 4"):
        DeepScan(most=0)


def test_planted_sequences_are_fresh_in_every_part() -> None:
    data = Planted(length=32, train=200, val=50, test=50)
    parts = [{c.sequence for c in data.held(s)} for s in ("train", "val", "test")]
    assert not parts[0] & parts[1]
    assert data.manifest()["contacts"] == data.family.edges


def test_own_labels_in_a_table_and_in_two_files(tmp_path) -> None:
    sequences = [f"MKV{letter}" for letter in "LIAWFG"]
    (tmp_path / "t.csv").write_text("sequence,label\n" + "".join(f"{sequence},HH.E\n" for sequence in sequences))
    table = OwnResidues(tmp_path / "t.csv")
    assert table.names == ("E", "H")
    assert table.held("train")[0].labels == (1, 1, IGNORED, 0)
    (tmp_path / "p.fasta").write_text("".join(f">p{i}\n{s}\n" for i, s in enumerate(sequences)))
    (tmp_path / "m.fasta").write_text("".join(f">p{i}\nHH.E\n" for i in range(6)))
    files = OwnResidues(tmp_path / "p.fasta", tmp_path / "m.fasta")
    assert files.held("train") == table.held("train")


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.TSV", "t.fasta"])
def test_blanks_at_the_ends_are_residues_without_a_label(tmp_path, name: str) -> None:
    rows = [(f"MKVLAAGIV{letter}", " HHHHTTEE ") for letter in "ACDEFG"]
    if name == "t.fasta":
        for file, column in ((name, 0), ("m.fasta", 1)):
            records = (f">p{i}\r\n{row[column][:5]}\r\n{row[column][5:]}\r\n" for i, row in enumerate(rows))
            (tmp_path / file).write_text("".join(records), newline="")
    else:
        between = "\t" if "t" in name[2:].lower() else ","
        lines = (between.join(row) + "\r\n" for row in [("sequence", "label"), *rows])
        (tmp_path / name).write_text("".join(lines), newline="")
    data = OwnResidues(tmp_path / name, tmp_path / "m.fasta" if name == "t.fasta" else None)
    assert data.names == ("E", "H", "T")
    assert data.held("train")[0].labels == (IGNORED, 1, 1, 1, 1, 2, 2, 0, 0, IGNORED)


def test_a_blank_before_a_cell_is_no_label_where_the_others_fit(tmp_path) -> None:
    rows = "".join(f"{'ACDEFGHIKL'[i % 10] * 4}MKVL, HHHHEEEE\n" for i in range(20))
    (tmp_path / "t.csv").write_text("sequence,label\n" + rows)
    data = OwnResidues(tmp_path / "t.csv", held_out=0.2)
    assert all(IGNORED not in chain.labels for chain in data.parts["train"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sequence,label\nMKVLA, HHEE \n", "5 residues, 6 labels, blanks at the ends counted"),
        ("sequence,label\nMKVL,HHE\nMK,HE\n", r"record 't.csv, line 2' \(line 2\): 4 residues, 3 labels"),
        ("sequence,label\nMKVL,HHHH\nMK,HH\n", "labels of one kind only"),
        ("sequence,structure\nMKVL,HHHH\n", "no column 'label'"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        OwnResidues(tmp_path / "t.csv")


def test_own_classes(tmp_path) -> None:
    rows = [f"MKV{'A' * i},{'pore' if i % 2 else 'core'}" for i in range(20)]
    (tmp_path / "t.csv").write_text("\n".join(["sequence,label", *rows, rows[3], rows[4]]))
    data = OwnClasses(tmp_path / "t.csv", held_out=0.2)
    assert data.names == ("core", "pore")
    assert (len(data.held("train")), len(data.held("val"))) == (16, 4)  # what stands twice counts once
    assert {c.sequence for c in data.held("train")}.isdisjoint(c.sequence for c in data.held("val"))
    assert all(data.names[c.labels] == ("pore" if len(c.sequence) % 2 == 0 else "core") for c in data.held("train"))
    batch = next(iter(data.val_dataloader()))
    assert (batch.labels.dtype, batch.labels.shape) == (torch.long, (4,))
    for text, said in {
        "sequence,label\nMKV,a\nMKV,b\n": "line 3: this protein stands above with class 'a', here 'b'",
        "sequence,label\nMKV,a\nMK,a\n": "holds one class only .'a'.",
        "sequence,label\nMKV,a\nMK, \n": "line 3: nothing in column 'label'",
        "sequence,label\nMKV,a\nMK,NaN\nMKW,b\n": "line 3: label is 'NaN', a missing value",
        f"sequence,label\n{'M' * 1023},a\nMK,b\n": "line 2: 1,023 residues; a label belongs to a whole protein",
    }.items():
        (tmp_path / "u.csv").write_text(text)
        with pytest.raises(UserError, match=said):
            OwnClasses(tmp_path / "u.csv")
    (tmp_path / "v.csv").write_text("sequence,label\nMKW,hole\n")
    with pytest.raises(UserError, match="no protein of class 'hole' is left to train on"):
        OwnClasses(tmp_path / "t.csv", tmp_path / "v.csv")
    (tmp_path / "w.csv").write_text("sequence,label\nMKV,core\nMKW,pore\n")
    apart = OwnClasses(tmp_path / "t.csv", tmp_path / "w.csv")
    assert (len(apart.held("train")), len(apart.held("val"))) == (19, 2)  # MKV stands in both


def test_organisms_are_equally_many_and_apart(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """A tenth each validates and tests; what is like a protein that is trained on is left out there."""
    draw = np.random.default_rng(0)
    (tmp_path / "proteomes").mkdir()
    for file in ORGANISMS.values():
        proteins = ["".join(draw.choice(list(RESIDUES), 40)) for _ in range(50)]
        proteins += [first[:30] + "".join(draw.choice(list(RESIDUES), 10)) for first in proteins[:25]]  # relatives
        with gzip.open(tmp_path / "proteomes" / file, "wt") as out:
            out.write("".join(f">p{i}\n{s}\n" for i, s in enumerate([*proteins, "M" * 200])))
    monkeypatch.setattr("zoo.data.public.fetch", lambda name, files=None: tmp_path / name)
    data = Organisms(each=70, longest=100)
    assert data.names == ("ecoli", "yeast", "human")
    assert len(data.held("train")) == 3 * 56
    counts = [[sum(c.labels == i for c in data.held(split)) for i in range(3)] for split in ("train", "val", "test")]
    assert counts[0] == [56, 56, 56]
    assert all(0 < found <= 7 for row in counts[1:] for found in row)
    trained = [chain.sequence for chain in data.held("train")]
    for split in ("val", "test"):
        assert not relatives([chain.sequence for chain in data.held(split)], trained).any()
    assert sum(map(sum, counts[1:])) < 42


@pytest.mark.parametrize(("kind", "labels"), [(OwnValues, "012"), (OwnClasses, "aaa"), (OwnResidues, ["HHE"] * 3)])
def test_all_rows_of_a_protein_are_on_one_side(tmp_path, capsys: pytest.CaptureFixture[str], kind, labels) -> None:
    """With a second table too, which is of two of the twenty proteins; a test has the name of what it is of."""
    draw = np.random.default_rng(0)
    rows = [f"{p}{q}W,{label}" for p in "ACDEF" for q in "MNPQ" for label in labels]
    rows += ["YYY,b" if kind is OwnClasses else "YYY,HHH" if kind is OwnResidues else "YYY,7"] * 20
    (tmp_path / "t.csv").write_text("\n".join(["sequence,label", *draw.permutation(rows)]))
    (tmp_path / "v.csv").write_text("\n".join(["sequence,label", *rows[3:9], f"WWW,{labels[0]}"]))
    seconds = [None] if kind is OwnResidues else [None, tmp_path / "v.csv"]
    for second in seconds:
        data = kind(tmp_path / "t.csv", **({"validation": second} if second else {"held_out": 0.3}))
        sides = [{chain.sequence for chain in data.held(split)} for split in ("train", "val")]
        assert not sides[0] & sides[1]
        assert [len(side) for side in sides] == ([19, 3] if second else [15, 6])
        if kind is OwnValues:
            assert len(data.held("train")) + len(data.held("val")) == 80 + bool(second)
        assert (data.test_set, data.held("test")) == ("validation", data.held("val"))
    assert ("2 proteins stand in" in capsys.readouterr().err) == (kind is not OwnResidues)
    if kind is not OwnResidues:
        with pytest.raises(UserError, match=r"every protein stands in .* too: none is left to train on"):
            kind(tmp_path / "t.csv", tmp_path / "t.csv")


def test_own_values(tmp_path) -> None:
    (tmp_path / "t.tsv").write_text("sequence\tlabel\n" + "".join(f"MKV{'A' * i}\t{i}\n" for i in range(10)))
    data = OwnValues(tmp_path / "t.tsv", held_out=0.2)
    assert len(data.held("train")) == 8
    for text, said in {
        "sequence,label\nMKV,high\nMK,1\n": "line 2: label is 'high', expected a number",
        "sequence,label\nMKV,nan\nMK,1\n": "line 2: label is 'nan', expected a finite number",
        f"sequence,label\n{'M' * 1023},1\nMK,1\n": "line 2: 1,023 residues; a label belongs to a whole protein",
        "sequence,label\nMKV,0.1\nMK,0.1\nMKW,0.1\n": "every value to train on is 0.1: there is nothing",
        "sequence,label\nMKV,2\nMK,2.5\n": "every value to train on is 2",
    }.items():
        (tmp_path / "u.csv").write_text(text)
        with pytest.raises(UserError, match=said):
            OwnValues(tmp_path / "u.csv")
