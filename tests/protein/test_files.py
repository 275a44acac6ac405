"""Reading proteins that strangers wrote: what is wrong with a file is one line that names record and line."""

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from zoo.errors import UserError
from zoo.protein import homologs
from zoo.protein.files import read_fasta, read_proteins, read_table, separator_of
from zoo.protein.homologs import relatives

GOOD = ">a first\nMKV\nLLA*\n\n>b\nmkj\n"


def write(folder: Path, text: str | bytes, name: str = "x.fasta") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_records_come_in_order_with_their_lines(tmp_path: Path) -> None:
    first, second = read_fasta(write(tmp_path, GOOD))
    assert (first.name, first.about, first.sequence, first.line) == ("a", "first", "MKVLLA", 1)
    assert (second.name, second.sequence, second.line) == ("b", "MKX", 5)


@pytest.mark.parametrize("form", ["windows", "gz", "no end", "byte order mark"])
def test_forms_of_the_same_file(tmp_path: Path, form: str) -> None:
    forms = {
        "windows": GOOD.replace("\n", "\r\n").encode(),
        "gz": gzip.compress(GOOD.encode()),
        "no end": GOOD.rstrip("\n").encode(),
        "byte order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    }
    path = write(tmp_path, forms[form], "x.fasta.gz" if form == "gz" else "x.fasta")
    assert [p.sequence for p in read_fasta(path)] == ["MKVLLA", "MKX"]


def test_any_white_space_ends_a_name(tmp_path: Path) -> None:
    (found,) = read_fasta(write(tmp_path, ">a\tof  two words\nMKV\n"))
    assert (found.name, found.about) == ("a", "of  two words")
    (found,) = read_proteins(write(tmp_path, 'name,sequence\n"a\tb\nc",MKV\n', "t.csv"))
    assert found.name == "a b c"


def test_biotite_reads_the_same(tmp_path: Path) -> None:
    fasta = pytest.importorskip("biotite.sequence.io.fasta")
    path = write(tmp_path, ">a one\nMKV\nLL\n>b\nWYW\n")
    theirs = dict(fasta.FastaFile.read(str(path)).items())
    assert {f"{p.name} {p.about}".strip(): p.sequence for p in read_fasta(path)} == theirs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (">a\nMKV\n>b\n>c\nMK\n", r"record 'b' \(line 3\): holds no residues"),
        (">a\nMKV\n>b\nMK\n>a\nML\n", "line 5: the name 'a' stands on line 1 already"),
        ("MKV\n", "line 1: a sequence without a header"),
        (">\nMKV\n", "line 1: a header without a name"),
        (">a\nMK1V\n", r"record 'a' \(line 1\): '1' at residue 3 is a digit"),
        (">a\nM*KV\n", "a stop within the sequence"),
        ("", "the file is empty"),
        (b">a\nM\xffK\n", "line 2: not UTF-8"),
    ],
)
def test_what_is_wrong_names_record_and_line(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_fasta(write(tmp_path, text))


def test_gz_that_is_not_gz(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.fasta\.gz: not gzip"):
        read_fasta(write(tmp_path, GOOD, "x.fasta.gz"))


def test_dna_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read_fasta(write(tmp_path, f">a\nMKV\n>d\n{'ACGTN' * 8}\n>short\nACGT\n"))
    said = capsys.readouterr().err
    assert "1 of 3 sequences hold nothing but A, C, G, T and N (first: 'd', line 3): this looks like DNA" in said


def test_tables(tmp_path: Path) -> None:
    text = "name, sequence,label\nx,MKV,1\ny,mlv,2\n"
    tabs = text.replace(", ", ",").replace(",", "\t")
    for name, written in {"t.csv": text, "T.CSV": text, "t.tsv": tabs, "t.TSV": tabs, "t.tsv.csv": text}.items():
        found = read_proteins(write(tmp_path, written, name))
        assert [(p.name, p.sequence, p.line) for p in found] == [("x", "MKV", 2), ("y", "MLV", 3)]
        assert separator_of(tmp_path / name) == ("\t" if written == tabs else ",")
    with pytest.raises(UserError, match="line 1: no column 'sequenc'; did you mean 'sequence'"):
        read_table(tmp_path / "t.csv", ["sequenc"])
    with pytest.raises(UserError, match="line 3: 2 fields, the header has 3"):
        read_table(write(tmp_path, "a,b,c\n1,2,3\n1,2\n", "u.csv"), ["a"])
    with pytest.raises(UserError, match="line 2: '9' at residue 3 is a digit"):
        read_proteins(write(tmp_path, "sequence\nMK9\n", "v.csv"))


def test_cells_stay_as_they_are(tmp_path: Path) -> None:
    rows = read_table(write(tmp_path, 'a,b\n  1,"x ""y"",\n\nz"\n\n2, 5" \n', "t.csv"), ["a"])
    assert [(dict(row), row.line) for row in rows] == [
        ({"a": "1", "b": 'x "y",\n\nz'}, 2),
        ({"a": "2", "b": '5" '}, 6),
    ]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
@pytest.mark.parametrize(("cell", "said"), [('"oops', "unexpected end of data"), ('"oo"ps', "expected after")])
def test_a_quotation_mark_that_is_not_closed_is_an_error(tmp_path: Path, name: str, cell: str, said: str) -> None:
    text = f"a,b\n1,2\n1,{cell}\n1,2\n".replace(",", "\t" if name == "t.tsv" else ",")
    with pytest.raises(UserError, match=rf"{name}, line 3: .*{said}.*; a quotation mark"):
        read_table(write(tmp_path, text, name), ["a"])


def test_relatives_share_words_with_one_protein() -> None:
    known = ["MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEK", "G" * 40]
    cousin = "AAAA" + known[0][10:19] + "WWWW"  # nine in a row: three words of seven
    stranger = "AAAA" + known[0][10:18] + "WWWW"  # eight: two words
    apart = known[0][10:17] + "WHWHWHWH" + known[0][30:37] + "HWHWHWH" + known[0][40:47]  # three words, scattered
    assert relatives([cousin, stranger, apart, "WHWHWHWHW"], known).tolist() == [True, False, True, False]
    halves = [known[0][:17], known[0][17:]]
    assert relatives([known[0][10:19]], halves).tolist() == [False]  # not of one protein


def test_short_and_repetitive_proteins_have_relatives() -> None:
    eight, poly = "MKVLAAGI", "Q" * 300
    for protein in ("MKV", eight, poly):
        assert relatives([protein], ["WHWHWHWH", protein]).tolist() == [True]
    assert relatives([eight, eight[:7], eight[:7] + "W"], ["WW" + eight + "WW"]).tolist() == [True, True, False]
    assert relatives(["WW" + eight + "WW"], [eight]).tolist() == [True]  # whichever of the two is short
    assert relatives(["AA" + poly[:7], "AA" + poly[:6]], [poly]).tolist() == [True, False]


def test_nothing_has_no_relatives() -> None:
    assert relatives(["MKV"], []).tolist() == [False]


@pytest.mark.parametrize(("at_once", "together"), [(1, 1), (7, 4), (homologs.AT_ONCE, homologs.PROTEINS)])
def test_relatives_are_those_of_the_definition(monkeypatch: pytest.MonkeyPatch, at_once: int, together: int) -> None:
    """However many words are counted, or made, at once: each pair of proteins by its sets of words."""
    monkeypatch.setattr(homologs, "AT_ONCE", at_once)
    monkeypatch.setattr(homologs, "PROTEINS", together)
    draw = np.random.default_rng(0)
    answers = []
    for _ in range(100):
        letters = list("ACDEFG")[: draw.integers(2, 7)]
        some, others = (["".join(draw.choice(letters, draw.integers(0, 30))) for _ in range(9)] for _ in range(2))
        word, least = draw.integers(1, 5, 2).tolist()
        words = {p: {p[i : i + word] for i in range(len(p) - word + 1)} for p in (*some, *others)}
        expected = [
            any(
                p == other or len(words[p] & words[other]) >= max(min(least, len(words[p]), len(words[other])), 1)
                for other in others
            )
            for p in some
        ]
        assert relatives(some, others, word=word, least=least).tolist() == expected
        answers += expected
    assert 100 < sum(answers) < 800


def test_words_that_nobody_asks_for_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homologs, "PROTEINS", 100)
    draw = np.random.default_rng(0)
    known = ["".join(row) for row in draw.choice(list("ACDEFGHIKLMNPQRSTVWY"), (2000, 300))]
    asked = [known[1500], known[3][::-1]]
    tracemalloc.start()
    try:
        assert relatives(asked, known).tolist() == [True, False]
        assert tracemalloc.get_traced_memory()[1] < 8e6  # all 588,000 words with their owners: 9.4 million bytes
    finally:
        tracemalloc.stop()


def test_many_relatives_take_no_more_memory_than_some() -> None:
    draw = np.random.default_rng(0)
    family = draw.choice(list("ACDEFGHIKLMNPQRSTVWY"), (800, 150))
    family[:, :140] = family[0, :140]
    proteins = ["".join(row) for row in family]
    tracemalloc.start()
    try:
        assert relatives(proteins[:400], proteins[400:]).all()
        assert tracemalloc.get_traced_memory()[1] < 200e6  # every pair and word of them: 20 million
    finally:
        tracemalloc.stop()
