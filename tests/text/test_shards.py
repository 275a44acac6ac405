"""Texts larger than memory: the pieces are the text, their tokens are the whole text's, documents never see another."""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from zoo.core import Rotary, StackConfig
from zoo.data.files import data_folder, stream_text
from zoo.errors import UserError
from zoo.text import CausalLM, MaskedLM, shards
from zoo.text.corpus import Corpus, SpanCorpus
from zoo.text.shards import Shard, Source, at_words, shard
from zoo.text.tokens import Tokenizer

TEXT = "the cat sat on the mat.  it's  warm\n\nthere!\n" * 3
BPE = Tokenizer.train([TEXT * 4], 300)
LINES = [f"line {number} of the text" for number in range(60)]


@given(st.text("ab '\n\t.1é", max_size=200), st.integers(1, 30), st.integers(1, 12))
def test_cut_at_words_the_tokens_are_the_whole_texts(text: str, size: int, step: int) -> None:
    blocks = [(text[i : i + step], False) for i in range(0, len(text), step)]
    pieces = [piece for piece, _ in at_words(iter(blocks), size)]
    assert "".join(pieces) == text
    assert [i for piece in pieces for i in BPE.encode(piece)] == BPE.encode(text)
    assert all(len(piece) <= size for piece in pieces)


@given(st.lists(st.text("ab '\n\t.1é", max_size=100), max_size=5), st.integers(1, 30), st.integers(1, 40))
def test_long_documents_are_cut_too(documents: list[str], size: int, step: int) -> None:
    """Where each ends is told with the last of its pieces."""
    blocks = [
        (text[i : i + step], i + step >= len(text)) for text in documents for i in range(0, max(len(text), 1), step)
    ]
    pieces = list(at_words(iter(blocks), size))
    assert all(len(piece) <= size for piece, _ in pieces)
    found: list[list[str]] = [[]]
    for piece, ends in pieces:
        found[-1].append(piece)
        found += [[]] if ends else []
    assert found.pop() == []
    assert ["".join(one) for one in found] == documents
    for one, text in zip(found, documents, strict=True):
        assert [i for piece in one for i in BPE.encode(piece)] == BPE.encode(text)


def test_what_killed_runs_have_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once nobody writes to it: the part of a process that runs stays, and so does what was just written to."""
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "data"))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    running = os.getppid()
    shards = data_folder() / "shards"
    names = {"gone": f"a.{ended.pid}.part", "fresh": f"b.{ended.pid}.part", "running": f"c.{running}.part"}
    names |= {"foreign": "notes.part", "other": "d.word.part", "whole": "e"}
    for name in names.values():
        (shards / name).mkdir(parents=True)
        (shards / name / "tokens.bin").write_bytes(b"12")
        for path in (shards / name / "tokens.bin", shards / name):
            os.utime(path, (0, 0))
    os.utime(shards / names["fresh"] / "tokens.bin")
    path = written(tmp_path, TEXT)
    tokens = shard(Source.read(path, "running"), "train", 0.1, BPE)
    assert len(tokens) > 10
    assert {p.name for p in shards.iterdir()} == {*names.values(), tokens.folder.name} - {names["gone"]}


def written(folder: Path, text: str) -> Path:
    path = folder / "text.txt"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("documents", "found"),
    [
        ("running", [TEXT.removesuffix("\n")]),
        ("files", [TEXT.removesuffix("\n")]),
        ("lines", [line for line in TEXT.split("\n") if line.strip()]),
        ("paragraphs", [part.strip("\n") for part in TEXT.split("\n\n") if part.strip()]),
    ],
)
def test_what_a_document_is(tmp_path: Path, documents, found: list[str]) -> None:
    source = Source.read(written(tmp_path, TEXT), documents)
    tokens = shard(source, "train", 0.0, BPE)
    ids = tokens[:].tolist()
    if documents == "running":
        assert BPE.decode(ids) == found[0]
        assert len(tokens.ends) == 0
        return
    begins = [0, *tokens.ends[:-1].tolist()]
    rows = [ids[a:b] for a, b in zip(begins, tokens.ends.tolist(), strict=True)]
    assert [BPE.decode(row) for row in rows] == found
    assert all(row[0] == BPE.start and row[-1] == BPE.end for row in rows)
    assert ids.count(BPE.start) == len(found)


def test_what_nobody_has_touched_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any change is told: of content alone, under the size and the time that the file had; of what lies in a folder."""
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(shards, "SETTLED", -1)
    reads: list[str] = []

    def counted(file: Path, **given: Any) -> Any:
        reads.append(file.name)
        return stream_text(file, **given)

    monkeypatch.setattr(shards, "stream_text", counted)

    def read(path: Path = tmp_path / "texts", documents: Any = "lines") -> tuple[Source, list[str]]:
        reads.clear()
        return Source.read(path, documents), [*reads]

    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "texts" / name).write_text(f"{name} says\nsomething é\n")
    first, both = read()
    assert both == ["a.txt", "b.txt"]
    assert read() == (first, [])
    assert read(documents="files")[1] == both  # which is another hash
    file = tmp_path / "texts" / "b.txt"
    times = file.stat()
    time.sleep(0.02)  # more than the times of files are rounded to
    file.write_text(file.read_text().replace("says", "said"))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    changed, found = read()
    assert found == both
    assert changed.sha256 != first.sha256
    assert read() == (changed, [])
    (tmp_path / "texts" / "c.txt").write_text("more")
    more, found = read()
    assert (more.characters, found) == (changed.characters + 4, [*both, "c.txt"])
    (tmp_path / "texts" / "c.txt").unlink()
    assert read() == (changed, both)
    (tmp_path / "texts").rename(tmp_path / "moved")
    moved, found = read(tmp_path / "moved")
    assert (moved.sha256, found) == (changed.sha256, both)
    for broken in ("", "[]", '{"files": []}'):
        for kept in (data_folder() / "shards" / "read").iterdir():
            kept.write_text(broken)
        assert read(tmp_path / "moved")[1] == both
    monkeypatch.setattr(shards, "SETTLED", 3600)  # it may be changed again under the same time
    (tmp_path / "moved" / "a.txt").write_text("again")
    assert read(tmp_path / "moved")[1] == both
    assert read(tmp_path / "moved")[1] == both


def test_a_shard_is_cut_once_and_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source.read(written(tmp_path, TEXT * 50), "running")
    first = shard(source, "train", 0.1, BPE)
    assert first.folder.parent == data_folder() / "shards"
    assert type(first.ids).__name__ == "memmap"
    with monkeypatch.context() as patch:
        patch.setattr(Tokenizer, "pieces", lambda *given: pytest.fail("cut again"))
        again = shard(source, "train", 0.1, BPE)
    assert torch.equal(again[:], first[:])
    sent = pickle.dumps(first)
    assert len(sent) < 500  # another process maps the file itself
    assert torch.equal(pickle.loads(sent)[:], first[:])
    other = shard(Source.read(written(tmp_path, TEXT * 50 + "x"), "running"), "train", 0.1, BPE)
    assert other.folder != first.folder


def test_tokens_beyond_two_bytes_come_back(tmp_path: Path) -> None:
    every = "".join(map(chr, range(0x10000, 0x20000 + 9)))
    tokenizer = Tokenizer.characters(every)
    assert tokenizer.vocab_size > 1 << 16
    text = every[:3] + every[-3:]
    tokens = shard(Source.read(written(tmp_path, text * 5), "running"), "train", 0.2, tokenizer)
    assert tokenizer.decode(tokens[:].tolist()) == text * 4


def test_what_is_held_out_has_no_part_in_the_tokens(tmp_path: Path) -> None:
    path = written(tmp_path, "here here there there " * 45 + "seldom seldom often often " * 4)
    known = Corpus(path, tokens="words", vocab_size=300, held_out=0.1, length=8).tokenizer
    assert [known.id_of(word) is not None for word in ("here", "there", "seldom", "often")] == [
        True,
        True,
        False,
        False,
    ]


def test_what_is_cut_off_leaves_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source.read(written(tmp_path, TEXT), "running")
    before = set((data_folder() / "shards").glob("*"))

    def fail(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Tokenizer, "pieces", fail)
        with pytest.raises(KeyboardInterrupt):
            shard(source, "train", 0.35, BPE)
    assert set((data_folder() / "shards").glob("*")) == before


@settings(max_examples=30)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.floats(0.05, 0.6))
def test_no_document_is_in_both_parts_and_none_is_lost(tmp_path_factory, lengths: list[int], share: float) -> None:
    folder = tmp_path_factory.mktemp("documents")
    lines = [f"{number}" + "a" * length for number, length in enumerate(lengths)]
    source = Source.read(written(folder, "\n".join(lines)), "lines")
    parts = [[text for text, _ in source.pieces(part, share, "")] for part in ("train", "held out")]
    assert parts[0] + parts[1] == lines
    kept = sum(map(len, parts[0]))
    assert kept >= int(source.characters * (1 - share))
    assert kept - len(parts[0][-1]) < source.characters * (1 - share)


def lines(folder: Path, kind: type[Corpus] = Corpus, **settings: object) -> Corpus:
    path = written(folder, "\n".join(LINES))
    return kind(path, **({"documents": "lines", "vocab_size": 280, "length": 50, "batch": 4} | settings))


def test_windows_give_each_document_a_row_of_its_own(tmp_path: Path) -> None:
    data = lines(tmp_path)
    for batch in data.train_dataloader():
        assert batch.keep.sum() == 4 * 50  # as many tokens as asked for, none of them padding
        for ids, keep, labels in zip(*batch, strict=True):
            row, after = ids[keep].tolist(), labels[keep].tolist()
            assert row.count(data.tokenizer.start) <= 1
            assert data.tokenizer.start not in row[1:]
            assert data.tokenizer.end not in row[:-1]
            assert after[:-1] == row[1:]
            assert (after[-1] == -100) == (row[-1] == data.tokenizer.end)
            assert (labels[~keep] == -100).all()


@pytest.mark.parametrize("kind", [CausalLM, MaskedLM])
def test_documents_that_share_a_window_do_not_see_each_other(tmp_path: Path, kind: type) -> None:
    """The gradient of one document's states with respect to every other's tokens is zero; within it, it is not."""
    data = lines(tmp_path, held_out=0.5)
    stack = StackConfig(dim=24, depth=2, heads=4, causal=kind is CausalLM, position=Rotary())
    net = kind(stack, data.vocab_size).eval()
    embedding = net.embedding if kind is CausalLM else net.trunk.embedding
    seen: list[torch.Tensor] = []
    hook = embedding.register_forward_hook(lambda part, given, out: seen.append(out.requires_grad_()) or out)
    batch = next(iter(data.val_dataloader()))
    logits = net(batch.ids, batch.keep)
    hook.remove()
    assert len(batch.ids) > 4
    row = torch.arange(len(batch.ids)).unsqueeze(1).expand_as(batch.keep)[batch.keep]  # of each token
    for document in (1, 3):
        (gradient,) = torch.autograd.grad(
            logits[document, -1 if batch.keep[document].all() else 2].sum(), seen[0], retain_graph=True
        )
        reach = gradient.abs().sum(-1)
        assert reach[row != document].max() == 0
        assert (reach[row == document][:3] > 0).all()


def test_a_document_is_read_as_if_it_stood_alone(tmp_path: Path) -> None:
    data = lines(tmp_path, held_out=0.5)
    net = MaskedLM(StackConfig(dim=24, depth=2, heads=4, position=Rotary()), data.vocab_size).eval()
    batch = next(iter(data.val_dataloader()))
    together = net(batch.ids, batch.keep)
    for ids, keep, logits in zip(batch.ids, batch.keep, together, strict=True):
        torch.testing.assert_close(net(ids[keep][None])[0], logits[keep])


def test_running_text_is_dense(tmp_path: Path) -> None:
    data = lines(tmp_path, documents="running")
    batch = next(iter(data.train_dataloader()))
    assert batch.keep is None
    assert batch.ids.shape == (4, 50)
    assert data.start is data.end is None


def test_span_batches_hold_the_text(tmp_path: Path) -> None:
    """From each pair the document's part comes back, and equal seeds drop equal spans."""
    from zoo.data.corruption import fill_spans

    data = lines(tmp_path, SpanCorpus, density=0.3, mean=2.0)
    tokens, again = data.tokenizer, lines(tmp_path, SpanCorpus, density=0.3, mean=2.0)
    loaders = data.train_dataloader(), again.train_dataloader()
    dropped = total = 0
    for batch, same in zip(*loaders, strict=True):
        assert torch.equal(batch.source, same.source)
        for source, keep, labels, begin in zip(batch.source, batch.source_keep, batch.labels, batch.index, strict=True):
            source, target = source[keep].tolist(), [i for i in labels.tolist() if i != tokens.pad]
            assert source[-1] == target[-1] == tokens.end
            text = fill_spans(source[:-1], target[:-1], tokens.sentinels)
            whole = [i for i in data.part("train")[int(begin) : int(begin) + 60].tolist() if i > 3]
            assert text == whole[: len(text)]
            dropped += sum(i not in tokens.sentinels for i in target[:-1])
            total += len(text)
    assert dropped / total == pytest.approx(0.3, abs=0.05)


def test_spans_are_drawn_anew_in_training_alone(tmp_path: Path) -> None:
    """Of a document that lies whole in a window, in each epoch others; a run that goes on draws those of its epoch, in
    worker processes too; those of validation stay."""

    def drawn(loader: Any, epoch: int, skip: int = 0) -> dict[tuple[int, int], list[int]]:
        """Sources by first token and length of the part they were made of."""
        loader.batch_sampler.epoch, loader.batch_sampler.skip = epoch, skip
        return {
            (int(begin), int(keep.sum() + other.sum())): source[keep].tolist()
            for batch in loader
            for source, keep, other, begin in zip(batch.source, batch.source_keep, batch.keep, batch.index, strict=True)
        }

    data = lines(tmp_path, SpanCorpus, density=0.3, mean=2.0, batch=2, held_out=0.3)
    first, second = (drawn(data.train_dataloader(), epoch) for epoch in (0, 1))
    both = first.keys() & second.keys()
    assert len(both) >= 8
    assert sum(first[part] != second[part] for part in both) > 0.5 * len(both)
    rest = drawn(data.train_dataloader(), 1, skip=1)
    assert 0 < len(rest) < len(second)
    assert rest.items() <= second.items()
    beside = lines(tmp_path, SpanCorpus, density=0.3, mean=2.0, batch=2, held_out=0.3, workers=1)
    assert drawn(beside.train_dataloader(), 1) == second
    val = data.val_dataloader()
    assert [[*map(torch.equal, a, b)] for a, b in zip(val, val, strict=True)] == [[True] * 5] * len(val)
    # as they were drawn before training knew of epochs: kept results were validated on these
    made = data.windows(data.part("val"))
    for begin in (0, 7, 2**40):
        assert default_rng((1, begin, 0)).integers(1 << 60) == default_rng((1, begin)).integers(1 << 60)
    assert made.pair(0, 40, 0) != made.pair(0, 40, 1)


def test_too_few_sentinels_are_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 sentinels are too few: windows of 50 need"):
        lines(tmp_path, SpanCorpus, sentinels=3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"good\nb\xffd\n", r"line 2: not UTF-8 \(byte 0xff\)"),
        (b"good\n\nb\0d\n", "line 3: holds a NUL"),
        (b"good\n" * 600_000 + b"\xff", r"line 600001: not UTF-8"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(UserError, match=f"text.txt.*{message}"):
        Corpus(tmp_path / "text.txt")


def test_a_folder_with_nothing_or_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        Corpus(tmp_path / "none.txt")
    with pytest.raises(UserError, match=r"no \.txt file here"):
        Corpus(tmp_path)


def test_a_folder_is_read_with_those_in_it_and_the_rest_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in {"a.txt": "one", "sub/b.TXT": "two", "c.md": "no", ".d.txt": "hidden"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for name, blank in {"e.txt": "", "f.txt": " \n\n\t\n", "g.txt": "\ufeff\u00a0\n"}.items():
        (tmp_path / name).write_text(blank)
    assert [file.name for file in Source.read(tmp_path, "files").files] == ["a.txt", "b.TXT"]
    said = capsys.readouterr().err
    assert "1 files do not end as texts (.txt) do and are left out (1 .md)" in said
    assert f"3 empty files are left out, the first is {tmp_path / 'e.txt'}" in said
    (tmp_path / "a.txt").write_text("\n")
    (tmp_path / "sub" / "b.TXT").write_text("")
    with pytest.raises(UserError, match=r"every \.txt file here is empty"):
        Source.read(tmp_path, "files")


def test_tokens_are_opened_from_their_folder_alone(tmp_path: Path) -> None:
    tokens = shard(Source.read(written(tmp_path, TEXT), "lines"), "train", 0.2, BPE)
    assert torch.equal(Shard(tokens.folder)[:], tokens[:])
