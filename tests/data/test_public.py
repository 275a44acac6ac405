"""The register of public data: nothing unverified is ever used, and every failure says what would help."""

import hashlib
import http.server
import importlib
import inspect
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoo.cli import main
from zoo.data import public
from zoo.data.public import REGISTER, File, PublicSet

CONTENT = b"a line of public data\n" * 50


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on this machine, and the folder behind it."""
    folder = tmp_path / "web"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", folder
    server.shutdown()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv("ZOO_MIRROR", raising=False)
    return tmp_path / "cache"


def register(monkeypatch: pytest.MonkeyPatch, base: str | None, instead: str = "") -> None:
    file = File("one.txt", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    entry = PublicSet(
        name="toy",
        what="a toy",
        licence="CC0-1.0",
        citation="nobody",
        base=base,
        files=(file,),
        origin="elsewhere",
        instead=instead,
    )
    monkeypatch.setitem(REGISTER, "toy", entry)


def test_the_public_address(cache: Path, served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    base, folder = served
    (folder / "one.txt").write_bytes(CONTENT)
    register(monkeypatch, base)
    assert public.verify("toy") == {"one.txt": "missing"}
    assert (public.fetch("toy") / "one.txt").read_bytes() == CONTENT
    assert public.verify("toy") == {"one.txt": "ok"}
    (folder / "one.txt").unlink()
    public.fetch("toy")  # from the cache


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT.replace(b"a", b"b", 1), b""], ids=["cut", "other", "empty"])
def test_a_file_that_is_not_the_registered_one_is_refused(
    cache: Path, served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    base, folder = served
    (folder / "one.txt").write_bytes(content)
    register(monkeypatch, base)
    with pytest.raises(ValueError, match="not the registered file"):
        public.fetch("toy")
    assert list((cache / "toy").iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "address"])
def test_the_mirror_comes_first(
    cache: Path, served: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    base, folder = served
    place = (folder if kind == "address" else tmp_path / "mirror") / "toy"
    place.mkdir(parents=True)
    (place / "one.txt").write_bytes(CONTENT)
    register(monkeypatch, None)
    monkeypatch.setenv("ZOO_MIRROR", base if kind == "address" else str(tmp_path / "mirror"))
    assert (public.fetch("toy") / "one.txt").read_bytes() == CONTENT


def test_a_wrong_file_on_a_mirror_is_refused(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mirror" / "toy").mkdir(parents=True)
    (tmp_path / "mirror" / "toy" / "one.txt").write_bytes(CONTENT[:100])
    register(monkeypatch, None)
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(ValueError, match=r"one\.txt: wrong checksum"):
        public.fetch("toy")
    assert list((cache / "toy").iterdir()) == []


def test_nowhere_to_be_had_names_every_place_and_the_remedy(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, "http://127.0.0.1:9/")
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path))
    with pytest.raises(ValueError, match=r"toy/one\.txt is not to be had: .*127\.0\.0\.1.*set ZOO_MIRROR") as caught:
        public.fetch("toy")
    assert str(tmp_path) in str(caught.value)


def test_a_spoiled_cache_is_said_and_mended(
    cache: Path, served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, folder = served
    (folder / "one.txt").write_bytes(CONTENT)
    register(monkeypatch, base)
    assert main(["data", "fetch", "toy"]) == 0
    for spoiled in (CONTENT[:10], CONTENT[::-1]):  # cut short, and of the right size
        (cache / "toy" / "one.txt").write_bytes(spoiled)
        assert main(["data", "verify", "toy"]) == 1
        assert "wrong checksum  toy/one.txt" in capsys.readouterr().out
        assert main(["data", "fetch", "toy"]) == 0
        assert main(["data", "verify", "toy"]) == 0


def test_the_list_names_size_licence_and_citation(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    said = capsys.readouterr().out
    for entry in REGISTER.values():
        assert entry.name in said
        assert entry.licence in said
        assert entry.citation in said


def test_what_only_a_mirror_serves_is_marked_and_said_with_what_to_use_in_its_place(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    register(monkeypatch, None, "--data Toys")
    assert main(["data", "list"]) == 0
    said = capsys.readouterr().out.splitlines()
    for entry in REGISTER.values():
        marked = [line for line in said if line.startswith(f"{entry.name}*: ")]
        assert len(marked) == (entry.base is None), entry.name
    at = said.index("toy*: a toy")
    assert "in its place: --data Toys; its origin: elsewhere" in said[at + 3]
    assert said[-1] == f"* {public.MIRROR_ONLY}: it needs ZOO_MIRROR"
    assert main(["data", "fetch", "toy"]) == 2
    error = capsys.readouterr().err
    assert public.MIRROR_ONLY in error
    assert "set ZOO_MIRROR to a folder or address that holds it; in its place: --data Toys" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("entry", [e for e in REGISTER.values() if "--data " in e.instead], ids=lambda e: e.name)
def test_what_is_named_in_the_place_of_a_set_exists(entry: PublicSet) -> None:
    import zoo.verbs.fit
    from zoo.train.data import DataModule
    from zoo.train.unset import class_of

    for module in zoo.verbs.fit.MODULES:
        importlib.import_module(module)
    _, name, option, _ = entry.instead.split()
    kind = class_of(DataModule, name)
    assert kind is not None
    assert option.removeprefix("--data.") in inspect.signature(kind).parameters


def test_an_unknown_set_or_file_is_answered_with_the_nearest(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "fetch", "multi30"]) == 2
    assert "did you mean 'multi30k'?" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"did you mean 'train\.en\.gz'"):
        public.fetch("multi30k", ["train.en"])


def test_entries_are_whole() -> None:
    for entry in REGISTER.values():
        assert entry.base is not None or entry.origin
        for file in entry.files:
            assert len(file.sha256) == 64
            assert file.size > 0


@pytest.mark.public
@pytest.mark.parametrize("name", REGISTER)
def test_the_mirror_holds_what_is_registered(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    public.fetch(name)
    assert set(public.verify(name).values()) == {"ok"}
