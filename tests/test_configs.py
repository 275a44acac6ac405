"""Every shipped YAML through the real command line: a few steps of the real settings, then its overlays."""

import gzip
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.music.pieces import write_codec, write_jsb, write_pop909
from tests.protein.sets import write_sets
from tests.text.sentences import write_sentences
from tests.vision.pictures import write_cifar, write_folder, write_mnist
from zoo.cli import main
from zoo.core import StackConfig
from zoo.train.cli import build
from zoo.train.task import Task

CONFIGS = Path(__file__).parents[1] / "configs"
EXPERIMENTS = sorted(p for p in CONFIGS.glob("*/*.yaml") if p.parent.name not in ("arch", "overlay"))
OVERLAYS = sorted((CONFIGS / "overlay").glob("*.yaml"))
FEW = ["--trainer.max_steps", "2", "--trainer.limit_val_batches", "1", "--trainer.val_check_interval", "2"]
FEW += ["--trainer.precision", "32-true"]  # halves are slow, or missing, where tests run
# What is made for a GPU is too much for these tests as it is.
FEWER = {
    "shakespeare_gpu": ["--data.batch", "1", "--model.stack.depth", "1", "--model.compile", "false"],
    "tune_images": ["--data.held_out", "4", "--data.batch", "4"],
    "tune_structure": ["--trainer.check_val_every_n_epoch", "null"],
    "classes": ["--trainer.check_val_every_n_epoch", "null"],
    "cifar10_cuda": ["--data.batch", "16", "--model.stack.depth", "1", "--model.compile", "false"],
}
# What is made to begin with another model: the file whose run it gets here.
BEGINS = {"tune_text": "text/sst_masked", "tune_images": "vision/cifar10", "tune_structure": "protein/natural_masked"}
BEGINS |= {"tune_pairs": "text/multi30k"}
QUIET = ["--trainer.enable_progress_bar", "false"]
WORDS = "man woman dog red blue street ball runs jumps on the in with two young people".split()


@pytest.fixture
def captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files named as Multi30k's, of captions made here."""
    folder = tmp_path / "multi30k"
    folder.mkdir()
    draw = random.Random(1)
    for split, count in {"train": 300, "val": 8, "test_2016_flickr": 8}.items():
        for language in ("en", "de", "fr"):
            lines = [" ".join(draw.choices(WORDS, k=draw.randint(3, 12))) for _ in range(count)]
            with gzip.open(folder / f"{split}.{language}.gz", "wt") as file:
                file.write("\n".join(lines) + "\n")
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt").write_text(" ".join(draw.choices(WORDS, k=2000)))
    write_sentences(tmp_path / "sst")
    write_jsb(tmp_path / "jsb_chorales")
    write_mnist(tmp_path / "mnist")
    write_cifar(tmp_path / "cifar10_jpeg")
    write_pop909(tmp_path / "pop909")
    write_codec(tmp_path / "runs" / "codec")
    write_folder(tmp_path / "images")  # configs/vision/tune_images.yaml reads them
    monkeypatch.chdir(tmp_path)  # configs/music/codes.yaml reads runs/codec
    write_sets(tmp_path)
    monkeypatch.setattr("zoo.data.public.fetch", lambda name, files=None: tmp_path / name)
    return folder


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_trains_tests_and_says_so(
    path: Path, captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    given = [*FEW, *FEWER.get(path.stem, [])]
    if path.stem in BEGINS:
        first = str(CONFIGS / f"{BEGINS[path.stem]}.yaml")
        assert main(["fit", "--config", first, "--run", str(tmp_path / "first"), *FEW, *QUIET]) == 0
        given += ["--init-from", str(tmp_path / "first")]
    assert main(["fit", "--config", str(path), "--run", str(run), *given, *QUIET]) == 0
    merged = yaml.safe_load((run / "config.yaml").read_text())
    shipped = yaml.safe_load(path.read_text())
    assert merged["model"]["class_path"].endswith(shipped["model"]["class_path"])
    assert main(["test", str(run), "--trainer.limit_test_batches", "1", *QUIET]) == 0
    said = capsys.readouterr().out
    measure = {"codec": "distance", "cifar10_mae": "mse"}.get(path.stem, "nll")
    assert "bleu_signature" in said or f"{measure}: " in said


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda p: p.stem)
def test_overlays_lie_over_any_experiment(path: Path, captions: Path, tmp_path: Path) -> None:
    """Those of several processes are trained in tests/train/test_processes.py: here their settings are built."""
    base = str(CONFIGS / "text" / "multi30k.yaml")
    given = ["--config", base, "--config", str(path), "--trainer.max_steps", "2", *QUIET]
    laid = yaml.safe_load(path.read_text())["trainer"]
    if "strategy" in laid:
        cli = build(given, tmp_path)
        assert cli.trainer.world_size == laid["devices"]
        return
    run = tmp_path / "run"
    assert main(["fit", *given, "--run", str(run)]) == 0
    merged = yaml.safe_load((run / "config.yaml").read_text())["trainer"]
    for name, value in laid.items():
        if name == "callbacks":
            for made, given_here in zip(merged[name], value, strict=True):
                assert given_here["init_args"].items() <= made["init_args"].items()
        else:
            assert merged[name] == value


@pytest.mark.parametrize("path", sorted((CONFIGS / "arch").glob("*.yaml")), ids=lambda p: p.stem)
def test_architectures_are_settings_alone(path: Path) -> None:
    for role, values in yaml.safe_load(path.read_text()).items():
        assert StackConfig.from_plain(StackConfig.from_plain(values, role).to_plain()) == StackConfig.from_plain(values)


@pytest.mark.parametrize("path", EXPERIMENTS + OVERLAYS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_file_says_what_it_is_and_how_to_run_it(path: Path) -> None:
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any("zoo fit --config" in line for line in head)


@pytest.mark.slow
def test_one_batch_is_learned_by_heart(tmp_path: Path) -> None:
    """The overlay's promise: what can learn anything brings this loss to nothing."""
    import csv

    configs = [str(CONFIGS / "text" / "numbers.yaml"), str(CONFIGS / "overlay" / "overfit.yaml")]
    run = tmp_path / "run"
    assert main(["fit", "--config", configs[0], "--config", configs[1], "--run", str(run), *QUIET]) == 0
    rows = [row for row in csv.DictReader((run / "metrics.csv").open()) if row["train/nll"]]
    assert float(rows[-1]["train/nll"]) < 0.02


@pytest.mark.parametrize(
    "domain", ["text/numbers", "text/shakespeare", "vision/digits", "music/harmony", "protein/planted"]
)
def test_the_overlay_repeats_one_batch_in_every_domain(domain: str, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be " * 600)
    own = {"text/shakespeare": ["--data", "Corpus", "--data.path", str(text), "--data.tokens", "characters"]}
    given = [str(CONFIGS / f"{domain}.yaml"), str(CONFIGS / "overlay" / "overfit.yaml")]
    run = tmp_path / "run"
    few = ["--trainer.max_epochs", "3", "--trainer.log_every_n_steps", "1", "--checkpoint.monitor", "null"]
    batches: list[torch.Tensor] = []
    with pytest.MonkeyPatch.context() as patched:
        start = Task.on_train_batch_start

        def noted(task: Task, batch: Any, batch_idx: int) -> None:
            batches.append(next(part for part in batch if isinstance(part, torch.Tensor)).clone())
            start(task, batch, batch_idx)

        patched.setattr(Task, "on_train_batch_start", noted)
        args = ["--config", given[0], "--config", given[1], "--run", str(run), *few, *own.get(domain, []), *QUIET]
        assert main(["fit", *args]) == 0
    assert len(batches) == 3
    assert all(torch.equal(batch, batches[0]) for batch in batches[1:])


@pytest.mark.public
def test_multi30k_itself(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["fit", "--config", str(CONFIGS / "text" / "multi30k.yaml"), "--run", str(run), *FEW, *QUIET]) == 0
