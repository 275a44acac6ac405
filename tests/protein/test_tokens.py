"""Residues as tokens: ESM-2's order, and what becomes of everything else that stands in files."""

from pathlib import Path

import pytest

from zoo.errors import UserError
from zoo.protein.tokens import ALPHABET, RESIDUES, Residues, clean

# The file that ESM-2 is published with: special tokens, residues by their frequency, the rare ones, gaps.
PUBLISHED = "<cls> <pad> <eos> <unk> L A G V S E R T I D P K Q N F Y M H W C X B U Z O . - <null_1> <mask>"


def test_the_order_is_esm2s() -> None:
    assert " ".join(ALPHABET) == PUBLISHED
    assert (Residues.cls, Residues.pad, Residues.end, Residues.unknown, Residues.mask) == (0, 1, 2, 3, 32)
    assert [ALPHABET[i] for i in Residues.residues] == list(RESIDUES)


def test_transformers_tokenizer_agrees(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "vocab.txt").write_text(Residues().content())
    theirs = transformers.EsmTokenizer(str(tmp_path / "vocab.txt"))
    sequence = RESIDUES + "XBUZO.-"
    assert Residues().frame(sequence) == theirs(sequence)["input_ids"]
    assert Residues().decode(Residues().frame(sequence)) == sequence


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("mkv", "MKV"),
        ("MK V\tL\r\n", "MKVL"),
        ("MKV*", "MKV"),
        ("MJ", "MX"),
        ("mjk", "MXK"),
        ("M-K.V", "M-K.V"),
        ("", ""),
    ],
)
def test_the_policy(given: str, read: str) -> None:
    assert clean(given) == read


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("MK1V", "'1' at residue 3 is a digit"),
        ("M*KV", r"'\*' at residue 2 is a stop within the sequence"),
        ("MKV**", r"'\*' at residue 4 is a stop within the sequence"),
        ("MKß", "'ß' at residue 3 is no residue"),
        ("M>K", "'>' at residue 2 is no residue"),
    ],
)
def test_what_no_policy_covers_is_said_with_its_place(given: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Residues().encode(given)


def test_a_folder_with_other_tokens_is_refused(tmp_path: Path) -> None:
    path = tmp_path / Residues.filename
    path.write_text(Residues().content())
    assert Residues.load(path).encode("LA") == [4, 5]
    path.write_text(Residues().content().replace("L\nA\n", "A\nL\n"))
    with pytest.raises(UserError, match="not ESM-2's tokens \\(token 4 is 'A'\\)"):
        Residues.load(path)
    path.write_text("<cls>\n")
    with pytest.raises(UserError, match="1 tokens, not 33"):
        Residues.load(path)
