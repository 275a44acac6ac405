"""Writing models to folders: zoo's own, which `zoo.load` opens, and the published form that they came from."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.core.network import Network
from zoo.errors import UserError
from zoo.text.tokens import FILES
from zoo.vision.images import Preprocess
from zoo.vision.published import publish_size
from zoo.weights.compare import differences
from zoo.weights.families import Given, Origin, common_type, family_of, published, stored_names, type_name
from zoo.weights.files import UNUSED, whole_folder, write_json, write_tensors
from zoo.weights.load import KINDS, Loaded, class_of, ending, read_settings, tokenizer_of, writing

# What may lie beside published weights and goes with them, byte by byte, like the tokenizers of texts (FILES).
BESIDE = """added_tokens.json merges.txt vocab.txt sentencepiece.bpe.model generation_config.json
preprocessor_config.json""".split()

# Settings that change no output of a trained model.
TRAINING = ("dropout", "attention_dropout", "drop_path", "init")
WRITING = ("unwritten",)  # what the search leaves out is said elsewhere, if anywhere
STOPS = ("ends",)  # where writing stops, computes nothing
# a language model that sees a text whole computes the same, whatever texts begin and end with
ENDS = ("start", "end")


def save(model: Network, folder: str | Path, tokenizer: Any = None, *, classes: Sequence[str] = ()) -> None:
    """A model as a folder that `zoo.load` opens: its settings, its weights, and what makes tokens of its domain's data
    (a tokenizer, a view of music, how pictures are prepared), if given.

    `classes`: the names of a classifier's. UserError where the folder exists or cannot be written (there is a whole
    folder or none), and for a network of your own that has the name of one of zoo's.
    """
    kind = type(model).__name__
    if kind in KINDS and type(model) is not class_of(kind):
        raise UserError(f"zoo.load would take this {kind} for zoo's own: give your class another name")
    config = {"kind": kind, "settings": model.to_plain()} | ({"classes": list(classes)} if classes else {})
    with whole_folder(Path(folder)) as out:
        write_json(out / "config.json", config)
        write_tensors(out / "model.safetensors", untied(model))
        if tokenizer is not None:
            tokenizer.save(out)


def write(loaded: Loaded[Network], out: Path, beside: Path) -> None:
    """A model as a folder of zoo's own at `out`; `beside`: the folder that it came from.

    UserError where `out` exists or cannot be written: there is a whole folder or none.
    """
    with whole_folder(out) as folder:
        config: dict[str, Any] = loaded.config | {"settings": loaded.model.to_plain()}
        if loaded.origin is not None:
            config["origin"] = loaded.origin.to_plain()
            if loaded.origin.unused:
                write_tensors(folder / UNUSED, loaded.origin.unused)
        write_json(folder / "config.json", config)
        write_tensors(folder / "model.safetensors", untied(loaded.model))
        _copy(beside, folder, loaded.config["kind"])
        if isinstance(loaded.tokenizer, Preprocess) and (folder / Preprocess.filename).is_file():
            loaded.tokenizer.save(folder)  # of another size, where the network was resized


def alike(loaded: Loaded[Network], like: Loaded[Network], where: Path) -> Loaded[Network]:
    """A model that was trained here, as if it came from where `like` did: what began with published weights goes back
    to their form, of another class of their family where it is of another kind.

    UserError where `like` was not published, or its family has no such class.
    """
    if like.origin is None:
        raise UserError(f"{where}: was not imported from published weights either")
    family, kind = family_of(like.origin.architecture, where), loaded.config["kind"]
    config, types = like.origin.config, like.origin.types
    classes = [name for name, theirs in family.kinds.items() if theirs == kind]
    if not classes:
        raise UserError(f"{where}: no {like.origin.architecture} or its like is a {kind}")
    architecture = like.origin.architecture if like.origin.architecture in classes else classes[0]
    if architecture != like.origin.architecture:
        config = config | {"architectures": [architecture]}
    if names := loaded.config.get("classes"):
        labels = {str(number): name for number, name in enumerate(names)}
        config = config | {"id2label": labels, "label2id": {name: int(number) for number, name in labels.items()}}
    if kind == "TextClassifier" and config.get("pad_token_id") is None:  # by it theirs finds where a text ends
        tokens = loaded.tokenizer
        pad = tokens.pad if tokens is not None and tokens.has("pad") else Given(config, where, {}).token("eos_token_id")
        config = config | {"pad_token_id": pad}
    # text carries its own tokenizer over; pictures are prepared as the published folder says
    if is_dataclass(loaded.tokenizer) and loaded.tokenizer != like.tokenizer:
        raise UserError(f"{where}: prepares its pictures otherwise than the model was trained on ({loaded.tokenizer})")
    common = type_name(torch.empty(0, dtype=common_type(like.model.parameters())))
    try:
        stored = {name: types.get(name, common) for name in stored_names(family, loaded.model)}
    except LookupError as error:
        raise UserError(f"{where}: a {architecture} cannot say this model ({error})") from None
    unused: dict[str, Tensor] = {}
    if architecture == like.origin.architecture:  # which has places for what no output of ours depends on
        unused = like.origin.unused
        stored |= {name: types[name] for name in unused}
    return replace(loaded, origin=Origin(architecture, config, stored, unused))


def write_published(loaded: Loaded[Network], out: Path, beside: Path, tokens: Path | None = None) -> None:
    """A model as it was published: the same names, types and settings, with the weights that it has now.

    What lies in `beside`, and over it in `tokens`, goes with it. UserError where it was not imported, or has settings
    that its config.json does not say.
    """
    origin = loaded.origin
    if origin is None:
        raise UserError(
            f"{beside}: was not imported from published weights, so that there is no config.json to write it with; "
            "--like names a model that has one"
        )
    where = beside / "config.json"
    family = family_of(origin.architecture, where)
    tensors = published(family, loaded.model, origin)
    said = read_settings(family, Given(origin.config, where, tensors), origin.architecture)
    said = ending(writing(beside, origin.config), said)
    wanted: Any = type(loaded.model)(**said)
    notes: list[str] = []
    for name, (theirs, ours) in differences(wanted.to_plain(), loaded.model.to_plain()).items():
        if name.rpartition(".")[2] in TRAINING:
            notes.append(f"{name} was {ours!r} and is written as {theirs!r}: it acts in training")
            continue
        if name in WRITING or (name in STOPS and set(wanted.stops) == set(loaded.model.stops)):
            continue
        if name in STOPS or (name in ENDS and loaded.config["kind"] == "CausalLM"):
            notes.append(f"{name} was {ours!r} and is written as {theirs!r}: it acts in generating")
            continue
        raise UserError(f"{beside}: {name} is {ours!r}, its published config.json says {theirs!r}")
    if prefix := loaded.config.get("prefix"):
        notes.append(f"no config.json says that {prefix!r} stands before every text: put it there")
    for note in notes:
        print(f"{out}: {note}", file=sys.stderr)
    with whole_folder(out) as folder:
        write_json(folder / "config.json", origin.config)
        write_tensors(folder / "model.safetensors", tensors)
        for source in (beside, tokens or beside):
            _copy(source, folder, loaded.config["kind"])
        if isinstance(loaded.tokenizer, Preprocess):
            publish_size(folder, loaded.tokenizer.size)


def untied(model: Network) -> dict[str, Tensor]:
    """The tensors of a model, those with several names once."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if tensor.numel():
            found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())


def _copy(beside: Path, folder: Path, kind: str) -> None:
    for name in {*BESIDE, *FILES, tokenizer_of(kind).filename}:
        if (beside / name).is_file():
            shutil.copyfile(beside / name, folder / name)
