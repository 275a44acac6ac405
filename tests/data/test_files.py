"""Text files that strangers wrote: what is wrong is said with file and line."""

import gzip
from pathlib import Path

import pytest

from zoo.data.files import read_lines


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
