"""Writing models to folders: zoo's own, which `zoo.load` opens, and the published form that they came from."""

import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo.core.network import Network
from zoo.errors import UserError
from zoo.weights.compare import differences
from zoo.weights.families import Given, family_of, published
from zoo.weights.files import UNUSED, whole_folder, write_json, write_tensors
from zoo.weights.load import Loaded, read_settings, tokenizer_of

# What may lie beside published weights and goes with them, byte by byte.
BESIDE = """tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.json merges.txt
vocab.txt spiece.model source.spm target.spm sentencepiece.bpe.model generation_config.json
preprocessor_config.json""".split()


def write(loaded: Loaded, out: Path, beside: Path) -> None:
    """A model as a folder of zoo's own at `out`; `beside`: the folder that it came from.

    UserError where `out` exists or cannot be written: there is a whole folder or none.
    """
    assert isinstance(loaded.model, Network)
    with whole_folder(out) as folder:
        config: dict[str, Any] = loaded.config | {"settings": loaded.model.to_plain()}
        if loaded.origin is not None:
            config["origin"] = loaded.origin.to_plain()
            if loaded.origin.unused:
                write_tensors(folder / UNUSED, loaded.origin.unused)
        write_json(folder / "config.json", config)
        write_tensors(folder / "model.safetensors", untied(loaded.model))
        _copy(beside, folder, loaded.config["kind"])


def write_published(loaded: Loaded, out: Path, beside: Path) -> None:
    """A model as it was published: the same names, types and settings, with the weights that it has now.

    UserError where it was not imported, or has settings that its config.json does not say.
    """
    assert isinstance(loaded.model, Network)
    origin = loaded.origin
    if origin is None:
        raise UserError(f"{beside}: was not imported from published weights: there is no config.json to write it with")
    where = beside / "config.json"
    family = family_of(origin.architecture, where)
    tensors = published(family, loaded.model, origin)
    said = read_settings(family, Given(origin.config, where, tensors), origin.architecture)
    wanted = type(loaded.model)(**said).to_plain()
    if found := differences(wanted, loaded.model.to_plain()):
        name, (theirs, ours) = next(iter(found.items()))
        raise UserError(f"{beside}: {name} is {ours!r}, its published config.json says {theirs!r}")
    with whole_folder(out) as folder:
        write_json(folder / "config.json", origin.config)
        write_tensors(folder / "model.safetensors", tensors)
        _copy(beside, folder, loaded.config["kind"])


def untied(model: Network) -> dict[str, Tensor]:
    """The tensors of a model, those with several names once."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if tensor.numel():
            found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())


def _copy(beside: Path, folder: Path, kind: str) -> None:
    for name in {*BESIDE, tokenizer_of(kind).filename}:
        if (beside / name).is_file():
            shutil.copyfile(beside / name, folder / name)
