"""zoo.load: the model of a folder, and one line for every folder that is not one. Nothing is imported by name."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import zoo
from zoo.core import Sinusoidal, StackConfig
from zoo.errors import UserError
from zoo.text import CausalLM, Seq2Seq


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    encoder = StackConfig(dim=16, depth=1, heads=2, position=Sinusoidal())
    model = Seq2Seq(encoder, encoder.replace(causal=True, cross=True), 20)
    (tmp_path / "config.json").write_text(json.dumps({"kind": "Seq2Seq", "settings": model.to_plain()}))
    state = model.state_dict()
    del state["head.weight"], state["source_embedding.weight"]  # tied: stored once
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "truth").mkdir()
    torch.save(model.state_dict(), tmp_path / "truth" / "state.pt")
    return tmp_path


def change(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_weights_come_back_and_tied_ones_are_tied(folder: Path) -> None:
    loaded = zoo.load(folder)
    truth = torch.load(folder / "truth" / "state.pt", weights_only=True)
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, truth[name]), name
    assert not loaded.model.training
    assert loaded.model.head.weight is loaded.model.target_embedding.weight
    assert loaded.tokenizer is None


def test_a_kind_that_is_asked_for(folder: Path) -> None:
    """Another is refused in a line; which it is, type checkers know."""
    assert type(zoo.load(folder, kind=Seq2Seq).model) is Seq2Seq
    with pytest.raises(UserError, match=r"holds a Seq2Seq, expected a CausalLM$"):
        zoo.load(folder, kind=CausalLM)


def test_settings_that_name_a_module_import_nothing(folder: Path) -> None:
    before = set(sys.modules)
    change(folder, kind="antigravity.Model")
    with pytest.raises(ValueError, match=r"unknown kind of model 'antigravity\.Model'"):
        zoo.load(folder)
    change(folder, kind="Seq2Seq", settings={"encoder": {"position": {"class_path": "this.Poem"}}})
    with pytest.raises(ValueError, match=r"config\.json"):
        zoo.load(folder)
    assert not {"antigravity", "this"} & (set(sys.modules) - before)


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "not JSON"), ("[]", "holds no settings"), ('{"kind": "Seq2Seq"}', "holds no settings"), ("\xff", "")],
)
def test_settings_that_are_none(folder: Path, content: str, message: str) -> None:
    (folder / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=f"config.json: .*{message}"):
        zoo.load(folder)


def test_weights_that_do_not_fit_are_named(folder: Path) -> None:
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    good = load_file(path)
    save_file({k: v for k, v in good.items() if "final_norm.weight" not in k}, path)
    with pytest.raises(ValueError, match=r"the weights lack 'encoder\.final_norm\.weight'"):
        zoo.load(folder)
    save_file(good | {"extra": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="the weights hold 'extra'"):
        zoo.load(folder)
    save_file(good | {"target_embedding.weight": torch.ones(3, 16)}, path)
    with pytest.raises(ValueError, match=r"has shape \(3, 16\), the settings say \(20, 16\)"):
        zoo.load(folder)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"model\.safetensors: not weights that can be opened"):
        zoo.load(folder)


def test_a_folder_without_weights_or_model(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match="holds no model"):
        zoo.load(tmp_path / "nothing")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="checkpoint"):
        zoo.load(folder)
