"""What strangers give: each fault is one line that names file and line or option, exit code 2, and nothing is lost."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from tests.test_traps import Bench, settings
from zoo.cli import main
from zoo.text.tokens import Tokenizer
from zoo.train.checkpoint import find_checkpoint

GOOD = "".join(f"source {i}\tZiel {i}\n" for i in range(40)).encode()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    plain = settings()
    plain["data"] = {
        "class_path": "TextPairs",
        "init_args": {"tsv": str(tmp_path / "pairs.tsv"), "held_out": 4, "vocab_size": 270},
    }
    plain["trainer"]["max_steps"] = 2
    (tmp_path / "pairs.tsv").write_bytes(GOOD)
    made.config = made.write("pairs.yaml", plain)
    return made


def one_line(capsys: pytest.CaptureFixture[str], code: int, expected: int = 2) -> str:
    assert code == expected
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    return said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "pairs.tsv: the file is empty"),
        (GOOD + b"no tab here\n", "pairs.tsv, line 41: 1 columns, a pair has 2"),
        (GOOD + b"a\tb\tc\n", "pairs.tsv, line 41: 3 columns"),
        (GOOD + b"\t\n", "pairs.tsv, line 41: empty"),
        (GOOD + b"a\t\xff\n", "pairs.tsv, line 41: not UTF-8 (byte 0xff)"),
        (GOOD + b"a\tb\0\n", "pairs.tsv, line 41: holds a NUL"),
        (GOOD + b"a\t" + b"b" * 1_000_000 + b"\n", "pairs.tsv, line 41: 1,000,002 characters"),
        (GOOD[:30], "too few to hold out 4"),
    ],
)
def test_texts(bench: Bench, capsys: pytest.CaptureFixture[str], content: bytes, message: str) -> None:
    (bench.folder / "pairs.tsv").write_bytes(content)
    assert message in one_line(capsys, bench.fit())
    assert not bench.run.exists()


def test_files_of_unequal_length(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    (bench.folder / "a.en").write_text("one\ntwo\n")
    (bench.folder / "a.de").write_text("eins\n")
    files = ["--data.tsv", "null", "--data.source", bench.folder / "a.en", "--data.target", bench.folder / "a.de"]
    assert "a.en has 2 lines, " in one_line(capsys, bench.fit(*files))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data.tsv", "none.tsv"], "none.tsv: no such file"),
        (["--model.encoder.heads", "5"], "heads (5) must divide dim (16); or set head_dim"),
        (["--model.encoder.hed", "5"], "unknown setting 'hed'; did you mean 'heads'"),
        (["--trainer.max_step", "5"], "did you mean 'max_steps'"),
        (["--resum", "last"], "did you mean"),
        (["--model.encoder.position", "Learned"], "length"),
        (["--checkpoint.mode", "big"], "big"),
        (["--data.vocab_size", "10"], "vocab_size (10) must be at least 260"),
    ],
)
def test_options(bench: Bench, capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    assert message in one_line(capsys, bench.fit(*options))
    assert not bench.run.exists()


def test_a_text_longer_than_the_position_table(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--model.encoder.position", "Learned", "--model.encoder.position.length", "4"]
    said = one_line(capsys, bench.fit(*place))
    assert "data.max_length is 128, the model has positions for 4 tokens: give --data.max_length 4" in said
    assert not bench.run.exists()


def test_a_run_folder_that_exists_is_left_as_it_is(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.fit() == 0
    before = {p: p.read_bytes() for p in bench.run.rglob("*") if p.is_file()}
    capsys.readouterr()
    assert "already holds a run; give another --run FOLDER, or go on" in one_line(capsys, bench.fit())
    assert {p: p.read_bytes() for p in bench.run.rglob("*") if p.is_file()} == before


def test_two_trainings_do_not_share_a_run(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that comes second is refused while the first trains, before it has left a checkpoint, and after it."""
    with monkeypatch.context() as patch:
        bench.stop_at(patch, 0, lambda: second.append((bench.fit("--seed_everything", 2), capsys.readouterr().err)))
        second: list[tuple[int, str]] = []
        assert bench.fit() == 0
    ((code, said),) = second
    assert code == 2
    assert f"{bench.run}: another zoo fit trains in this run; give another --run FOLDER" in said
    assert bench.merged()["seed_everything"] == 1
    assert bench.fit("--resume", "last", "--trainer.max_epochs", 3) == 0  # nothing is locked any more

    def too_late(run: Path) -> None:
        """As it looked when the second began to read its data."""

    monkeypatch.setattr("zoo.train.fit.check_free", too_late)
    before = {p: p.read_bytes() for p in bench.run.rglob("*") if p.is_file()}
    capsys.readouterr()
    assert "already holds a run" in one_line(capsys, bench.fit("--seed_everything", 2))
    assert {p: p.read_bytes() for p in bench.run.rglob("*") if p.is_file()} == before


def test_data_may_move_while_a_run_stands_still(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same pairs at another place are the same data, by their hash; other pairs there are not."""
    pairs = "".join(f"word {number}\tpalabra {number}\n" for number in range(60))
    (bench.folder / "pairs.tsv").write_text(pairs)
    monkeypatch.chdir(bench.folder)
    plain = yaml.safe_load(bench.config.read_text())
    plain["data"] = {"class_path": "TextPairs", "init_args": {"tsv": "pairs.tsv", "held_out": 8, "vocab_size": 270}}
    config = bench.write("pairs.yaml", plain)
    assert bench.fit("--trainer.max_epochs", -1, config=config) == 0
    (bench.folder / "elsewhere").mkdir()
    (bench.folder / "pairs.tsv").rename(bench.folder / "elsewhere" / "moved.tsv")
    monkeypatch.chdir(bench.folder / "elsewhere")
    on = ["fit", "--run", str(bench.run), "--resume", "last", "--trainer.max_steps", "3", "--data.tsv"]
    assert main([*on, "moved.tsv"]) == 0
    assert bench.merged()["data"]["init_args"]["tsv"] == "moved.tsv"
    (bench.folder / "elsewhere" / "others.tsv").write_text(pairs.replace("palabra 7", "otra"))
    capsys.readouterr()
    said = one_line(capsys, main([*on[:-2], "4", "--data.tsv", "others.tsv"]))
    assert "--resume goes on with the same data: that of data.tsv others.tsv is not what the run began with" in said
    assert bench.merged()["data"]["init_args"]["tsv"] == "moved.tsv"
    (bench.folder / "other").mkdir()
    Tokenizer.train(["word palabra"], 265).save(bench.folder / "other")
    said = one_line(capsys, main([*on[:-2], "4", "--data.tokenizer", str(bench.folder / "other")]))
    assert "--resume goes on with the same settings: data.init_args.tokenizer was None" in said
    (bench.run / "run.json").unlink()  # a run from which somebody took what is for people to read
    assert main([*on[:-2], "4", "--data.tsv", "moved.tsv"]) == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    locked = bench.folder / "locked"
    locked.mkdir(mode=0o500)
    assert "locked" in one_line(capsys, bench.fit(run="locked/run"))


def test_a_run_folder_below_a_file(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    (bench.folder / "file").write_text("")
    assert "file" in one_line(capsys, bench.fit(run="file/run"))


class Trap:
    """What a foreign checkpoint may hold: a call on being opened."""

    def __reduce__(self) -> tuple:
        return (open, ("/nonexistent/never", "w"))


@pytest.mark.parametrize("kind", ["empty", "truncated", "text", "another model", "a module", "no tensors"])
@pytest.mark.parametrize("verb", ["translate", "test", "init-from", "resume"])
def test_checkpoints(bench: Bench, capsys: pytest.CaptureFixture[str], kind: str, verb: str) -> None:
    assert bench.fit() == 0
    good = bench.run / "checkpoints" / "last.ckpt"
    bad = bench.folder / "bad.ckpt"
    content = torch.load(good, weights_only=True)
    if kind == "empty":
        bad.write_bytes(b"")
    elif kind == "truncated":
        bad.write_bytes(good.read_bytes()[:5000])
    elif kind == "text":
        bad.write_text("hello")
    elif kind == "a module":
        torch.save(content | {"hyper_parameters": Trap()}, bad)
    elif kind == "no tensors":
        torch.save({"epoch": 3}, bad)
    else:
        other = {k: v for k, v in content["state_dict"].items() if "encoder" not in k}
        torch.save(content | {"state_dict": other}, bad)
    capsys.readouterr()
    if verb in ("translate", "test"):
        code = main([verb, str(bench.run), *(["one"] if verb == "translate" else []), "--checkpoint", str(bad)])
    elif verb == "init-from":
        code = bench.fit("--init-from", bad, run="new")
    else:
        code = bench.fit("--resume", bad)
    assert "bad.ckpt" in one_line(capsys, code)
    assert not (bench.folder / "new").exists()


@pytest.mark.parametrize(
    "content", ["{", '{"kind": "os.system", "settings": {}}', '{"kind": "Seq2Seq", "settings": {"dim": 3}}']
)
def test_a_model_folder_whose_settings_are_none(bench: Bench, capsys: pytest.CaptureFixture[str], content: str) -> None:
    assert bench.fit() == 0
    shutil.copytree(bench.run, bench.folder / "copy")
    (bench.folder / "copy" / "config.json").write_text(content)
    capsys.readouterr()
    assert "config.json" in one_line(capsys, main(["translate", str(bench.folder / "copy"), "one"]))


def test_standard_input_that_is_not_text(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    assert bench.fit() == 0
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": io.BytesIO(b"good\nb\xffd\n")}))
    assert "standard input, line 2: not UTF-8" in one_line(capsys, main(["translate", str(bench.run)]))


def test_a_tokenizer_that_is_gone(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.fit() == 0
    (bench.run / "tokenizer.json").unlink()
    capsys.readouterr()
    assert "tokenizer.json" in one_line(capsys, main(["translate", str(bench.run), "one"]))
    assert json.loads((bench.run / "config.json").read_text())["kind"] == "Seq2Seq"


def test_a_choice_that_does_not_exist(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    plain = settings()
    plain["data"]["init_args"] = {"source": "en", "target": "fr"}
    said = one_line(capsys, bench.fit(config=bench.write("numbers.yaml", plain)))
    assert "data.target: 'fr' is not one of en, es" in said


def test_a_run_that_goes_on_keeps_how_it_began(bench: Bench) -> None:
    assert bench.fit() == 0
    first = json.loads((bench.run / "run.json").read_text())
    assert [(leg["from"], leg["to"]) for leg in first["legs"]] == [(0, 2)]
    assert bench.fit("--resume", "last") == 0  # it had ended: nothing is left to do, and nothing is forgotten
    second = json.loads((bench.run / "run.json").read_text())
    assert {name: second[name] for name in first} == first
    assert bench.fit("--resume", "last", "--trainer.max_steps", "5", "--trainer.max_epochs", "9") == 0
    third = json.loads((bench.run / "run.json").read_text())
    assert [(leg["from"], leg["to"]) for leg in third["legs"]] == [(0, 2), (2, 5)]
    assert third["command"] == first["command"]
    assert "--resume last" in third["resumed"][0]["command"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data.tokens_per_batch", "0"], "tokens_per_batch (0) must be at least 1"),
        (["--model.label_smoothing", "1.0"], "label_smoothing (1.0) must be in [0, 1)"),
        (["--model.length", "0"], "length (0) must be at least 1"),
        (
            ["--model.schedule", "Cosine", "--trainer.max_steps", "-1", "--trainer.max_epochs", "-1"],
            "must know its last",
        ),
        (["--checkpoint.monitor", "val/blue", "--trainer.val_check_interval", "1"], "val/blue"),
        (["--trainer.val_check_interval", "999"], "val_check_interval (999) is more than the batches of an epoch"),
    ],
)
def test_what_is_found_out_late_is_one_line_too(
    bench: Bench, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert bench.fit(*options) == 2
    said = capsys.readouterr().err
    assert message in said.splitlines()[-1]
    assert "Traceback" not in said
    assert bench.fit() == 0  # nothing was trained, so nothing stands in the way


def test_an_interrupted_training_has_its_exit_code(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        bench.stop_at(patch, 1, interrupt)
        assert bench.fit() == 130


@pytest.mark.parametrize(("device", "message"), [("cuda", "--device cuda"), ("meta", "--device meta")])
def test_a_device_that_cannot_be_used(
    bench: Bench, capsys: pytest.CaptureFixture[str], device: str, message: str
) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one here")
    assert bench.fit() == 0
    capsys.readouterr()
    assert message in one_line(capsys, main(["translate", str(bench.run), "one", "--device", device]))


def test_checkpoints_lie_in_the_runs_folder(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Elsewhere nothing would find them, and a finished run would be taken for one that may begin anew."""
    elsewhere = bench.folder / "elsewhere"
    said = one_line(capsys, bench.fit("--checkpoint.dirpath", elsewhere))
    assert f"checkpoint.dirpath ({elsewhere}): the checkpoints of a run lie in its folder" in said
    assert not bench.run.exists()
    endless = ["--trainer.max_epochs", -1]
    assert bench.fit(*endless) == 0
    assert bench.merged()["checkpoint"]["dirpath"] is None
    shutil.move(bench.run, bench.folder / "moved")
    assert bench.fit(*endless, "--resume", "last", "--trainer.max_steps", 3, run="moved") == 0
    assert not bench.run.exists()
    assert torch.load(bench.folder / "moved" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3


def test_weights_of_another_kind_of_model_are_named_so(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.fit() == 0
    capsys.readouterr()
    config = Path(__file__).parents[1] / "configs" / "vision" / "digits.yaml"
    said = one_line(capsys, bench.fit("--init-from", bench.run, config=config, run="digits"))
    assert "a Seq2Seq, not weights of this ViT, and no stack to begin with" in said
    assert not (bench.folder / "digits").exists()


def test_the_last_checkpoint_is_not_the_last_name(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    kept = ["--checkpoint.save_last", "false", "--checkpoint.save_top_k", -1, "--checkpoint.every_n_train_steps", 3]
    kept += ["--trainer.max_epochs", -1, "--trainer.limit_val_batches", 0]
    assert bench.fit(*kept, "--trainer.max_steps", 12) == 0
    assert {path.name for path in (bench.run / "checkpoints").iterdir()} == {f"step={n}.ckpt" for n in (3, 6, 9, 12)}
    assert find_checkpoint(bench.run, "last").name == find_checkpoint(bench.run).name == "step=12.ckpt"
    capsys.readouterr()
    assert bench.fit(*kept, "--trainer.max_steps", 15, "--resume", "last") == 0
    assert "max_steps was" not in capsys.readouterr().err  # this schedule knows no end
    assert (bench.run / "checkpoints" / "step=15.ckpt").is_file()


def test_more_steps_of_a_schedule_that_ends_are_said(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    cosine = ["--model.schedule", "Cosine", "--model.schedule.warmup", 1, "--trainer.max_epochs", -1]
    assert bench.fit(*cosine) == 0
    capsys.readouterr()
    assert bench.fit(*cosine, "--resume", "last", "--trainer.max_steps", 4, "--data.workers", 1) == 0
    said = capsys.readouterr().err
    assert "trainer.max_steps was 2, is 4: learning rates, and what is averaged, go by the new end" in said


@pytest.mark.parametrize(
    "argv",
    [
        ["tour", "--out", "{}"],
        ["matrix", "--out", "{}/index.html"],
        ["parity", "--out", "{}/index.html"],
        ["bench", "core", "--json", "{}/index.html"],
    ],
    ids=lambda argv: argv[0],
)
def test_what_a_user_wrote_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    page = tmp_path / "index.html"
    page.write_text("<h1>my own</h1>")
    said = one_line(capsys, main([arg.format(tmp_path) for arg in argv]))
    assert f"{page} exists already and is not one that this verb wrote" in said
    assert page.read_text() == "<h1>my own</h1>"


def test_a_name_that_no_file_can_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert "File name too long" in one_line(capsys, main(["translate", "a" * 300, "hello"]))
