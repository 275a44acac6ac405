"""`zoo.load`: a trained model from its folder. Nothing it reads can run code or import a module that it names.

A run folder holds config.json ({"kind": "Seq2Seq", "settings": {plain values}}), checkpoints/*.ckpt or
model.safetensors, and tokenizer.json. Kinds are short names that the table below resolves.
"""

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UserError, nearest

TEXT = "zoo.text.tokens.Tokenizer"
RESIDUES = "zoo.protein.tokens.Residues"
VISION = "zoo.vision.images.Preprocess"
# Short name of a network: the module it stands in, and what makes its domain's data tokens: a class with `filename`,
# where it lies in a model's folder, and `load(path)`.
KINDS = {
    "CausalLM": ("zoo.text.model", TEXT),
    "MaskedLM": ("zoo.text.encoder", TEXT),
    "Seq2Seq": ("zoo.text.model", TEXT),
    "TextClassifier": ("zoo.text.encoder", TEXT),
    "ProteinLM": ("zoo.protein.model", RESIDUES),
    "ResidueModel": ("zoo.protein.model", RESIDUES),
    "SequenceModel": ("zoo.protein.model", RESIDUES),
    "MaskedAutoencoder": ("zoo.vision.model", VISION),
    "ViT": ("zoo.vision.model", VISION),
}


@dataclass(frozen=True, eq=False)
class Loaded:
    """A trained model: the network in eval mode, the folder's tokenizer (of whatever domain) if it has one, the
    settings as plain values."""

    model: nn.Module
    tokenizer: Any
    config: dict[str, Any]


def load(folder: str | Path, *, checkpoint: str = "best") -> Loaded:
    """The model of a run folder, on the CPU. `checkpoint`: best, last, or a path.

    UserError in one line where the folder, its settings or its weights are not what they should be.
    """
    folder = Path(folder)
    config = read_config(folder)
    kind = getattr(importlib.import_module(KINDS[config["kind"]][0]), config["kind"])
    try:
        model: nn.Module = kind.from_plain(config["settings"])
    except (ValueError, TypeError) as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None
    fill(model, *read_weights(folder, checkpoint))
    tokenizer = tokenizer_of(config["kind"])
    path = folder / tokenizer.filename
    return Loaded(model.eval(), tokenizer.load(path) if path.is_file() else None, config)


def tokenizer_of(kind: str) -> Any:
    """The class that makes tokens of the data of such a network."""
    module, _, name = KINDS[kind][1].rpartition(".")
    return getattr(importlib.import_module(module), name)


def device_of(name: str | None) -> torch.device:
    """The device of that name; by default CUDA where there is one. UserError where it cannot be used."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json, with a kind that exists."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{folder} holds no model (no config.json); train one with 'zoo fit'")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    if not isinstance(config, dict) or not isinstance(config.get("settings"), dict):
        raise UserError(f"{path}: holds no settings of a model")
    if config.get("kind") not in KINDS:
        raise UserError(
            f"{path}: unknown kind of model {config.get('kind')!r}{nearest(str(config.get('kind')), list(KINDS))}"
        )
    return config


def read_weights(folder: Path, checkpoint: str) -> tuple[dict[str, Tensor], Path]:
    """Names and tensors of the network, and their file: model.safetensors, or a training checkpoint."""
    stored = folder / "model.safetensors"
    if stored.is_file() and checkpoint == "best":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(stored), stored
        except (SafetensorError, OSError) as error:
            raise UserError(f"{stored}: not weights that can be opened ({error})") from None
    from zoo.train.checkpoint import find_checkpoint, open_checkpoint

    path = find_checkpoint(folder, checkpoint)
    state = open_checkpoint(path)["state_dict"]
    return {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}, path


@torch.no_grad()
def fill(model: nn.Module, weights: dict[str, Tensor], where: Path) -> None:
    """Weights into a network; UserError names the first that is missing, foreign or of another shape."""
    own = model.state_dict()
    # tied weights are stored once and stand under several names
    names = {value.data_ptr(): name for name, value in own.items() if name in weights}
    for name, value in own.items():
        source = name if name in weights else names.get(value.data_ptr())
        if source is None:
            raise UserError(f"{where}: the weights lack {name!r}")
        if weights[source].shape != value.shape:
            shapes = f"{tuple(weights[source].shape)}, the settings say {tuple(value.shape)}"
            raise UserError(f"{where}: {name!r} has shape {shapes}")
        value.copy_(weights[source])
    if foreign := [name for name in weights if name not in own]:
        raise UserError(f"{where}: the weights hold {foreign[0]!r}, which the model has not")
