"""`zoo.load`: a trained model from its folder. Nothing it reads can run code or import a module that it names.

Three kinds of folder open:

    ours        config.json ({"kind": "Seq2Seq", "settings": {plain values}}), and checkpoints/*.ckpt (a run) or
                model.safetensors (written by `zoo import`)
    published   config.json and model.safetensors, or shards with their index, as transformers or timm write them
    a hub name  the same, fetched by huggingface_hub

Kinds and architectures are short names that tables resolve (`KINDS` below, `zoo.weights.families.ARCHITECTURES`). A
network of the user's own is of the class that is passed.
"""

import importlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import torch
from torch import Tensor, nn

from zoo.core.init import Undrawn
from zoo.core.network import Network
from zoo.errors import UserError, nearest
from zoo.weights.families import (
    ARCHITECTURES,
    Family,
    Given,
    Origin,
    build,
    check_depth,
    common_type,
    family_of,
    renamed,
    type_name,
)
from zoo.weights.files import INDEX, UNUSED, WEIGHTS, read_file, read_json, read_tensors, verify

N = TypeVar("N", bound=Network)

TEXT = "zoo.text.opening.AnyTokenizer"
MUSIC = "zoo.music.tokens.View"
RESIDUES = "zoo.protein.tokens.Residues"
VISION = "zoo.vision.images.Preprocess"
# Short name of a network: the module it stands in, and what makes its domain's data tokens: an `InFolder` with
# `load(path)`.
KINDS = {
    "Codec": ("zoo.music.codec", MUSIC),
    "MusicLM": ("zoo.music.model", MUSIC),
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
# What reads the files of published weights, where that is another class.
PUBLISHED = {VISION: "zoo.vision.published.PublishedPreprocess"}


@dataclass(frozen=True, eq=False)
class Loaded(Generic[N]):
    """A trained model: the network in eval mode, the folder's tokenizer (of whatever domain) if it has one, the
    settings as plain values, and for published weights where they came from."""

    model: N
    tokenizer: Any
    config: dict[str, Any]
    origin: Origin | None = None


@overload
def load(source: str | Path, *, checkpoint: str = "best") -> Loaded[Network]: ...
@overload
def load(source: str | Path, *, checkpoint: str = "best", kind: type[N]) -> Loaded[N]: ...


def load(source: str | Path, *, checkpoint: str = "best", kind: type[Network] = Network) -> Loaded[Any]:
    """The model of a run folder, a folder of published weights or a hub name, on the CPU, in the type it is stored in.

    `checkpoint`, of a run: best, last, or a path. `kind`: the class that the model must be of, which type checkers then
    know too; a network of your own is opened by it alone, as what its folder names is never imported. UserError in one
    line where the folder, its settings or its weights are not what they should be.
    """
    folder = find(source)
    verify(folder)
    config = read_config(folder, kind)
    if is_own(config):
        loaded = _own(folder, config, checkpoint, kind)
    elif checkpoint != "best":
        raise UserError(f"{folder}: published weights, of which there are no checkpoints: leave --checkpoint unset")
    else:
        loaded = _published(folder, config)
    if not isinstance(loaded.model, kind):
        raise UserError(f"{source} holds a {type(loaded.model).__name__}, expected a {kind.__name__}")
    return loaded


def find(source: str | Path) -> Path:
    """The folder itself, or where the hub's model of that name lies.

    UserError where a path's last part is missing beside runs: who has some in `runs` means no hub by runs/mnits.
    """
    path = Path(source)
    if path.exists() or not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", str(source)):
        return path
    runs = [found.parent.name for found in path.parent.glob("*/checkpoints")]
    if path.parent != Path() and runs:
        raise UserError(f"{source}: no such folder{nearest(path.name, runs)}")
    return fetch(str(source))


def fetch(name: str) -> Path:
    """The folder of a model of the hub, downloaded where it is not at hand; UserError where it cannot be."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        folder = Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model", "*.spm"]))
        if any(folder.glob("*.safetensors")):
            return folder
        raise UserError(
            f"{name}: the hub holds no weights of it as safetensors; pickles (pytorch_model.bin) could run code and "
            "are never fetched: convert them, as transformers' save_pretrained does"
        )
    except HFValidationError:
        reason = "nor a name of the hub"
    except LocalEntryNotFoundError:
        reason = "and the hub cannot be reached (offline?), nor is it in its cache"
    except (HfHubHTTPError, OSError) as error:
        reason = f"and the hub does not give it ({str(error).strip().splitlines()[0]})"
    raise UserError(f"{name}: no such folder, {reason}")


def _own(folder: Path, config: dict[str, Any], checkpoint: str, given: type[Network]) -> Loaded[Network]:
    kind = given if given.__name__ == config["kind"] else class_of(config["kind"])
    try:
        with Undrawn():
            model: Network = kind.from_plain(config["settings"])
    except (ValueError, TypeError) as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None
    weights, where = read_weights(folder, checkpoint)
    fill(model.to(common_type(weights.values())), weights, where)
    origin = None
    if "origin" in config:
        try:
            origin = Origin(**config["origin"])
            family_of(origin.architecture, folder / "config.json")
        except TypeError:
            raise UserError(f"{folder / 'config.json'}: origin holds {config['origin']!r}") from None
        if (folder / UNUSED).is_file():
            origin = replace(origin, unused=read_file(folder / UNUSED))
        writes = writing(folder, origin.config)
        say(writes, told(writes, config["settings"]))
    return Loaded(model.eval(), _tokens(folder, config["kind"], published=origin is not None), config, origin)


def _published(folder: Path, config: dict[str, Any]) -> Loaded[Network]:
    where = folder / "config.json"
    architecture = architecture_of(config, where)
    family = family_of(architecture, where)
    tensors = read_tensors(folder)
    given = Given(config, where, tensors)
    kind = family.kinds[architecture]
    writes = writing(folder, config)
    settings = ending(writes, read_settings(family, given, architecture))
    check_depth(settings, len(tensors), where)
    with torch.device("meta"):  # shapes are compared before anything is allocated
        shapes = build(class_of(kind), settings, where)
    place = folder / (WEIGHTS if (folder / WEIGHTS).is_file() else INDEX)
    ours, unused = renamed(family, shapes, tensors, place)
    with Undrawn():
        model = build(class_of(kind), settings, where)
    fill(model.to(common_type(tensor for name, tensor in tensors.items() if name not in unused)), ours, place)
    say(given, given.notes)
    say(writes, told(writes, settings))
    origin = Origin(architecture, config, {name: type_name(t) for name, t in tensors.items()}, unused)
    plain = {"kind": kind, "settings": model.to_plain()}
    if names := class_names(config, settings.get("classes", 0)):
        plain["classes"] = names
    return Loaded(model.eval(), _tokens(folder, kind, published=True), plain, origin)


# What publishers have `generate` do unless told otherwise, with the values that do nothing (besides null and nothing
# in brackets). Here the verbs are told.
DRAWING: dict[str, tuple[Any, ...]] = {"temperature": (1.0,), "top_k": (0,), "top_p": (1.0,), "min_p": (0.0,)}
DRAWING |= {"top_h": (), "typical_p": (1.0,), "epsilon_cutoff": (0.0,), "eta_cutoff": (0.0,)}  # where it draws at all
HABITS: dict[str, tuple[Any, ...]] = {"no_repeat_ngram_size": (0,), "min_length": (0,), "forced_bos_token_id": ()}
HABITS |= {"bad_words_ids": (), "repetition_penalty": (1.0,), "suppress_tokens": (), "begin_suppress_tokens": ()}
HABITS |= {"encoder_no_repeat_ngram_size": (0,), "encoder_repetition_penalty": (1.0,), "sequence_bias": ()}
HABITS |= {"length_penalty": (1.0,), "num_beams": (1,), "early_stopping": (False, "never"), "num_beam_groups": (1,)}
HABITS |= {"diversity_penalty": (0.0,), "max_length": (20,), "max_new_tokens": (), "min_new_tokens": (0,)}
HABITS |= {"forced_eos_token_id": (), "exponential_decay_length_penalty": (), "guidance_scale": (1.0,)}
HABITS |= {"num_return_sequences": (1,), "do_sample": (False,), "penalty_alpha": (0.0,), "token_healing": (False,)}
HABITS |= DRAWING
# Keys of generation_config.json that change nothing of what is written: tokens that are read elsewhere (those of ends
# apart), who wrote the file, what is returned, how it is computed, and what other models guess to save time.
UNHEARD = frozenset(
    """eos_token_id bos_token_id pad_token_id transformers_version _from_model_config _commit_hash renormalize_logits
    remove_invalid_values use_cache cache_implementation cache_config max_cache_len prefill_chunk_size low_memory
    compile_config disable_compile output_attentions output_hidden_states output_scores output_logits
    return_dict_in_generate is_assistant num_assistant_tokens num_assistant_tokens_schedule
    assistant_confidence_threshold assistant_early_exit assistant_lookbehind target_lookbehind
    prompt_lookup_num_tokens max_matching_ngram_size use_mtp""".split()
)
BESIDE = "generation_config.json"


def writing(folder: Path, config: dict[str, Any]) -> Given:
    """What is published of how a model writes: all of it stands in generation_config.json where there is one, else in
    config.json, as transformers goes by."""
    beside = folder / BESIDE
    return Given(read_json(beside), beside, {}) if beside.is_file() else Given(config, folder / "config.json", {})


def ending(writes: Given, settings: dict[str, Any]) -> dict[str, Any]:
    """A network's arguments with the tokens that end a text by `writing`, where that says some."""
    found = writes.ends(vocab_size=settings["vocab_size"]) if "end" in settings else {"end": None}
    return settings if found["end"] is None else settings | {name: found[name] for name in found if name in settings}


def told(writes: Given, settings: dict[str, Any]) -> list[str]:
    """What is published of how a model writes and zoo, with these settings, does not take on: other tokens that would
    end a text, and habits, in a line each."""
    said, notes = writes.values, []
    ends = said.get("eos_token_id")
    known = [settings.get("end"), *settings.get("ends", ())]
    if "end" in settings and isinstance(ends, list) and any(end not in known for end in ends):
        notes.append(f"eos_token_id {ends}: only {settings['end']} ends a text here")
    taken = {
        "bad_words_ids": [[token] for token in settings.get("unwritten", ())],
        "decoder_start_token_id": settings.get("start", said.get("decoder_start_token_id")),
    }
    names = [*HABITS, *(sorted({*said} - {*HABITS} - UNHEARD) if writes.where.name == BESIDE else [])]
    found = [
        f"{name} {shortened(said[name])}"
        for name in names
        if said.get(name) not in (None, [], {}, *HABITS.get(name, ()), taken.get(name))
        and (name not in DRAWING or said.get("do_sample"))
    ]
    if found:
        what = "a default" if len(found) == 1 else "defaults"
        notes.append(f"{', '.join(found)} ignored: {what} of its generate, not part of the model")
    return notes


def say(given: Given, notes: list[str]) -> None:
    """Notes on what a file says, on stderr."""
    for note in notes:
        print(f"{given.where}: {note}", file=sys.stderr)


def shortened(value: Any, most: int = 60) -> str:
    """A value as it would be written, or how it begins: lists of tokens may be long."""
    whole = repr(value)
    return whole if len(whole) <= most else f"{whole[: most - 3]}..."


def class_names(config: dict[str, Any], count: int) -> list[str]:
    """The names of a classifier's classes in a published config.json, in their order; none unless it names them all."""
    said = config.get("id2label") or config.get("label_names")
    if not isinstance(said, dict | list) or not count:
        return []
    names = dict(enumerate(said)) if isinstance(said, list) else said
    by_number = {str(number): str(name) for number, name in names.items()}
    found = [by_number[str(number)] for number in range(count) if str(number) in by_number]
    return found if len(found) == count else []


def _tokens(folder: Path, kind: str, *, published: bool) -> Any:
    """What makes tokens of a domain's data, from its file in a folder; None where there is none. Of a network of the
    user's own, the file says which domain's it is."""
    makers = (tokenizer_of(name, published=published) for name in ([kind] if kind in KINDS else KINDS))
    found = ((makes, makes.find(folder)) for makes in makers)
    return next((makes.load(path) for makes, path in found if path is not None), None)


def read_settings(family: Family, given: Given, architecture: str) -> dict[str, Any]:
    """A network's arguments from a published config.json; UserError names the key that is not understood."""
    try:
        settings = family.settings(given, architecture)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{given.where}: {error}") from None
    given.finish()
    return settings


def architecture_of(config: dict[str, Any], where: Path) -> Any:
    """The architecture that a published config.json names, of several the first that is known; "timm" for all of
    timm's."""
    if "architecture" in config:
        return "timm"
    named = config.get("architectures")
    if not named:
        raise UserError(f"{where}: names neither a kind of model nor an architecture")
    if not isinstance(named, list):
        return named
    known = [name for name in named if isinstance(name, str) and name in ARCHITECTURES]
    return known[0] if known else named[0] if len(named) == 1 else named


def class_of(kind: str) -> Any:
    """The network of that short name."""
    return getattr(importlib.import_module(KINDS[kind][0]), kind)


def tokenizer_of(kind: str, *, published: bool = False) -> Any:
    """The class that makes tokens of the data of such a network, ours or of published weights."""
    makes = KINDS[kind][1]
    module, _, name = (PUBLISHED.get(makes, makes) if published else makes).rpartition(".")
    return getattr(importlib.import_module(module), name)


def device_of(name: str | None) -> torch.device:
    """The device of that name; by default CUDA where there is one. UserError where it cannot be used."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device


def is_own(config: dict[str, Any]) -> bool:
    """Whether a config.json is of the form that is written here, and not a published one."""
    return "architectures" not in config and "architecture" not in config


def read_config(folder: Path, own: type[Network] = Network) -> dict[str, Any]:
    """A folder's config.json: ours with a kind that exists, or is the user's `own`, or a published one."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{folder} holds no model (no config.json); train one with 'zoo fit'")
    config = read_json(path)
    if not is_own(config):
        return config
    if not isinstance(config.get("settings"), dict):
        raise UserError(f"{path}: holds no settings of a model")
    kind = config.get("kind")
    if kind not in KINDS and kind != own.__name__:
        hint = "a network of your own is opened by its class: zoo.load(FOLDER, kind=CLASS)"
        raise UserError(f"{path}: unknown kind of model {kind!r}{nearest(str(kind), list(KINDS))}; {hint}")
    return config


def read_weights(folder: Path, checkpoint: str) -> tuple[dict[str, Tensor], Path]:
    """Names and tensors of the network, and their file: model.safetensors, or a training checkpoint."""
    if (folder / WEIGHTS).is_file() and checkpoint == "best":
        return read_tensors(folder), folder / WEIGHTS
    from zoo.train.checkpoint import find_checkpoint, network_weights

    path = find_checkpoint(folder, checkpoint)
    return network_weights(path), path


@torch.no_grad()
def fill(model: nn.Module, weights: Mapping[str, Tensor], where: Path) -> None:
    """Weights into a network; UserError names the first that is missing, foreign or of another shape."""
    own = model.state_dict()
    # tied weights are stored once and stand under several names
    names = {value.data_ptr(): name for name, value in own.items() if name in weights}
    for name, value in own.items():
        if not value.numel():
            continue
        source = name if name in weights else names.get(value.data_ptr())
        if source is None:
            raise UserError(f"{where}: the weights lack {name!r}")
        found = weights[source]
        if found.shape != value.shape:
            shapes = f"{tuple(found.shape)}, the settings say {tuple(value.shape)}"
            raise UserError(f"{where}: {name!r} has shape {shapes}")
        value.copy_(found)
    if foreign := [name for name in weights if name not in own]:
        raise UserError(f"{where}: the weights hold {foreign[0]!r}, which the model has not")
