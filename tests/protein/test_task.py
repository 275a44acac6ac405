"""Training proteins: what is hidden and counted, what stays frozen, what a trunk begins with."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import zoo
from zoo.cli import main
from zoo.core import Rotary, StackConfig
from zoo.data.batches import TokenBudgetSampler
from zoo.data.corruption import IGNORED
from zoo.protein.data import Batch, Chain, Windows, collate
from zoo.protein.task import CausalProteins, MaskedProteins, ProteinValues, ratio, spearman
from zoo.protein.tokens import RESIDUES, Residues

STACK = StackConfig(dim=16, depth=1, heads=2, position=Rotary())
QUIET = ["--trainer.enable_progress_bar", "false"]


def batch(*sequences: str) -> Batch:
    windows = Windows([Chain(s) for s in sequences], 512, 0, whole=True, seed=1)
    return collate([windows[(0, i)] for i in range(len(windows))])


def test_residues_alone_are_hidden_and_validation_hides_the_same() -> None:
    task = MaskedProteins(STACK, 33, rate=0.5)
    given = batch("MKV-LAX" * 5, "WWWWWW")
    hidden = task.hide(given, None)
    chosen = hidden.labels != IGNORED
    assert chosen.sum() == round(0.5 * 25) + 3  # the gap and X are never chosen
    assert set(hidden.labels[chosen].tolist()) <= set(Residues.residues)
    assert torch.equal(hidden.ids[~chosen], given.ids[~chosen])
    first, second = (task.nats(given)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(task.hide(given, None).ids, task.hide(given, None).ids)  # training hides anew


@pytest.mark.parametrize("frozen", [True, False])
def test_a_trunk_that_does_not_learn_drops_nothing_out(frozen: bool) -> None:
    task = ProteinValues(STACK.replace(dropout=0.5), 33, frozen=frozen).train()
    given = batch("MKVLAWDEGH", "MKV")
    states = [task.network.hidden(given.ids, given.keep) for _ in range(2)]
    assert torch.equal(*states) == frozen
    assert task.network.head.training


def test_the_loss_is_that_of_the_hidden_residues() -> None:
    torch.manual_seed(0)
    task = MaskedProteins(STACK, 33).eval()
    given = batch("MKVLAWDEGH" * 3, "MKV")
    out = task.loss(given, torch.Generator().manual_seed(3))
    hidden = task.hide(given, torch.Generator().manual_seed(3))
    logits = task.network(hidden.ids, given.keep)
    right = torch.nn.functional.cross_entropy(logits.flatten(0, 1), hidden.labels.flatten(), reduction="sum")
    torch.testing.assert_close(out.loss, right)
    assert int(out.tokens) == int((hidden.labels != IGNORED).sum())


def test_a_causal_model_is_told_the_next_token_and_counts_residues_in_tests() -> None:
    torch.manual_seed(0)
    task = CausalProteins(STACK.replace(causal=True), 33).eval()
    sequences = ["MKVLAWDEGH", "MKXV"]
    given = batch(*sequences)
    out = task.loss(given)
    total = counted = residues = 0.0
    for sequence in sequences:
        ids = torch.tensor([Residues().frame(sequence)])
        table = task.network(ids[:, :-1]).log_softmax(-1)[0]
        nats = -table[torch.arange(len(sequence) + 1), ids[0, 1:]].detach()
        total += float(nats.sum())
        residues += float(sum(n for n, letter in zip(nats, sequence, strict=False) if letter in RESIDUES))
        counted += len(sequence) + 1
    assert float(out.loss) == pytest.approx(total, rel=1e-5)
    assert int(out.tokens) == counted  # the end too
    nll, real = task.nats(given)
    assert float((nll * real).sum()) == pytest.approx(residues, rel=1e-5)
    assert int(real.sum()) == 13  # neither X nor the end


def test_stacks_that_read_the_wrong_way_are_refused() -> None:
    with pytest.raises(ValueError, match="train CausalProteins"):
        MaskedProteins(STACK.replace(causal=True), 33)
    with pytest.raises(ValueError, match="train MaskedProteins"):
        CausalProteins(STACK, 33)


def test_spearman_and_the_error_of_a_ratio() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    a, b = random.integers(0, 5, 50).astype(float), random.normal(size=50)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert spearman(np.ones(5), b[:5]) == 0.0
    counts = random.integers(10, 500, 4000)
    totals = counts * 2.9 + random.normal(size=4000) * counts * 0.1
    mean, error = ratio(totals, counts)
    drawn = [random.integers(0, 4000, 4000) for _ in range(300)]  # against the bootstrap
    assert error == pytest.approx(np.std([totals[i].sum() / counts[i].sum() for i in drawn]), rel=0.15)
    assert mean == pytest.approx(2.9, abs=0.01)


def test_values_are_learned_in_their_own_units() -> None:
    torch.manual_seed(0)
    task = ProteinValues(STACK, 33)
    task.network.scale_to(100.0, 20.0)
    windows = Windows([Chain("MKV", 120.0), Chain("MKVLAW", 80.0)], 64, 0, whole=True, seed=1)
    given = collate([windows[(0, i)] for i in range(2)])
    assert given.labels.tolist() == [120.0, 80.0]
    found = task.network(given.ids, given.keep)[:, 0]
    assert abs(float(found.mean()) - 100) < 20  # untrained: near the mean
    by_hand = ((found - given.labels) / 20).square().sum() / 2
    torch.testing.assert_close(task.loss(given).loss, by_hand)
    with pytest.raises(ValueError, match="all the same"):
        task.network.scale_to(1.0, 0.0)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Settings for a masked pretraining and for labels on its trunk, on a few made-up proteins."""
    draw = np.random.default_rng(0)
    proteins = ["".join(draw.choice(list(RESIDUES), 30)) for _ in range(20)]
    (tmp_path / "p.fasta").write_text("".join(f">p{i}\n{s}\n" for i, s in enumerate(proteins)))
    # a label that one residue tells: what a probe of any trunk can learn
    rows = [f"{s},{''.join('H' if c in 'AEILMFQ' else 'C' for c in s)}" for s in proteins]
    (tmp_path / "t.csv").write_text("\n".join(["sequence,label", *rows]) + "\n")
    stack = {"dim": 16, "depth": 1, "heads": 2, "position": "Rotary"}
    fit = {"class_path": "AdamW", "init_args": {"lr": 0.02}}
    masked = {
        "model": {"class_path": "MaskedProteins", "init_args": {"stack": stack, "optimizer": fit}},
        "data": {"class_path": "Proteins", "init_args": {"path": str(tmp_path / "p.fasta"), "held_out": 0.2}},
        "trainer": {"accelerator": "cpu", "max_steps": 3},
    }
    labels = {
        "model": {"class_path": "ResidueLabels", "init_args": {"stack": stack, "optimizer": fit}},
        "data": {"class_path": "OwnResidues", "init_args": {"path": str(tmp_path / "t.csv"), "held_out": 0.2}},
        "trainer": {"accelerator": "cpu", "max_steps": 40},
    }
    for name, plain in {"masked": masked, "labels": labels}.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(plain))
    return tmp_path


def test_a_probe_learns_on_a_trunk_that_stays(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(runs / "masked.yaml"), "--run", str(runs / "m"), *QUIET]) == 0
    given = ["fit", "--config", str(runs / "labels.yaml"), "--init-from", str(runs / "m" / "checkpoints" / "last.ckpt")]
    assert main([*given, "--run", str(runs / "probe"), "--model.frozen", "true", *QUIET]) == 0
    assert "taken from" in capsys.readouterr().err
    assert main([*given, "--run", str(runs / "tuned"), *QUIET]) == 0
    begun, probed, tuned = (zoo.load(runs / name, checkpoint="last").model.trunk for name in ("m", "probe", "tuned"))
    for name, value in begun.state_dict().items():
        assert torch.equal(value, probed.state_dict()[name]), name
    assert any(not torch.equal(v, tuned.state_dict()[n]) for n, v in begun.state_dict().items())
    capsys.readouterr()
    assert main(["test", str(runs / "tuned"), *QUIET]) == 0
    said = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert float(said["accuracy"]) > 0.95
    result = json.loads((runs / "tuned" / "test-validation.json").read_text())
    confusion = result["confusion"]
    assert set(confusion) == {"C", "H"}
    right, total = sum(confusion[c][c] for c in confusion), sum(sum(row.values()) for row in confusion.values())
    assert total == result["residues"]
    assert right / total == pytest.approx(result["accuracy"])


def test_a_test_keeps_what_every_chain_has_had(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(runs / "masked.yaml"), "--run", str(runs / "m"), *QUIET]) == 0
    capsys.readouterr()
    assert main(["test", str(runs / "m"), *QUIET]) == 0
    said = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    rows = np.loadtxt(runs / "m" / "chains-test.csv", delimiter=",", skiprows=1)
    assert len(rows) == int(said["chains"]) == 4
    assert rows[:, 1].sum() / rows[:, 2].sum() == pytest.approx(float(said["nll"]))
    assert math.exp(float(said["nll"])) == pytest.approx(float(said["perplexity"]))


def test_two_processes_test_what_one_does(runs: Path) -> None:
    """The windows of a long chain lie on both."""
    draw = np.random.default_rng(1)
    rows = ["".join(draw.choice(list(RESIDUES), 200)) for _ in range(8)]
    (runs / "long.csv").write_text("sequence\n" + "\n".join(rows) + "\n")
    windows = ["--data.path", str(runs / "long.csv"), "--data.held_out", "0.4", "--data.longest", "64"]
    windows += ["--data.overlap", "32", "--data.tokens_per_batch", "128"]
    assert main(["fit", "--config", str(runs / "masked.yaml"), *windows, "--run", str(runs / "m"), *QUIET]) == 0
    assert main(["test", str(runs / "m"), *QUIET]) == 0
    kept = [(runs / "m" / name).read_text() for name in ("test-test.json", "chains-test.csv")]
    both = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command = [sys.executable, "-m", "zoo", "test", str(runs / "m"), *both, *QUIET]
    alone = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=alone, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = json.loads(kept[0]), json.loads((runs / "m" / "test-test.json").read_text())
    for name in ("nll", "error", "perplexity", "chains", "residues"):
        assert two[name] == pytest.approx(one[name], rel=1e-5), name
    assert one["residues"] > 3 * 0.15 * 150  # of three chains
    chains = [np.loadtxt(text.splitlines(), delimiter=",", skiprows=1) for text in kept[1:]]
    chains.append(np.loadtxt(runs / "m" / "chains-test.csv", delimiter=",", skiprows=1))
    np.testing.assert_allclose(*chains, rtol=1e-5)


def test_classes_are_learned_tested_and_asked_for(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class that the count of one residue tells; its confusion and F1 by hand; a probe of a masked trunk."""
    draw = np.random.default_rng(1)
    rows = []
    for number in range(60):
        letters = list(RESIDUES.replace("W", "")) + ["W"] * (12 if number % 2 else 0)
        rows.append(f"{''.join(draw.choice(letters, 25))},{'rich' if number % 2 else 'poor'}")
    (runs / "c.csv").write_text("\n".join(["sequence,label", *rows]) + "\n")
    plain = yaml.safe_load((runs / "labels.yaml").read_text())
    plain["model"]["class_path"] = "ProteinClasses"
    plain["data"] = {"class_path": "OwnClasses", "init_args": {"path": str(runs / "c.csv"), "held_out": 0.25}}
    (runs / "classes.yaml").write_text(yaml.safe_dump(plain))
    assert main(["fit", "--config", str(runs / "classes.yaml"), "--run", str(runs / "k"), *QUIET]) == 0
    assert main(["test", str(runs / "k"), *QUIET]) == 0
    result = json.loads((runs / "k" / "test-validation.json").read_text())
    table = result["confusion"]
    assert sum(map(sum, (row.values() for row in table.values()))) == result["proteins"] == 15
    assert result["accuracy"] > 0.9
    hits, put = table["rich"]["rich"], table["poor"]["rich"] + table["rich"]["rich"]
    assert result["f1"]["rich"] == pytest.approx(2 * hits / (put + sum(table["rich"].values())), abs=1e-4)
    with monkeypatch.context() as patch:  # as a process with nothing left to do takes the last batch once more
        batches = TokenBudgetSampler.batches
        patch.setattr(TokenBudgetSampler, "batches", lambda self, epoch: 2 * batches(self, epoch))
        patch.setattr(TokenBudgetSampler, "__len__", lambda self: len(self.batches(0)))
        assert main(["test", str(runs / "k"), *QUIET]) == 0
    again = json.loads((runs / "k" / "test-validation.json").read_text())
    assert (again["proteins"], again["confusion"], again["f1"]) == (15, table, result["f1"])
    (runs / "asked.fasta").write_text(">a\nMKWWWWLWWWAWW\n>b\nMKLVEEDLRAAGT\n")
    capsys.readouterr()
    assert main(["classify", str(runs / "k"), str(runs / "asked.fasta"), "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["input"], row["class"]) for row in found] == [("a", "rich"), ("b", "poor")]
    assert main(["fit", "--config", str(runs / "masked.yaml"), "--run", str(runs / "m"), *QUIET]) == 0
    given = ["--config", str(runs / "classes.yaml"), "--init-from", str(runs / "m"), "--model.frozen", "true"]
    assert main(["fit", *given, "--run", str(runs / "probe"), *QUIET]) == 0
    begun, probed = (zoo.load(runs / name, checkpoint="last").model.trunk.state_dict() for name in ("m", "probe"))
    assert all(torch.equal(value, probed[name]) for name, value in begun.items())


def test_smoothing_that_leaves_nothing_of_a_class_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--config", "configs/protein/classes.yaml", "--run", str(runs / "smooth"), *QUIET]
    (runs / "c.csv").write_text("sequence,label\n" + "".join(f"MKV{'A' * i},{'ab'[i % 2]}\n" for i in range(20)))
    given += ["--data", "OwnClasses", "--data.path", str(runs / "c.csv")]
    assert main(["fit", *given, "--model.label_smoothing", "1.5"]) == 2
    assert "label_smoothing (1.5) must be in [0, 1)" in capsys.readouterr().err.splitlines()[-1]
    assert not (runs / "smooth").exists()


@pytest.mark.parametrize("model", ["ResidueLabels", "ProteinClasses", "ProteinValues"])
def test_data_of_another_kind_of_label_is_refused(runs: Path, capsys: pytest.CaptureFixture[str], model: str) -> None:
    (runs / "c.csv").write_text("sequence,label\n" + "".join(f"MKV{'A' * i},{'ab'[i % 2]}\n" for i in range(20)))
    plain = yaml.safe_load((runs / "labels.yaml").read_text())
    plain["model"]["class_path"] = model
    if model != "ProteinClasses":
        plain["data"] = {"class_path": "OwnClasses", "init_args": {"path": str(runs / "c.csv"), "held_out": 0.25}}
    (runs / "wrong.yaml").write_text(yaml.safe_dump(plain))
    assert main(["fit", "--config", str(runs / "wrong.yaml"), "--run", str(runs / "w"), *QUIET]) == 2
    assert f"{model} learns " in capsys.readouterr().err.splitlines()[-1]
