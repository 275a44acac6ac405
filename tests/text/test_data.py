"""Pairs of texts: a user's files to batches, with what is wrong said in one line."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from zoo.data.rows import Rows, in_turns
from zoo.text.data import Multi30k, Numbers, TextPairs, collate, split_by_source
from zoo.text.tokenised import cut
from zoo.text.tokens import Tokenizer

PAIRS = [(f"source number {i}", f"Ziel Nummer {i}") for i in range(40)]


def files(folder: Path, pairs: list[tuple[str, str]]) -> tuple[Path, Path]:
    one, two = folder / "text.en", folder / "text.de"
    one.write_text("".join(f"{s}\n" for s, _ in pairs))
    two.write_text("".join(f"{t}\n" for _, t in pairs))
    return one, two


def test_rows_end_with_end() -> None:
    end, pad = Tokenizer.end, Tokenizer.pad
    batch = collate([(3, [10, 11, end], [20, end]), (7, [12, end], [21, 22, 23, end])])
    assert batch.source.tolist() == [[10, 11, end], [12, end, pad]]
    assert batch.labels.tolist() == [[20, end, pad, pad], [21, 22, 23, end]]
    assert batch.source_keep.tolist() == [[True] * 3, [True, True, False]]
    assert batch.keep.sum(-1).tolist() == [2, 4]
    assert batch.index.tolist() == [3, 7]


def test_what_is_cut_keeps_its_end_where_it_has_one(capsys: pytest.CaptureFixture[str]) -> None:
    class Endless(Tokenizer):
        ends = False

    ours = Tokenizer.train(["a cat"], 300)
    rows = [[5, 6, 7, 8, ours.end], [5, ours.end]]
    assert [*cut(Rows(rows), 3, "val", ours)] == [[5, 6, ours.end], [5, ours.end]]
    assert "1 of 2 texts (val) are longer than max_length (3) tokens: cut" in capsys.readouterr().err
    assert [*cut(Rows([[5, 6, 7, 8, 9]]), 3, "val", Endless(ours.bpe))] == [[5, 6, 7]]


def test_rows_of_ids_lie_in_one_array() -> None:
    """Every row as it was, the memory a few bytes a token; what stands before a text too is in them."""
    given = [[5, 6, 70_000], [], [2], [9] * 1000]
    rows = Rows(iter(given))
    assert [*rows] == given
    assert rows.lengths.tolist() == [3, 0, 1, 1000]
    assert rows.flat.itemsize * len(rows.flat) == 4 * 1004
    with pytest.raises(IndexError):
        rows[4]
    texts = [f"text {number}" for number in range(25_000)]
    turns: list[int] = []

    def encode(some: Sequence[str]) -> list[list[int]]:
        turns.append(len(some))
        return [[int(text.split()[1])] for text in some]

    assert [*in_turns(texts, encode)] == [[number] for number in range(25_000)]
    assert max(turns) <= 10_000


@pytest.mark.parametrize("form", ["two files", "tsv"])
def test_a_users_own_pairs(tmp_path: Path, form: str) -> None:
    if form == "tsv":
        path = tmp_path / "pairs.tsv"
        path.write_text("".join(f"{s}\t{t}\n" for s, t in PAIRS))
        data = TextPairs(tsv=path, held_out=5, vocab_size=300)
    else:
        one, two = files(tmp_path, PAIRS)
        data = TextPairs(one, two, held_out=5, vocab_size=300)
    parts = {split: set(data.pairs(split)) for split in ("train", "val", "test")}
    assert [len(parts[s]) for s in ("train", "val", "test")] == [30, 5, 5]
    assert set().union(*parts.values()) == set(PAIRS)
    seen = torch.cat([batch.index for batch in data.train_dataloader()])
    assert sorted(seen.tolist()) == list(range(30))


def test_a_source_is_on_one_side_of_the_split() -> None:
    """Repeated sources with other translations would leak what is tested on."""
    pairs = [(f"s{i % 20}", f"t{i}") for i in range(100)]
    split = split_by_source(pairs, 4, seed=1)
    sides = [{s for s, _ in part} for part in split.values()]
    assert len(set.union(*sides)) == sum(map(len, sides))
    assert sum(map(len, split.values())) == 100
    assert split == split_by_source(pairs, 4, seed=1)
    assert split != split_by_source(pairs, 4, seed=2)


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        ("a\nb\n", "x\n", r"2 lines.*1"),
        ("a\n\nc\n", "x\ny\nz\n", r"text\.en, line 2: empty"),
        ("a\nb\n", "x\n  \n", r"text\.de, line 2: empty"),
        ("", "x\n", r"text\.en: the file is empty"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, one: str, two: str, message: str) -> None:
    (tmp_path / "text.en").write_text(one)
    (tmp_path / "text.de").write_text(two)
    with pytest.raises(ValueError, match=message):
        TextPairs(tmp_path / "text.en", tmp_path / "text.de", held_out=1)


def test_a_table_with_a_wrong_row_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("a\tx\nb\n")
    with pytest.raises(ValueError, match=r"t\.tsv, line 2: 1 columns, a pair has 2"):
        TextPairs(tsv=tmp_path / "t.tsv", held_out=1)


def test_one_way_of_naming_the_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="either source and target"):
        TextPairs(source=tmp_path)
    one, two = files(tmp_path, PAIRS)
    with pytest.raises(ValueError, match="too few to hold out 500"):
        TextPairs(one, two)


def test_long_pairs_are_left_out_of_training_alone_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = [(f"{'word ' * 60}{i}", f"{'Wort ' * 60}{i}") for i in range(4)]
    one, two = files(tmp_path, PAIRS + long)
    data = TextPairs(one, two, held_out=5, vocab_size=300, max_length=40)
    kept = sum(len(batch.index) for batch in data.train_dataloader())
    left_out = len(data.pairs("train")) - kept
    assert 0 < left_out <= 4
    assert f"{left_out} of {len(data.pairs('train'))} training pairs are longer" in capsys.readouterr().err
    assert sum(len(batch.index) for batch in data.test_dataloader()) == 5


def test_the_tokenizer_is_trained_once_and_on_training_texts_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "cache"))
    first = Numbers(train=50, val=5, test=5, limit=1000, vocab_size=280)
    monkeypatch.setattr(Tokenizer, "train", None)  # would fail if it were called again
    assert Numbers(train=50, val=5, test=5, limit=1000, vocab_size=280).tokenizer.to_json() == first.tokenizer.to_json()


def test_numbers_do_not_repeat_between_splits() -> None:
    data = Numbers(train=100, val=20, test=30, limit=1000, vocab_size=280)
    sides = [set(data.sources(s)) for s in ("train", "val", "test")]
    assert [len(side) for side in sides] == [100, 20, 30]
    assert len(set.union(*sides)) == 150


def test_the_manifest_changes_with_the_texts() -> None:
    base = {"train": 50, "val": 5, "test": 5, "limit": 1000, "vocab_size": 280}
    one, two = Numbers(**base).manifest(), Numbers(**(base | {"seed": 2})).manifest()
    assert one == Numbers(**base).manifest()
    assert one["sha256"]["train"] != two["sha256"]["train"]


def test_two_languages_are_two() -> None:
    with pytest.raises(ValueError, match="both 'de'"):
        Multi30k("de", "de")


@pytest.mark.public
@pytest.mark.parametrize(("source", "target"), [("en", "de"), ("de", "en"), ("en", "fr"), ("fr", "de")])
def test_multi30k_in_any_direction(source: str, target: str) -> None:
    data = Multi30k(source, target, vocab_size=2000)
    assert [len(data.pairs(s)) for s in ("train", "val", "test")] == [29_000, 1014, 1000]
    mirrored = Multi30k(target, source, vocab_size=2000)
    assert [(t, s) for s, t in data.pairs("val")] == mirrored.pairs("val")
    batch = next(iter(data.train_dataloader()))
    assert data.decode(batch.labels[:1].tolist())[0] == data.references("train")[int(batch.index[0])]
