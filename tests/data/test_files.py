"""Text files that strangers wrote: what is wrong is said with file and line."""

import gzip
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.files import files_under, read_lines, read_text, stream_text
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


def test_links_to_folders_are_followed_each_folder_once(tmp_path: Path) -> None:
    root, store = tmp_path / "texts", tmp_path / "store"
    for name in ("texts/own/a.txt", "texts/own/b.TXT", "store/part/c.txt", "store/part/d.md", "texts/.git/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (root / "linked").symlink_to(store / "part")
    (root / "again").symlink_to(root / "own")  # what lies in the folder itself is found there
    (root / "own" / "circle").symlink_to(root)
    (root / "nowhere").symlink_to(tmp_path / "none")
    (root / "gone.txt").symlink_to(tmp_path / "none")  # a file that cannot be read is its reader's to say
    others: Counter[str] = Counter()
    found = [str(path.relative_to(root)) for path in files_under(root, {".txt"}, others)]
    assert found == ["gone.txt", "linked/c.txt", "own/a.txt", "own/b.TXT"]
    assert others == {".md": 1, "no ending": 1}


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
