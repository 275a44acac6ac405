"""Traps of the libraries below, each held open by a test through the real command line (docs/design.md tells them)."""

import csv
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from zoo.cli import main
from zoo.text.task import Translation
from zoo.train.unset import left_behind

QUIET = ["--trainer.enable_progress_bar", "false"]
NUMBERS = {"train": 60, "val": 6, "test": 6, "limit": 100, "tokens_per_batch": 200, "vocab_size": 270}


def settings(**changes: Any) -> dict[str, Any]:
    """A run of a second: a tiny translator of numbers below a hundred."""
    stack = {"dim": 16, "depth": 1, "heads": 2, "dropout": 0.2, "position": {"class_path": "Sinusoidal"}}
    model = {
        "encoder": stack,
        "decoder": stack | {"causal": True, "cross": True},
        "optimizer": {"class_path": "AdamW", "init_args": {"lr": 0.003}},
        "schedule": {"class_path": "InverseSquareRoot", "init_args": {"warmup": 4}},
    }
    return {
        "model": {"class_path": "Translation", "init_args": model},
        "data": {"class_path": "Numbers", "init_args": NUMBERS},
        "trainer": {"accelerator": "cpu", "max_epochs": 2, "limit_val_batches": 1},
    } | changes


class Bench:
    """A folder with a configuration and a run."""

    def __init__(self, folder: Path):
        self.folder, self.run = folder, folder / "run"
        self.config = self.write("base.yaml", settings())

    def write(self, name: str, content: Any) -> Path:
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
        return path

    def fit(self, *options: object, config: Path | None = None, run: str | None = None) -> int:
        folder = self.run if run is None else self.folder / run
        given = ["--config", config or self.config, "--run", folder, *QUIET, *options]
        return main(["fit", *map(str, given)])

    def weights(self, run: str = "run") -> torch.Tensor:
        state = torch.load(self.folder / run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        return torch.cat([value.flatten() for value in state.values()])

    def merged(self) -> Any:
        return yaml.safe_load((self.run / "config.yaml").read_text())

    def stop_at(self, monkeypatch: pytest.MonkeyPatch, batch: int, act: Callable[[], None]) -> None:
        """Do something in the middle of training, before the step of the given batch, counted from 0."""
        step, count = Translation.training_step, iter(range(10_000))

        def training_step(task: Translation, *args: Any) -> torch.Tensor:
            if next(count) == batch:
                act()
            return step(task, *args)

        monkeypatch.setattr(Translation, "training_step", training_step)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def refused(bench: Bench, capsys: pytest.CaptureFixture[str], *options: object, config: Path | None = None) -> str:
    """What is said about a fault: one line, exit code 2, nothing left behind."""
    capsys.readouterr()
    assert bench.fit(*options, config=config) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("zoo fit: ")
    assert said.err.count("\n") == 1
    assert not bench.run.exists()
    return said.err.removeprefix("zoo fit: ").rstrip("\n")


class CrashError(Exception):
    """A process that goes away."""


def crash() -> None:
    raise CrashError


# 1. A union of dataclasses builds the first that fits


def test_a_setting_is_what_its_name_says_and_not_the_first_that_fits(bench: Bench) -> None:
    changed = settings()
    changed["model"]["init_args"]["encoder"]["norm"] = {"class_path": "RMSNorm", "init_args": {"eps": 0.125}}
    assert bench.fit("--trainer.max_steps", 1, config=bench.write("c.yaml", changed)) == 0
    described = json.loads((bench.run / "config.json").read_text())["settings"]
    assert described["encoder"]["norm"] == {"class_path": "RMSNorm", "init_args": {"eps": 0.125}}
    assert described["decoder"]["norm"]["class_path"] == "LayerNorm"


# 2. Checkpoints open with weights_only=True


def test_a_checkpoint_holds_tensors_and_plain_values_only(bench: Bench) -> None:
    assert bench.fit() == 0
    for path in (bench.run / "checkpoints").iterdir():
        torch.load(path, weights_only=True)


# 3. A checkpoint's own settings beat what was typed


@pytest.mark.parametrize("entry", ["hyper_parameters", "datamodule_hyper_parameters"])
def test_settings_in_a_checkpoint_are_never_read(bench: Bench, monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    assert bench.fit("--trainer.max_steps", 2) == 0
    path = bench.run / "checkpoints" / "last.ckpt"
    poisoned = torch.load(path, weights_only=True)
    poisoned[entry] = {"_class_path": "poison.Task", "_instantiator": "poison.build", "label_smoothing": 0.9}
    poisoned["hparams_name"] = "kwargs"
    torch.save(poisoned, path)
    (bench.folder / "poison.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n")
    monkeypatch.syspath_prepend(str(bench.folder))
    assert bench.fit("--resume", "last", "--trainer.max_steps", 3) == 0
    assert bench.fit("--init-from", path, run="other") == 0
    assert main(["test", str(bench.run), *QUIET]) == 0
    assert not (bench.folder / "ran").exists()
    assert bench.merged()["model"]["init_args"]["label_smoothing"] == 0.0


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "tokenizer.json", "vocab.json"])
def test_a_folder_with_files_of_the_users_is_no_place_for_a_run(
    bench: Bench, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    bench.run.mkdir()
    (bench.run / name).write_text("mine")
    (bench.run / "fit.log").write_text("a shell may write here what the run says")
    assert bench.fit("--trainer.max_steps", 1) == 2
    assert f"run/{name} was not written by zoo fit, and nothing is overwritten" in capsys.readouterr().err
    assert {path.name for path in bench.run.iterdir()} == {name, "fit.log"}
    assert (bench.run / name).read_text() == "mine"
    (bench.run / name).unlink()
    assert bench.fit("--trainer.max_steps", 1) == 0


def test_what_resumes_must_be_what_began(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.fit("--trainer.max_steps", 2) == 0
    capsys.readouterr()
    assert bench.fit("--resume", "last", "--model.optimizer.lr", 0.5) == 2
    assert "model.init_args.optimizer.init_args.lr was 0.003, now 0.5" in capsys.readouterr().err
    assert bench.fit("--resume", "last", "--trainer.max_steps", 4) == 0  # how long it goes on is free
    assert torch.load(bench.run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4


def test_weights_alone_begin_a_new_run(bench: Bench) -> None:
    assert bench.fit("--trainer.max_steps", 3) == 0
    source = bench.run / "checkpoints" / "last.ckpt"
    assert bench.fit("--init-from", source, "--trainer.max_steps", 1, "--model.optimizer.lr", 1e-30, run="other") == 0
    torch.testing.assert_close(bench.weights("other"), bench.weights())
    assert torch.load(bench.folder / "other" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 1


# 4. Lightning's config saver refuses `test` after `fit` in one folder


def test_a_run_can_be_tested_again_and_again_and_not_trained_over(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.fit() == 0
    before = (bench.run / "config.yaml").read_text()
    for _ in range(2):
        assert main(["test", str(bench.run), *QUIET]) == 0
        assert main(["validate", str(bench.run), *QUIET]) == 0
    assert (bench.run / "config.yaml").read_text() == before
    capsys.readouterr()
    assert bench.fit() == 2
    assert "already holds a run" in capsys.readouterr().err


# 5. A second YAML replaces the list of callbacks


def test_an_overlay_with_callbacks_takes_none_of_ours(bench: Bench) -> None:
    overlay = bench.write("o.yaml", {"trainer": {"callbacks": [{"class_path": "LearningRateMonitor"}], "max_steps": 4}})
    assert bench.fit("--config", overlay, "--trainer.log_every_n_steps", 1) == 0
    assert {"config.json", "run.json", "checkpoints"} <= {p.name for p in bench.run.iterdir()}
    assert bench.merged()["trainer"]["max_steps"] == 4
    assert (bench.run / "checkpoints" / "last.ckpt").is_file()
    rows = list(csv.DictReader((bench.run / "metrics.csv").open()))
    assert any(row.get("lr-AdamW") or row.get("lr-AdamW/pg1") for row in rows)


# 6. Another class inherits the old one's arguments


def test_another_class_starts_from_its_own_defaults(bench: Bench) -> None:
    base = settings()
    base["model"]["init_args"]["optimizer"] = {"class_path": "AdamW", "init_args": {"lr": 0.5, "weight_decay": 0.7}}
    config = bench.write("c.yaml", base)
    overlay = bench.write("o.yaml", {"model": {"init_args": {"optimizer": {"class_path": "Muon"}}}})
    assert bench.fit("--config", overlay, "--trainer.max_steps", 1, config=config) == 0
    optimizer = bench.merged()["model"]["init_args"]["optimizer"]
    assert optimizer["class_path"].endswith("Muon")
    assert optimizer["init_args"]["lr"] == 1e-3
    assert optimizer["init_args"]["weight_decay"] == 0.01


def test_what_another_class_leaves_behind_is_said(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    base = settings()
    base["model"]["init_args"]["optimizer"] = {"class_path": "AdamW", "init_args": {"lr": 0.5, "weight_decay": 0.7}}
    base["model"]["init_args"]["encoder"]["norm"] = {"class_path": "LayerNorm", "init_args": {"eps": 0.125}}
    base["data"]["init_args"] = NUMBERS | {"seed": 3}
    config = bench.write("c.yaml", base)
    overlay = bench.write("o.yaml", {"model": {"init_args": {"optimizer": {"class_path": "Muon"}}}})
    pairs = bench.write("pairs.tsv", "".join(f"one {word}\tuno {word}\n" for word in "a b c d e f g h i j k l".split()))
    short = ["--trainer.max_steps", 1]
    changed = ["--model.encoder.norm=RMSNorm", "--data", "TextPairs", "--data.tsv", pairs, "--data.held_out", 1]
    assert bench.fit("--config", overlay, *changed, *short, config=config) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[:3] == [
        "model.optimizer: Muon in place of AdamW starts from its own defaults; left behind: lr, weight_decay",
        "model.encoder.norm: RMSNorm in place of LayerNorm starts from its own defaults; left behind: eps",
        "data: TextPairs in place of Numbers starts from its own defaults; left behind: train, val, test, limit, "
        "tokens_per_batch, vocab_size, seed",
    ]
    again = ["--model.optimizer", "zoo.train.optimisers.AdamW", "--model.schedule.warmup", 3, *short]
    assert bench.fit(*again, config=config, run="same") == 0
    replaced = ["--model.optimizer", "Muon", "--model.optimizer.lr", 0.1, "--model.optimizer.weight_decay=0.2", *short]
    assert bench.fit(*replaced, config=config, run="set") == 0
    assert "starts from its own defaults" not in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--trainer.logger=false", "--trainer.logger=null", "--trainer.logger.version=3"])
def test_a_setting_that_is_left_out_leaves_nothing_behind(bench: Bench, option: str) -> None:
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": "here", "version": 1}}
    config = str(bench.write("c.yaml", {"trainer": {"logger": logger}}))
    assert left_behind(["--config", config, option]) == []


def test_a_part_in_a_file_of_its_own_is_read(bench: Bench) -> None:
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": "here", "version": 1}}
    config = str(bench.write("c.yaml", {"trainer": {"logger": logger}}))
    part = str(bench.write("part.yaml", {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "there"}}))
    assert left_behind(["-c", config, "--trainer.logger", part]) == [
        "trainer.logger: TensorBoardLogger in place of CSVLogger starts from its own defaults; left behind: version"
    ]


def test_a_default_of_another_class_leaves_nothing_behind(bench: Bench) -> None:
    changed = settings()
    changed["model"]["init_args"]["encoder"]["norm"] = "RMSNorm"
    assert (
        bench.fit("--trainer.max_steps", 1, "--model.decoder.norm", "RMSNorm", config=bench.write("c.yaml", changed))
        == 0
    )
    described = json.loads((bench.run / "config.json").read_text())["settings"]
    for stack in ("encoder", "decoder"):
        assert described[stack]["norm"] == {"class_path": "RMSNorm", "init_args": {"eps": 1e-6}}


def test_the_same_class_keeps_what_an_overlay_leaves_unsaid(bench: Bench) -> None:
    overlay = bench.write(
        "o.yaml", {"model": {"init_args": {"optimizer": {"class_path": "AdamW", "init_args": {"weight_decay": 0.7}}}}}
    )
    assert bench.fit("--config", overlay, "--trainer.max_steps", 1) == 0
    arguments = bench.merged()["model"]["init_args"]["optimizer"]["init_args"]
    assert (arguments["lr"], arguments["weight_decay"]) == (0.003, 0.7)


# 7. Schedules step per epoch, everything is decayed


def test_the_schedule_steps_every_step_and_norms_are_not_decayed(bench: Bench) -> None:
    assert bench.fit() == 0
    checkpoint = torch.load(bench.run / "checkpoints" / "last.ckpt", weights_only=True)
    steps = checkpoint["global_step"]
    assert checkpoint["lr_schedulers"][0]["last_epoch"] == steps > 5
    groups = checkpoint["optimizer_states"][0]["param_groups"]
    factor = min(1.0, (steps + 1) / 4, (4 / (steps + 1)) ** 0.5)
    assert groups[0]["lr"] == pytest.approx(0.003 * factor)
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]


# 8. Settings arrive as objects, not as dicts


def test_a_run_folder_alone_gives_the_model_back(bench: Bench) -> None:
    import zoo

    assert bench.fit() == 0
    loaded = zoo.load(bench.run)
    assert not loaded.model.training
    assert loaded.config["kind"] == "Seq2Seq"
    state = torch.load(bench.run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, state[f"network.{name}"])
    assert loaded.tokenizer.decode_batch(loaded.tokenizer.encode_batch(["forty-two"])) == ["forty-two"]


# 9., 10. Withdrawn and moving dependencies


def test_the_bounds_of_lightning_and_jsonargparse() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    bounds = {r.name: r.specifier for r in map(Requirement, project["dependencies"])}
    assert not any(bounds["lightning"].contains(bad) for bad in ("2.6.2", "2.6.3", "2.6.5", "2.7.0"))
    assert bounds["lightning"].contains("2.6.6")
    assert bounds["jsonargparse"].contains("4.53.0")
    assert not bounds["jsonargparse"].contains("5.0.0")


# 11. Abbreviations are accepted, errors fill a screen


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trainer.max_epoch", "3"], "trainer: unknown setting 'max_epoch'; did you mean 'max_epochs'?"),
        (["--trainer.max_epoch=3"], "trainer: unknown setting 'max_epoch'; did you mean 'max_epochs'?"),
        (["--trainer.max_epochs", "three"], "trainer.max_epochs: expected int, got 'three'"),
        (["--mdoel.tied", "false"], "unknown setting 'mdoel'; did you mean 'model'?"),
        (["--model.encoder.dmi", "17"], "model.encoder: unknown setting 'dmi'; did you mean 'dim'?"),
        (["--model.encoder.dim", "17"], "heads (2) must divide dim (17); or set head_dim"),
        (["--model.schedule", "Cosin"], "model.schedule: there is no 'Cosin'; did you mean 'Cosine'?"),
        (["--model.schedule.warmp", "4"], "model.schedule: unknown setting 'warmp'; did you mean 'warmup'?"),
        (["--model.schedule.warmup", "x"], "model.schedule.warmup: expected int, got 'x'"),
        (["--model.optimizer.lr", "-1"], "lr (-1.0) must be above 0"),
        (["--data", "Nubmers"], "data: there is no 'Nubmers'; did you mean 'Numbers'?"),
        (["--data.limt", "3"], "data: unknown setting 'limt'; did you mean 'limit'?"),
        (["--data.limit", "x"], "data.limit: expected int, got 'x'"),
        (["stray"], "unknown argument 'stray': options begin with --"),
    ],
)
def test_a_wrong_option_is_one_line_with_the_nearest(
    bench: Bench, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert refused(bench, capsys, *options) == said


def test_a_name_like_no_other_may_be_the_users_own(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(bench, capsys, "--model.encoder.position", "Xqz")
    assert said.startswith("model.encoder.position: there is no 'Xqz'; allowed: ALiBi, ")
    assert said.endswith("; if it is your own, name its module: zoo --import MODULE ..., or import it before zoo.load")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("max_epochs", "max_epoch", "trainer: unknown setting 'max_epoch'; did you mean 'max_epochs'?"),
        ("depth", "dpeth", "model.encoder: unknown setting 'dpeth'; did you mean 'depth'?"),
        ("trainer", "trainr", "unknown setting 'trainr'; did you mean 'trainer'?"),
        ("data:", "#", "no data given; --config FILE names them"),
        ("Sinusoidal", "Sinusoidl", "model.encoder.position: there is no 'Sinusoidl'; did you mean 'Sinusoidal'?"),
        ("causal: true", "causal: maybe", "model.decoder.causal: expected bool, got 'maybe'"),
        ("heads: 2", "heads: 3", "heads (3) must divide dim (16); or set head_dim"),
        ("lr:", "rate:", "model.optimizer: unknown setting 'rate'; allowed: beta1, beta2, eps, lr, weight_decay"),
    ],
)
def test_a_typo_in_a_file_is_one_line_with_the_nearest(
    bench: Bench, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    text = bench.config.read_text().replace(old, new)
    if old == "data:":
        parsed = settings()
        del parsed["data"]
        text = yaml.safe_dump(parsed, sort_keys=False)
    assert refused(bench, capsys, config=bench.write("c.yaml", text)) == said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "{path}: empty, expected settings by name"),
        (b"- a\n- b\n", "{path}: expected settings by name, got a list"),
        (b"model: {a: 1\ndata: 2\n", "{path}, line 2: expected ',' or '}}', but got ':'"),
        (b"data: \xff\xfe", "{path}: not UTF-8"),
        (b"trainer:\n  max_steps: 1\n  max_steps: 2\n", "{path}, line 3: 'max_steps' is given twice"),
    ],
)
def test_a_file_that_is_no_settings_is_named(
    bench: Bench, capsys: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    path = bench.folder / "bad.yaml"
    path.write_bytes(content)
    assert refused(bench, capsys, config=path) == said.format(path=path)


def test_a_missing_file_is_named(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    path = bench.folder / "none.yaml"
    assert refused(bench, capsys, config=path) == f"{path}: No such file or directory"


def test_a_name_to_import_must_be_of_the_right_family(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    text = bench.config.read_text().replace("Sinusoidal", "os.system")
    said = refused(bench, capsys, config=bench.write("c.yaml", text))
    assert said.startswith("model.encoder.position: 'os.system' is no Position; allowed: ALiBi, ")


# 12. Lightning shuffles what we ordered


def test_lightning_never_puts_a_sampler_in_the_place_of_ours(bench: Bench) -> None:
    assert bench.fit("--trainer.max_steps", 1) == 0
    assert bench.merged()["trainer"]["use_distributed_sampler"] is False


# 13. A run that goes on draws another order and other dropout


@pytest.mark.parametrize(
    ("workers", "accumulate", "crashed", "every"),
    [(0, 1, 5, 2), (2, 2, 13, 4), (2, 1, 9, None)],
    ids=["in the first epoch", "in the third, workers, accumulation", "after a validation, workers"],
)
def test_a_run_goes_on_bit_for_bit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, workers: int, accumulate: int, crashed: int, every: int | None
) -> None:
    options = ["--data.workers", workers, "--trainer.max_epochs", 3, "--trainer.accumulate_grad_batches", accumulate]
    if every is not None:
        options += ["--checkpoint.every_n_train_steps", every // accumulate]
    assert bench.fit(*options, run="whole") == 0
    with monkeypatch.context() as patch:
        bench.stop_at(patch, crashed, crash)
        with pytest.raises(CrashError):
            bench.fit(*options)
    before = torch.load(bench.run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert before > 0
    assert bench.fit("--resume", "last", *options) == 0
    assert torch.equal(bench.weights(), bench.weights("whole"))


@pytest.mark.parametrize("first", [3, 4, 6], ids=["a whole epoch", "in the second epoch", "two epochs"])
@pytest.mark.parametrize("monitor", [None, "val/exact"], ids=["all are kept", "none is better"])
def test_a_run_that_was_complete_goes_on_with_more_steps(bench: Bench, first: int, monitor: str | None) -> None:
    """Lightning takes an epoch that the last step cut short for done: the order of batches must not. Where nothing
    gets better it leaves last.ckpt as it was: its end is the last one all the same."""
    plain = settings()
    if monitor:
        plain["checkpoint"] = {"monitor": monitor, "mode": "max"}
    plain["data"]["init_args"] = NUMBERS | {"tokens_per_batch": 400}
    plain["trainer"] |= {"max_epochs": -1, "max_steps": first}
    bench.config = bench.write("steps.yaml", plain)
    assert bench.fit() == bench.fit("--resume", "last", "--trainer.max_steps", 8) == 0
    assert bench.fit("--trainer.max_steps", 8, run="whole") == 0
    assert torch.equal(bench.weights(), bench.weights("whole"))


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not(bench: Bench) -> None:
    assert bench.fit(run="one") == bench.fit(run="two") == bench.fit("--seed_everything", 2, run="three") == 0
    assert torch.equal(bench.weights("one"), bench.weights("two"))
    assert not torch.equal(bench.weights("one"), bench.weights("three"))


# 14. A full disk destroys the last good checkpoint: tests/train/test_checkpoint.py; here, that training uses it


def test_a_full_disk_stops_training_in_one_line_and_keeps_the_last_checkpoint(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save, count = torch.save, iter(range(100))

    def full(obj: Any, file: Any) -> None:
        if next(count) >= 2:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        save(obj, file)

    monkeypatch.setattr(torch, "save", full)
    code = bench.fit("--checkpoint.every_n_train_steps", 2)
    said = capsys.readouterr().err.splitlines()[-1]
    assert code == 2
    assert "the checkpoint could not be written" in said
    assert "No space left on device" in said
    kept = list((bench.run / "checkpoints").glob("*.ckpt"))
    assert kept
    assert all(torch.load(path, weights_only=True)["global_step"] == 2 for path in kept)
    assert not list((bench.run / "checkpoints").glob("*.part"))


# 15. NaN trains to the end with exit code 0, SIGTERM exits 0


def test_a_loss_that_is_no_number_stops_before_the_step_with_exit_code_1(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Translation.training_step

    def breaking(task: Translation, *args: Any) -> torch.Tensor:
        return step(task, *args) * (float("nan") if task.global_step == 3 else 1.0)

    monkeypatch.setattr(Translation, "training_step", breaking)
    assert bench.fit("--checkpoint.every_n_train_steps", 1) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("zoo fit: step 3: ")
    last = torch.load(bench.run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 3
    assert all(value.isfinite().all() for value in last["state_dict"].values())


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_checkpoint_and_its_exit_code(bench: Bench, sent: signal.Signals) -> None:
    script = (
        "import os, signal, sys\n"
        "import zoo.verbs.fit\n"
        "from zoo.text.task import Translation\n"
        "step = Translation.training_step\n"
        "def training_step(task, *args):\n"
        f"    if task.global_step == 4: os.kill(os.getpid(), {int(sent)})\n"
        "    return step(task, *args)\n"
        "Translation.training_step = training_step\n"
        "from zoo.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    options = ["--config", str(bench.config), "--run", str(bench.run), *QUIET]
    done = subprocess.run(
        [sys.executable, "-c", script, "fit", *options],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 128 + sent, done.stderr
    assert "--resume last" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    last = torch.load(bench.run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 5
    assert [(leg["from"], leg["to"]) for leg in json.loads((bench.run / "run.json").read_text())["legs"]] == [(0, 5)]
    assert bench.fit(run="whole") == bench.fit("--resume", "last") == 0
    assert torch.equal(bench.weights(), bench.weights("whole"))


# 16. Linked arguments must be known when the data module is built


def test_the_size_of_the_vocabulary_is_the_datas(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(bench, capsys, "--model.vocab_size", 7)
    assert said == "model.vocab_size is the data's to say: tokens of its tokenizer"
    assert bench.fit("--trainer.max_steps", 1) == 0
    tokens = len(json.loads((bench.run / "tokenizer.json").read_text())["model"]["vocab"])
    size = json.loads((bench.run / "config.json").read_text())["settings"]["vocab_size"]
    assert size == tokens <= 270
