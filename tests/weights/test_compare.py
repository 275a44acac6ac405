"""zoo diff and zoo anatomy: what they say of architectures, of published folders and of zoo's own."""

import re
from pathlib import Path

import pytest
import torch

import zoo
from tests.weights.test_folders import named
from zoo import cli
from zoo.weights.compare import anatomy, compare, describe, differences


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> list[list[str]]:
    """What a verb prints, in words."""
    assert cli.main([*argv]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_two_architectures_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    rows = said(capsys, "diff", "gpt2", "esm2")
    assert rows[0] == ["setting", "gpt2_small", "esm2_8m"]
    assert ["position", "Learned", "Rotary"] in rows
    assert ["position.theta", "-", "10000.0"] in rows
    assert ["causal", "yes", "no"] in rows
    assert not [row for row in rows if row[0] in ("norm", "norm_order", "kv_heads")]  # in which they agree
    assert ["no", "difference"] in said(capsys, "diff", "gpt2", "gpt2")
    rows = said(capsys, "diff", "llama", "t5_s")
    assert ["[stack,", "encoder]"] in rows
    assert ["[stack,", "decoder]"] in rows


def test_differences_name_what_one_has_not() -> None:
    plain = {"class_path": "Rotary", "init_args": {"theta": 1.0}}
    assert differences({"a": 1, "p": plain}, {"a": 1, "p": {"class_path": "NoPosition", "init_args": {}}}) == {
        "p": ("Rotary", "NoPosition"),
        "p.theta": (1.0, "-"),
    }


def test_published_folders(tmp_path: Path) -> None:
    for name in ("three heads", "scores by layer"):
        named(f"gpt2/{name}").save(named(f"gpt2/{name}").model(), tmp_path / name)
    both = [describe(str(tmp_path / name)) for name in ("three heads", "scores by layer")]
    text = compare(*both)
    assert [line.split()[0] for line in text.splitlines()][-2:] == ["heads", "scale.inverse_layer"]
    # without the weights of a folder of zoo's own
    assert cli.main(["import", str(tmp_path / "three heads"), str(tmp_path / "own")]) == 0
    (tmp_path / "own" / "model.safetensors").unlink()
    assert "no difference" in compare(both[0], describe(str(tmp_path / "own")))


@pytest.mark.parametrize(
    "name", ["bert/three heads", "t5/v1.0: relu, tied, scaled", "timm/deit, distilled", "musicgen/four codebooks"]
)
def test_anatomy_counts_every_parameter_once(name: str, tmp_path: Path) -> None:
    named(name).save(named(name).model(), tmp_path / "m")
    lines = anatomy(describe(str(tmp_path / "m"))).splitlines()
    expected = sum(p.numel() for p in zoo.load(tmp_path / "m").model.parameters())
    assert f"  {expected:,}  " in lines[0]
    # what has shapes is counted; below "0 to 1, each" it stands for two
    total, alike = 0, None
    for line in lines[1:]:
        depth = line.index("─ ")
        alike = None if alike is not None and depth <= alike else alike
        alike = depth if "0 to 1, each" in line else alike
        found = re.search(r"(\d[\d,]*(?: x [\d,]+)?(?: \+ bias)?)  +([\d,]+)(?:  |$)", line)
        if found:
            total += int(found[2].replace(",", "")) * (1 if alike is None else 2)
    assert total == expected


def test_tied_weights_are_told(tmp_path: Path) -> None:
    named("bert/three heads").save(named("bert/three heads").model(), tmp_path / "m")
    (line,) = [x for x in anatomy(describe(str(tmp_path / "m"))).splitlines() if "the weight of" in x]
    assert line.split()[1:] == "out 30 x 24 + bias 30 Linear, the weight of trunk.embedding".split()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt", ""),
        ("t5", "may be any of t5_small, t5_v1_1_small"),
        ("gptt2_small", "did you mean 'gpt2_small'?"),
        ("runs/none", "no such folder"),
    ],
)
def test_a_name_that_is_none(name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["anatomy", name])
    assert code == (2 if message else 0)
    assert message in capsys.readouterr().err


def test_nothing_is_allocated() -> None:
    """Llama 1B is described without its four gigabytes."""
    assert {p.device for p in describe("llama").modules.parameters()} == {torch.device("meta")}
