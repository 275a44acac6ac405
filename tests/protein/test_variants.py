"""Variants as they are written: what each makes of a protein, and where its numbers begin."""

import pytest

from zoo.errors import UserError
from zoo.protein.variants import Wildtype, check, fitting_offset, parse

WILD = Wildtype("MKVLAWDE")  # numbered from 1


@pytest.mark.parametrize(
    ("text", "makes"),
    [
        ("K2R", "MRVLAWDE"),
        ("K2R,W6F", "MRVLAFDE"),
        ("W6F:K2R", "MRVLAFDE"),
        ("p.K2R", "MRVLAWDE"),
        ("p.Lys2Arg", "MRVLAWDE"),
        ("p.(Lys2Arg)", "MRVLAWDE"),
        ("Lys2Arg,p.Trp6Phe", "MRVLAFDE"),
        ("p.Lys2_Val3insGlySer", "MKGSVLAWDE"),
        ("p.Trp6Ter", "MKVLA"),
        ("p.Lys2=", "MKVLAWDE"),
        ("K2=,W6F", "MKVLAFDE"),
        ("p.=", "MKVLAWDE"),
        ("K2del", "MVLAWDE"),
        ("K2_L4del", "MAWDE"),
        ("K2_V3insGS", "MKGSVLAWDE"),
        ("K2_L4delinsGS", "MGSAWDE"),
        ("K2delinsGS", "MGSVLAWDE"),
        ("K2R;V3_L4insG;E8del", "MRVGLAWD"),
        ("W6*", "MKVLA"),
        ("WT", "MKVLAWDE"),
        ("", "MKVLAWDE"),
        ("mkvlawd", "MKVLAWD"),
        ("MKVLAWD*", "MKVLAWD"),
    ],
)
def test_what_a_variant_makes(text: str, makes: str) -> None:
    assert WILD.apply(parse(text)) == makes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("K2", "'K2' is no variant"),
        ("2R", "is no variant"),
        ("k2r", "'k2r' is no variant: .* upper case"),
        ("p.(Lys2Arg", "is no variant"),
        ("p.Lyz2Arg", "is no variant"),
        ("V2=", "V2=: residue 2 is K, not V"),
        ("K2_L4=", "names two residues and one letter"),
        ("MK*V", "no variant"),
        *((text, f"'{text}' is a missing value") for text in ("NA", "na", "N/A", "NaN", "none", "None", "NULL")),
        ("K2_V4insG", "names two neighbours"),
        ("K2delG", "del names what goes"),
        ("L4_K2del", "2 does not follow 4"),
        ("K3R", "K3R: residue 3 is V, not K"),
        ("E9K", "residues are numbered 1 to 8 here"),
        ("K2R,K2Q", "another change of the same variant touches the same residue"),
        ("M1_E8del", "leaves nothing"),
    ],
)
def test_what_is_none_is_said(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        WILD.apply(parse(text))


def test_places_of_replaced_residues() -> None:
    assert WILD.places(parse("W6F,K2R")) == [1, 5]
    assert WILD.places(parse("MKVLAWDD")) == [7]
    assert WILD.places(parse("WT")) == WILD.places(parse("p.Lys2=")) == []
    for indel in ("K2del", "K2_V3insG", "MKV", "W6*"):
        assert WILD.places(parse(indel)) is None


@pytest.mark.parametrize(
    ("variants", "offset", "said"),
    [
        (["K2R", "W6F"], 1, ""),
        (["K1R", "W5F"], 0, "positions count from 0"),
        (["K127R", "W131F"], 126, "the first residue has the number 126"),
        (["MKVLAWDD"], 1, ""),
    ],
)
def test_the_first_number_is_found(variants: list[str], offset: int, said: str) -> None:
    assert fitting_offset(WILD.sequence, [parse(v) for v in variants]) == (offset, said)


def test_what_fits_both_ways_is_said() -> None:
    assert fitting_offset("AAAA", [parse("A2G")]) == (1, "positions fit counting from 0 as well as from 1: 1 was taken")


def test_what_fits_nowhere_says_how_far_each_went() -> None:
    said = "of 3 residues that the variants name, 2 agree with the sequence counting from 1, 0 counting from 0"
    with pytest.raises(ValueError, match=said):
        fitting_offset(WILD.sequence, [parse(v) for v in ("K2R", "W6F", "W7F")])


def test_the_first_that_does_not_fit_is_named_by_its_line() -> None:
    with pytest.raises(UserError, match=r"v\.csv, line 3: W7F: residue 7 is D, not W"):
        check(WILD, [parse("K2R"), parse("W7F")], [2, 3], "v.csv")
