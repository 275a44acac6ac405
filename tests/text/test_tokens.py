"""Byte-level BPE: every text comes back, nothing in a text is special, training is repeatable."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.text.tokens import SMALLEST, SPECIAL, Tokenizer

TEXTS = ["a man in a blue shirt", "ein Mann im blauen Hemd", "un homme en chemise bleue"] * 4
TOKENS = Tokenizer.train(TEXTS, 320)


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    assert TOKENS.decode(TOKENS.encode(text)) == text


@given(st.lists(st.text(max_size=20), max_size=5))
def test_many_at_once_are_one_by_one(texts: list[str]) -> None:
    assert TOKENS.encode_batch(texts) == [TOKENS.encode(text) for text in texts]
    assert TOKENS.decode_batch([TOKENS.encode(text) for text in texts]) == texts


@pytest.mark.parametrize("name", SPECIAL)
def test_a_special_name_in_a_text_is_text(name: str) -> None:
    ids = TOKENS.encode(f"a {name} b")
    assert min(ids) >= len(SPECIAL)
    assert TOKENS.decode(ids) == f"a {name} b"


def test_two_texts_are_one_row() -> None:
    one, two = TOKENS.encode("a man"), TOKENS.encode("in a shirt")
    ids, segments = TOKENS.encode_pairs([("a man", "in a shirt")])[0]
    assert ids == [TOKENS.start, *one, TOKENS.end, *two, TOKENS.end]
    assert segments == [0] * (len(one) + 2) + [1] * (len(two) + 1)
    long, short = "a man in a blue shirt " * 9, "a man"
    for pair in ((long, short), (short, long), (long, long), (short, short)):
        (whole, _), (ids, segments) = (TOKENS.encode_pairs([pair], most)[0] for most in (None, 20))
        assert len(ids) == min(len(whole), 20) == len(segments)
        sides = [ids[1 : segments.index(1) - 1], ids[segments.index(1) : -1]]
        for side, text, other in zip(sides, pair, pair[::-1], strict=True):
            every = TOKENS.encode(text)
            assert side == every[: len(side)]
            assert len(side) == len(every) or len(side) >= (8 if other == long else 20 - 3 - len(TOKENS.encode(other)))


def test_special_tokens_leave_nothing() -> None:
    assert TOKENS.decode([1, *TOKENS.encode("a man"), 2, 0, 0]) == "a man"


def test_half_a_character_is_no_accident() -> None:
    ids = TOKENS.encode("ß")
    assert len(ids) > 1
    assert TOKENS.decode(ids[:1]) == "\ufffd"


def test_the_same_texts_give_the_same_tokenizer() -> None:
    assert Tokenizer.train(TEXTS, 320).to_json() == TOKENS.to_json()


def test_lower_case_where_asked_for() -> None:
    tokens = Tokenizer.train(TEXTS, 300, lowercase=True)
    assert tokens.decode(tokens.encode("Ein MANN Ä")) == "ein mann ä"


def test_saved_and_loaded(tmp_path: Path) -> None:
    TOKENS.save(tmp_path)
    assert Tokenizer.load(tmp_path / "tokenizer.json").encode("a blue man </s>") == TOKENS.encode("a blue man </s>")


def test_learned_pieces_shorten_texts() -> None:
    assert len(TOKENS.encode("a man in a blue shirt")) < len("a man in a blue shirt") / 2


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"model": {"type": "BPE"}}'])
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_vocabulary_without_room_for_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match=rf"vocab_size \(100\) must be at least {SMALLEST}"):
        Tokenizer.train(TEXTS, 100)


def test_words_are_tokens_and_what_is_rare_is_hidden() -> None:
    texts = ["I can't see the well-known cat !", "the cat ca n't see I , can't it well-known ?"] * 2 + ["once"]
    words = Tokenizer.words(texts, 100, lowercase=True)
    ids = words.encode("The CAT can't see, once.")
    assert [words.bpe.id_to_token(i) for i in ids] == ["the", "cat", "can't", "see", ",", "<mask>", "<mask>"]
    assert words.decode(words.encode("the well-known cat")) == "the well-known cat"
    joined = [*words.encode("the"), words.mask, *words.encode("can't see")]
    assert words.join(["the ", " can't see"], [words.mask]) == (joined, [1])
    assert words.join(["the once ", " once ", ""], [words.mask] * 2)[1] == [2, 4]  # not where a word is not known
    few = Tokenizer.words(texts, 8, lowercase=True)
    assert few.vocab_size == 8
    assert few.encode("<pad>")  # a special token's name is text, here three words
    assert Tokenizer.pad not in few.encode("<pad> </s>")


def test_sentinels_are_the_last_and_never_text() -> None:
    base = Tokenizer.train(["a text"], 270)
    more = base.with_sentinels(5)
    assert base.sentinels == []
    assert more.sentinels == [base.vocab_size + 4 - i for i in range(5)]
    assert more.ordinary == base.ordinary == (4, base.vocab_size)
    assert more.encode("a <extra_id_0>") == base.encode("a <extra_id_0>")
    assert more.decode([*more.encode("a"), more.sentinels[0]]) == "a"


def test_a_gap_holds_the_space_before_it() -> None:
    text = "the capital of France"
    pieces = Tokenizer.train([text * 9], 290)
    whole = pieces.encode("the capital of France")
    gap, places = pieces.join(["the ", " of France"], [pieces.mask])
    assert places == [len(pieces.encode("the"))]
    assert gap == [*pieces.encode("the"), pieces.mask, *pieces.encode(" of France")]
    assert pieces.decode([i for i in gap if i != pieces.mask]) == "the of France"
    assert whole[-2:] == gap[-2:]
    letters = Tokenizer.characters(text)
    assert len(letters.join(["the ", "apital"], [letters.mask])[0]) == len("the capital")
