"""The built-in data: numbers in words, against what grammars say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.text.numbers import LIMIT, english, sample, spanish


@pytest.mark.parametrize(
    ("number", "en", "es"),
    [
        (0, "zero", "cero"),
        (16, "sixteen", "dieciséis"),
        (21, "twenty-one", "veintiuno"),
        (31, "thirty-one", "treinta y uno"),
        (100, "one hundred", "cien"),
        (101, "one hundred one", "ciento uno"),
        (555, "five hundred fifty-five", "quinientos cincuenta y cinco"),
        (1000, "one thousand", "mil"),
        (21_000, "twenty-one thousand", "veintiún mil"),
        (101_001, "one hundred one thousand one", "ciento un mil uno"),
        (1_000_000, "one million", "un millón"),
        (21_000_000, "twenty-one million", "veintiún millones"),
        (700_100_999, "seven hundred million one hundred thousand nine hundred ninety-nine",
         "setecientos millones cien mil novecientos noventa y nueve"),
    ],
)  # fmt: skip
def test_spelled(number: int, en: str, es: str) -> None:
    assert english(number) == en
    assert spanish(number) == es


@given(st.integers(0, LIMIT - 1), st.integers(0, LIMIT - 1))
def test_two_numbers_never_share_a_name(a: int, b: int) -> None:
    assert (english(a) == english(b)) == (spanish(a) == spanish(b)) == (a == b)


@pytest.mark.parametrize("number", [-1, LIMIT])
def test_out_of_range_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match=str(abs(number))[:5]):
        english(number)


def test_a_sample_is_distinct_repeatable_and_in_range() -> None:
    drawn = sample(500, 10_000, seed=1)
    assert len(set(drawn)) == 500
    assert 0 <= min(drawn) <= max(drawn) < 10_000
    assert drawn == sample(500, 10_000, seed=1) != sample(500, 10_000, seed=2)
