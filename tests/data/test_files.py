"""Text files that strangers wrote: what is wrong is said with file and line."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.files import read_lines, read_text, stream_text
from zoo.errors import UserError


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\r\ntwo", ["one", "two"]),
        ("\ufeffone\n".encode(), ["one"]),
        ("a\u2028b\x0cc\n\nd\n".encode(), ["a\u2028b\x0cc", "", "d"]),  # only \n ends a line: files stay aligned
    ],
)
def test_lines(tmp_path: Path, content: bytes, lines: list[str]) -> None:
    (tmp_path / "text").write_bytes(content)
    (tmp_path / "text.gz").write_bytes(gzip.compress(content))
    assert read_lines(tmp_path / "text") == lines
    assert read_lines(tmp_path / "text.gz") == lines
    (tmp_path / "TEXT.GZ").write_bytes(gzip.compress(content))
    assert read_lines(tmp_path / "TEXT.GZ") == lines


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"good\nb\xffd\n", r"line 2: not UTF-8 \(byte 0xff\)"),
        (b"good\ngood\nb\0d\n", "line 3: holds a NUL"),
        (b"x" * 1_000_000, "line 1: 1,000,000 characters, a line may have 100,000"),
    ],
)
def test_bad_files_are_named_with_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"bad.txt.*{message}"):
        read_lines(path)


def test_a_truncated_archive_and_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(b"text\n" * 1000)[:-9])
    with pytest.raises(ValueError, match=r"cut\.gz: not gzip, or cut short"):
        read_lines(path)
    with pytest.raises(ValueError, match="no such file"):
        read_lines(tmp_path / "none")


@given(st.lists(st.sampled_from(["a", "é", "\n", "\r\n", "\r", "long line", " "]), max_size=40), st.integers(1, 9))
def test_a_text_in_pieces_is_the_text(tmp_path_factory: pytest.TempPathFactory, parts: list[str], block: int) -> None:
    path = tmp_path_factory.mktemp("pieces") / "text.txt"
    text = "x" + "".join(parts)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    far: list[int] = []
    assert "".join(stream_text(path, block, far.append)) == read_text(path)
    assert sum(far) == path.stat().st_size


def test_a_compressed_text_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "text.txt.gz"
    path.write_bytes(gzip.compress(b"one\r\ntwo\n"))
    assert "".join(stream_text(path, 2)) == "one\ntwo"
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(UserError, match=r"text.txt.gz: not gzip, or cut short"):
        list(stream_text(path))
