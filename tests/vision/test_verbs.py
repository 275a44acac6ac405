"""zoo classify and zoo lens on images, through the command line: files, folders, globs, and what is wrong with them."""

import json
from pathlib import Path

import pytest

from tests.vision.pictures import write_folder
from zoo.cli import main
from zoo.core import Learned, StackConfig
from zoo.errors import UserError
from zoo.verbs.opening import inputs, texts
from zoo.vision import ViT
from zoo.vision.images import Preprocess
from zoo.vision.patches import LinearPatches


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("model")
    network = ViT(StackConfig(dim=16, depth=2, heads=2, position=Learned(10)), 3, 12, LinearPatches(4))
    save_file(network.state_dict(), folder / "model.safetensors")
    described = {"kind": "ViT", "settings": network.to_plain(), "classes": ["red", "green", "blue"]}
    (folder / "config.json").write_text(json.dumps(described))
    Preprocess(12, 3, (0.5,) * 3, (0.25,) * 3).save(folder)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    write_folder(tmp_path / "pictures", each=2)
    return tmp_path / "pictures"


def test_files_folders_and_globs(model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = pictures / "class0" / "0.png"
    assert main(["classify", str(model), str(one), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert said.endswith(f"{one}\n")
    assert {word.split()[0] for word in said.split("\t")[:3]} == {"red", "green", "blue"}
    assert main(["classify", str(model), str(pictures), str(pictures / "*" / "1.png"), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 6 + 3
    assert lines[0]["input"] == str(one)
    assert sum(lines[0]["classes"].values()) == pytest.approx(1, abs=1e-4)
    assert lines[0]["class"] == max(lines[0]["classes"], key=lines[0]["classes"].get)
    assert lines[1]["classes"] == lines[6]["classes"]  # the same file, in another batch


def test_what_may_be_a_path_is_not_judged_as_a_text() -> None:
    """A file may have any bytes for its name."""
    odd = ["a.png", "\udcff.png"]
    assert inputs(odd) == odd
    with pytest.raises(UserError, match="text 2: not UTF-8"):
        texts(odd)


def test_a_bad_file_among_many_is_named_and_counted(
    model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = pictures / "class1" / "0.png"
    bad.write_bytes(b"")
    assert main(["classify", str(model), str(pictures)]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 5
    assert err == f"{bad}: the file is empty\n1 of 6 cannot be read\n"


@pytest.mark.parametrize("verb", ["classify", "lens"])
@pytest.mark.parametrize(
    ("name", "message"), [("bad.png", "the file is empty"), ("none.png", "No such file"), ("text.png", "not an image")]
)
def test_a_bad_file_alone_is_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, name: str, message: str
) -> None:
    (tmp_path / "bad.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("text")
    assert main([verb, str(model), str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"zoo {verb}: {tmp_path / name}: {message}")
    assert said.count("\n") == 1


def test_inputs_that_mean_nothing(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for given, message in ((tmp_path / "empty", "no image in this folder"), (tmp_path / "*.png", "nothing matches")):
        assert main(["classify", str(model), str(given)]) == 2
        assert message in capsys.readouterr().err


def test_lens_draws_and_says_what_it_sees(
    model: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, out = ["lens", str(model), str(pictures / "class2" / "1.png")], tmp_path / "looks.png"
    assert main([*given, "--out", str(out), "--about", "blue", "--layer", "0"]) == 0
    assert "of the kernel" in capsys.readouterr().out
    assert out.read_bytes().startswith(b"\x89PNG")
    before = out.read_bytes()
    assert main([*given, "--out", str(out)]) == 2
    assert "looks.png exists already" in capsys.readouterr().err
    assert out.read_bytes() == before
    monkeypatch.chdir(tmp_path)
    assert main(given) == main(given) == 0
    assert {path.name for path in tmp_path.glob("lens*")} == {"lens.png", "lens-2.png"}
    out = tmp_path / "other.png"
    for options, message in (
        (["--about", "bleu"], "unknown class 'bleu'; did you mean 'blue'?"),
        (["--layer", "5"], "layer 5 does not exist: the model has 2"),
        (["--out", str(tmp_path / "x.doc")], "cannot draw '.doc'"),
    ):
        assert main([*given, *(["--out", str(out)] if "--out" not in options else []), *options]) == 2
        assert message in capsys.readouterr().err
