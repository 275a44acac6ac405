"""Published weights of other libraries on zoo's networks: the mechanism. A family is a table of names beside it.

A family says which classes in a `config.json` it knows, which settings they mean, and what each tensor is called there.
Everything else is here: a key of `config.json` that nobody asked for is refused, tensors are renamed and laid out both
ways, and every name and shape is checked before anything is allocated. No class that a file names is imported.
"""

import importlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from einops import rearrange
from torch import Tensor

from zoo.core.config import StackConfig
from zoo.core.feedforward import Activation
from zoo.core.init import fused_rows
from zoo.core.network import Network
from zoo.errors import UserError, nearest

T = TypeVar("T")

# What `architectures` in a config.json may say: the file that knows it. timm's say `architecture`.
ARCHITECTURES = {
    "BartForConditionalGeneration": "bart",
    "BartModel": "bart",
    "BertForMaskedLM": "bert",
    "BertForPreTraining": "bert",
    "BertForSequenceClassification": "bert",
    "DeiTForImageClassification": "deit",
    "DeiTForImageClassificationWithTeacher": "deit",
    "EsmForMaskedLM": "esm2",
    "GPT2ForSequenceClassification": "gpt2",
    "GPT2LMHeadModel": "gpt2",
    "LlamaForCausalLM": "llama",
    "LlamaForSequenceClassification": "llama",
    "MarianMTModel": "marian",
    "MusicgenForCausalLM": "musicgen",
    "MusicgenForConditionalGeneration": "musicgen",
    "T5ForConditionalGeneration": "t5",
    "ViTForImageClassification": "vit",
    "timm": "timm_vit",
}

# The names that published configurations give to activations. The three of tanh differ in rounding alone.
ACTIVATIONS: dict[str, Activation] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}

# Keys of any config.json of transformers that change no number of a forward: who wrote it, in which type, how its own
# code returns results, how weights were drawn, names of classes, and defaults of `generate`, which is told here.
SILENT = frozenset(
    """_name_or_path architectures model_type transformers_version torch_dtype dtype torchscript use_cache return_dict
    return_dict_in_generate output_attentions output_hidden_states output_scores gradient_checkpointing
    initializer_range initializer_factor init_std id2label label2id num_labels _num_labels finetuning_task
    task_specific_params output_past xla_device tokenizer_class prefix bos_token_id sep_token_id forced_bos_token_id
    forced_eos_token_id max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty
    temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size
    encoder_no_repeat_ngram_size bad_words_ids num_return_sequences exponential_decay_length_penalty suppress_tokens
    begin_suppress_tokens remove_invalid_values tf_legacy_loss use_bfloat16 attn_implementation
    _attn_implementation transformers.js_config unsloth_fixed unsloth_version""".split()
)
# Keys whose other values would change what is computed, with the value that does not.
PLAIN = {"chunk_size_feed_forward": 0, "pruned_heads": {}, "is_decoder": False, "add_cross_attention": False}
PLAIN |= {"problem_type": "single_label_classification", "is_encoder_decoder": False, "tie_encoder_decoder": False}


class Given:
    """A config.json as it is read: what is asked for is noted, and `finish` refuses the rest by name and value.

    An absent key, or null, is the default of the library that wrote it: older versions wrote out every key that they
    knew. `stored`: the tensors beside it, which say some things that files of several years say in several ways.
    """

    def __init__(self, values: Mapping[str, Any], where: Path, stored: Mapping[str, Tensor]):
        self.values, self.where, self.stored = values, where, stored
        self.asked: set[str] = set()
        self.notes: list[str] = []  # settings that act in training alone and that zoo has not

    def take(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        value = self.values.get(name)
        return default if value is None else value

    def whole(self, name: str, default: int | None = None) -> int:
        value = self.take(name, default)
        if type(value) is not int:
            raise self.refused(name, "a whole number is needed")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self.take(name, default)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise self.refused(name, "a number is needed")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.take(name, default)
        if type(value) is not bool:
            raise self.refused(name, "true or false is needed")
        return value

    def choice(self, name: str, choices: Mapping[str, T], default: str) -> T:
        value = self.take(name, default)
        if not isinstance(value, str) or value not in choices:
            raise self.refused(name, f"known are {', '.join(choices)}")
        return choices[value]

    def classes(self) -> int:
        """How many classes a classifier has: two unless the file names them. UserError where it gives a value."""
        labels = self.take("id2label")
        if not isinstance(labels, dict | list | None):
            raise self.refused("id2label", "names of classes by their numbers are needed")
        count = self.whole("num_labels", 2) if labels is None else len(labels)
        if count < 2:
            raise UserError(f"{self.where}: a head of {count} output gives a value, and no class: it is not supported")
        return count

    def within(self, name: str) -> "Given":
        """The settings that stand under a name, read and refused like these."""
        values = self.take(name, {})
        if not isinstance(values, dict):
            raise self.refused(name, "settings by name are needed")
        return Given(values, self.where, self.stored)

    def token(self, name: str, default: int | None = None) -> int | None:
        """The id of a token, the first where there are several, or None where neither file nor library has one."""
        value = self.take(name, default)
        if isinstance(value, list) and value:
            value = value[0]
        if value is not None and type(value) is not int:
            raise self.refused(name, "the id of a token is needed")
        return value

    def ends(self, default: int | None = None, vocab_size: int | None = None) -> dict[str, Any]:
        """The tokens that end a text, as arguments of what writes: the first, which goes on where a text has ended, and
        all of them, so that a training on texts of another end knows the first too. Those beyond the vocabulary, which
        are never written, are left out if there are others."""
        end, said = self.token("eos_token_id", default), self.values.get("eos_token_id")
        every = said if isinstance(said, list) else [] if end is None else [end]
        if any(type(one) is not int for one in every):
            raise self.refused("eos_token_id", "ids of tokens are needed")
        size = self.values.get("vocab_size", math.inf) if vocab_size is None else vocab_size
        every = list(dict.fromkeys(every))
        every = [one for one in every if 0 <= one < size] or every
        return {"end": every[0] if every else end, "ends": tuple(every)}

    def only(self, **values: Any) -> None:
        """Settings that zoo has with one value alone."""
        for name, value in values.items():
            if self.take(name, value) != value:
                raise self.refused(name, f"only {value!r} is supported")

    def training(self, **values: Any) -> None:
        """Settings of training that zoo has with one value alone: others change no output, and are told."""
        for name, value in values.items():
            if (found := self.take(name, value)) != value:
                self.notes.append(f"{name} {found!r} acts in training alone and has no counterpart here")

    def silent(self, *names: str) -> None:
        """Keys that change no output."""
        self.asked |= set(names)

    def refused(self, name: str, reason: str) -> UserError:
        return UserError(f"{self.where}: {name} {self.values.get(name)!r} is not supported: {reason}")

    def finish(self) -> None:
        for name, value in self.values.items():
            if value is None or name in self.asked or name in SILENT:
                continue
            if name not in PLAIN:
                raise UserError(f"{self.where}: unknown setting {name} {value!r}; it may change what is computed")
            if value != PLAIN[name]:
                raise self.refused(name, f"only {PLAIN[name]!r} is")


# What weights may be stored in.
NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# -- names ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """How theirs hold one tensor of ours: in `names`, one after the other along our first axis.

    `laid`: an einops pattern from the axes of theirs to ours, with its `axes`; a module's bias lies as it is. `rows`:
    of ours for each name, where they are not equally many and no fused projection tells.
    """

    names: tuple[str, ...]
    laid: str = ""
    axes: Mapping[str, int] = field(default_factory=dict)
    rows: tuple[int, ...] = ()

    def join(self, pieces: Sequence[Tensor]) -> Tensor:
        if self.laid:
            pieces = [rearrange(piece, self.laid, **self.axes) for piece in pieces]
        return torch.cat(tuple(pieces)) if len(pieces) > 1 else pieces[0]

    def split(self, whole: Tensor) -> list[Tensor]:
        pieces = list(whole.split(self.rows or [len(whole) // len(self.names)] * len(self.names)))
        if not self.laid:
            return pieces
        theirs, ours = self.laid.split(" -> ")
        return [rearrange(piece, f"{ours} -> {theirs}", **self.axes) for piece in pieces]


def joined(*names: str) -> Held:
    """Several tensors of theirs, one after the other."""
    return Held(names)


def laid(*names: str, pattern: str, rows: tuple[int, ...] = (), **axes: int) -> Held:
    """Tensors of theirs with their axes in another order."""
    return Held(names, pattern, axes, rows)


@dataclass(frozen=True)
class Either:
    """A tensor with several names, of which at least one is stored; where several are, they must be equal."""

    names: tuple[str, ...]

    def __init__(self, *names: str):
        object.__setattr__(self, "names", names)


# Names of modules, whose weight and bias follow, or of tensors; "{}" stands for the numbers in ours, in order.
Table = Mapping[str, str | Held | Either]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A published architecture: what its `config.json` means, and what its tensors are called.

    `kinds`: classes that `architectures` may name, and the network of zoo that each is. `settings(given, class)`: the
    network's arguments. `names(network)`: the table, ours to theirs. `prefix`: stands before the names of the whole
    model, and is missing where only its inner part was stored. `unused`: patterns of tensors that no output depends on,
    `by_token`: of those that have a row for each token. `sizes`: which key says how large what can be resized is
    ("vocabulary", "positions", "image"; "targets": the vocabulary that is written, where it may be another).
    """

    kinds: Mapping[str, str]
    settings: Callable[[Given, str], dict[str, Any]]
    names: Callable[[Network], Table]
    prefix: str = ""
    unused: tuple[str, ...] = ()
    by_token: tuple[str, ...] = ()
    sizes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Origin:
    """Where published weights came from: what is needed to write them back as they were."""

    architecture: str
    config: dict[str, Any]  # theirs, as it was
    types: dict[str, str]  # each stored tensor and its type of numbers
    unused: dict[str, Tensor] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        return {"architecture": self.architecture, "config": self.config, "types": self.types}


def family_of(architecture: Any, where: Path) -> Family:
    """UserError where nobody knows it."""
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise UserError(f"{where}: unknown architecture {architecture!r}{nearest(str(architecture), [*ARCHITECTURES])}")
    family: Family = importlib.import_module(f"zoo.weights.{ARCHITECTURES[architecture]}").FAMILY
    return family


@dataclass(frozen=True)
class _Slot:
    """A tensor of ours, with one way in which theirs hold it."""

    ours: str
    row: Held


def _slots(family: Family, network: Network) -> dict[int, list[_Slot]]:
    """By tensor (tied ones are one): all the ways in which it may be stored."""
    table = family.names(network)
    fused = {
        f"{name}.{inner}": tuple(rows)
        for name, part in network.named_modules()
        for inner, child in part.named_children()
        for linear, rows in fused_rows(part)
        if child is linear
    }
    slots: dict[int, list[_Slot]] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        numbers = re.findall(r"(?<=\.)\d+(?=\.|$)", name)
        general = re.sub(r"(?<=\.)\d+(?=\.|$)", "{}", name)
        if not tensor.numel():  # a token that this model has not
            continue
        own, _, leaf = name.rpartition(".")
        value = table.get(general, table.get(general.removesuffix(f".{leaf}"), table.get(own)))
        if value is None:
            raise LookupError(f"no name in the table for {name}")
        end = "" if general in table else f".{leaf}"
        match value:
            case str():
                ways = [Held((value,))]
            case Either():
                ways = [Held((n,)) for n in value.names]
            case Held():
                ways = [Held(value.names) if end == ".bias" else value]
        for way in ways:
            rows = fused.get(own, ()) if len(way.names) > 1 and not way.rows else way.rows
            full = tuple(n.format(*numbers) + end for n in way.names)
            slots.setdefault(id(tensor), []).append(_Slot(name, replace(way, names=full, rows=rows)))
    return slots


def _spellings(name: str, family: Family) -> list[str]:
    """How a tensor may be called in a file: as the table says, without the prefix, with norms' names of old."""
    names = [name]
    if family.prefix and name.startswith(family.prefix):
        names.append(name.removeprefix(family.prefix))
    old = [re.sub(r"\.weight$", ".gamma", re.sub(r"\.bias$", ".beta", n)) for n in names if "LayerNorm" in n]
    return names + old


class Joined(Mapping[str, Tensor]):
    """Tensors by our names, each put together when it is asked for: all at once would be as much memory again."""

    def __init__(self) -> None:
        self.parts: dict[str, tuple[Held, list[Tensor]]] = {}

    def __getitem__(self, name: str) -> Tensor:
        row, tensors = self.parts[name]
        return row.join(tensors)

    def __contains__(self, name: object) -> bool:
        return name in self.parts

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)


def renamed(
    family: Family, network: Network, stored: Mapping[str, Tensor], where: Path
) -> tuple[Mapping[str, Tensor], dict[str, Tensor]]:
    """Tensors by our names, and those that no output depends on. `network` may live on the meta device.

    UserError names the tensor that is missing, foreign, of another shape, or tied and different.
    """
    ours = Joined()
    used: set[str] = set()
    shapes = network.state_dict()
    for ways in _slots(family, network).values():
        held: list[tuple[_Slot, list[Tensor], str]] = []
        for slot in ways:
            expected = slot.row.split(shapes[slot.ours])
            names = [next((s for s in _spellings(n, family) if s in stored), n) for n in slot.row.names]
            if any(name not in stored for name in names):
                continue
            for name, piece in zip(names, expected, strict=True):
                if stored[name].dtype not in NUMBERS:
                    raise UserError(f"{where}: {name!r} holds {type_name(stored[name])}, which no weights are here")
                if stored[name].shape != piece.shape:
                    raise UserError(
                        f"{where}: {name!r} has shape {tuple(stored[name].shape)}, config.json says "
                        f"{tuple(piece.shape)}"
                    )
            held.append((slot, [stored[name] for name in names], names[0]))
            used.update(names)
        if not held:
            missing = next(n for slot in ways for n in slot.row.names if not {*_spellings(n, family)} & {*stored})
            raise UserError(f"{where}: lacks {missing!r}")
        first, tensors, name = held[0]
        for _, others, other in held[1:]:
            if not all(map(torch.equal, tensors, others)):
                raise UserError(f"{where}: {name!r} and {other!r} differ, but config.json says that they are one")
        ours.parts[first.ours] = (first.row, tensors)
    left = {name: tensor for name, tensor in stored.items() if name not in used}
    for name in left:
        if not any(re.fullmatch(pattern, name.removeprefix(family.prefix)) for pattern in family.unused):
            raise UserError(f"{where}: holds {name!r}, which a model of this config.json has not")
    return ours, left


def stored_names(family: Family, network: Network) -> list[str]:
    """What a network's tensors are called where its family stores them, each by one name; LookupError for a tensor that
    the family has not."""
    return [name for ways in _slots(family, network).values() for name in ways[0].row.names]


@torch.no_grad()
def published(family: Family, network: Network, origin: Origin) -> dict[str, Tensor]:
    """The tensors of a network by their names, as `origin` had them: same names, same types."""
    every: dict[str, Tensor] = dict(origin.unused)
    state = network.state_dict()
    for ways in _slots(family, network).values():
        for slot in ways:
            pieces = slot.row.split(state[slot.ours])
            every |= {s: p for n, p in zip(slot.row.names, pieces, strict=True) for s in _spellings(n, family)}
    return {name: every[name].to(getattr(torch, kind), copy=True) for name, kind in origin.types.items()}


def type_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def common_type(tensors: Iterable[Tensor]) -> torch.dtype:
    """The narrowest type that holds all of these exactly; float32 where there are none."""
    kinds = {t.dtype for t in tensors if t.is_floating_point()}
    found = kinds.pop() if kinds else torch.float32
    for kind in kinds:
        found = torch.promote_types(found, kind)
    return found


def build(kind: type[Network], settings: Mapping[str, Any], where: Path) -> Network:
    """The network; UserError where its settings make none."""
    try:
        return kind(**settings)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise UserError(f"{where}: {str(error).splitlines()[0]}") from None


def check_depth(settings: Mapping[str, Any], tensors: int, where: Path) -> None:
    """UserError where there are more blocks than tensors, before anyone sets out to build them."""
    depth = max(value.depth for value in settings.values() if isinstance(value, StackConfig))
    if depth > tensors:
        raise UserError(f"{where}: {depth} blocks, but the weights are {tensors} tensors")
