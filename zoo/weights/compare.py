"""Models as text: in which settings two differ, and what one is made of.

What is described is a model folder, published or zoo's own, or one of the architectures of configs/arch by its name or
the beginning of it.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.core import Stack, StackConfig
from zoo.errors import UserError, nearest
from zoo.weights.load import class_of, find, is_own, load, read_config

ABSENT = "-"
# Where architectures lie: of the folder one works in, of a checkout, of an installation.
SHELVES = (
    Path("configs/arch"),
    Path(__file__).parents[2] / "configs" / "arch",
    Path(sys.prefix) / "share" / "zoo" / "configs" / "arch",
)


@dataclass(frozen=True, eq=False)
class Described:
    """`stacks`: by their names; `others`: all settings beside them; `modules`: built, with or without weights."""

    name: str
    stacks: dict[str, StackConfig]
    others: dict[str, Any]
    modules: nn.Module


def describe(name: str) -> Described:
    """UserError where nothing of this name is found."""
    if Path(name).is_dir() or "/" in name:
        return _model(name)
    shelf = next((folder for folder in SHELVES if folder.is_dir()), None)
    found = {} if shelf is None else {path.stem: path for path in sorted(shelf.glob("*.yaml"))}
    begin = [stem for stem in found if stem == name] or [stem for stem in found if stem.startswith(name)]
    if len(begin) > 1:
        raise UserError(f"{name!r} may be any of {', '.join(begin)}")
    if not begin:
        where = "no folder of architectures was found" if shelf is None else f"{shelf} holds none"
        raise UserError(f"{name!r} is no model folder, and {where} of this name{nearest(name, list(found))}")
    return _architecture(found[begin[0]])


def _architecture(path: Path) -> Described:
    import yaml

    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
        stacks = {role: StackConfig.from_plain(values, role) for role, values in plain.items()}
    except (ValueError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not an architecture ({' '.join(str(error).split())})") from None
    with torch.device("meta"):
        modules = nn.ModuleDict({role: Stack(config) for role, config in stacks.items()})
    return Described(path.stem, stacks, {}, modules)


def _model(name: str) -> Described:
    folder = find(name)
    config = read_config(folder)
    if is_own(config):  # its settings say it all: no weights are needed
        try:
            with torch.device("meta"):
                model = class_of(config["kind"]).from_plain(config["settings"])
        except (ValueError, TypeError) as error:
            raise UserError(f"{folder / 'config.json'}: {error}") from None
    else:
        model = load(folder).model
    stacks = {role: value for role, value in model.settings.items() if isinstance(value, StackConfig)}
    others = {role: value for role, value in model.to_plain().items() if role not in stacks}
    if "ends" in others:  # whether it holds `end` or not
        others["ends"] = sorted(model.stops)
    return Described(name, stacks, {"kind": type(model).__name__} | others, model)


# -- differences -------------------------------------------------------------------------------------------------------


def flat(plain: Any, name: str = "") -> dict[str, Any]:
    """Plain settings by dotted names; the type of a setting stands under its own name."""
    if not isinstance(plain, Mapping):
        return {name: plain}
    found = {}
    if plain.keys() == {"class_path", "init_args"}:
        found[name] = plain["class_path"]
        plain = plain["init_args"]
    for key, value in plain.items():
        found |= flat(value, f"{name}.{key}" if name else str(key))
    return found


def side_by_side(*plain: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """All settings by name, a value of each; what one has not is "-"."""
    every = [flat(settings) for settings in plain]
    names = dict.fromkeys(name for settings in every for name in settings)
    return {name: tuple(settings.get(name, ABSENT) for settings in every) for name in names}


def differences(*plain: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The settings that are not equal in all."""
    return {name: row for name, row in side_by_side(*plain).items() if any(value != row[0] for value in row)}


def compare(left: Described, right: Described) -> str:
    """The differences of two models as a table. Stacks of the same name are compared, or each with each."""
    if left.stacks.keys() == right.stacks.keys():
        pairs = [(name, name) for name in left.stacks]
    else:
        pairs = [(a, b) for a in left.stacks for b in right.stacks]
    parts = []
    if left.others and right.others:
        parts.append(("", differences(left.others, right.others)))
    for a, b in pairs:
        found = differences(left.stacks[a].to_plain(), right.stacks[b].to_plain())
        parts.append((a if a == b else f"{a}, {b}", found))
    rows = [("setting", left.name, right.name)]
    for title, found in parts:
        if title:
            rows.append((f"[{title}]", "", ""))
        rows += [(name, shown(a), shown(b)) for name, (a, b) in found.items()] or [("no difference", "", "")]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def shown(value: Any) -> str:
    """A setting's value, for a reader."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else ABSENT if value is None else str(value)


# -- anatomy -----------------------------------------------------------------------------------------------------------


Row = tuple[str, str, str, str]  # the tree, shapes, a count of parameters, what it is


def anatomy(described: Described) -> str:
    """A model drawn as a tree: each part with the shapes and the count of its parameters; equal blocks once."""
    module = described.modules
    what = "" if type(module) is nn.ModuleDict else _title(module)
    rows = [(described.name, "", _count(module), what), *_branches(module, "", "", {})]
    wide = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c:>{wide[2]}}  {d}".rstrip() for a, b, c, d in rows)


def _branches(module: nn.Module, path: str, indent: str, seen: dict[int, str]) -> Iterator[Row]:
    """The parts of a module; `seen`: the parameters that were drawn, with their places."""
    parts: list[tuple[str, nn.Module | nn.Parameter]] = [*module.named_parameters(recurse=False)]
    children = [(name, child) for name, child in module.named_children() if _tells(child)]
    parts += _once(children) if isinstance(module, nn.ModuleList) else children
    for i, (name, part) in enumerate(parts):
        corner, below = ("└─ ", "   ") if i + 1 == len(parts) else ("├─ ", "│  ")
        where = f"{path}.{name}" if path else name
        if isinstance(part, nn.Module) and (list(part.children()) or len(list(part.parameters())) > 2):
            yield f"{indent}{corner}{name}", "", _count(part), _title(part)
            yield from _branches(part, where, indent + below, seen)
            continue
        # a tensor, or a layer on one line: its weight, and its bias behind it
        own = [("weight", part)] if isinstance(part, nn.Parameter) else [*part.named_parameters()]
        shapes = " + ".join(_shape(p) if leaf == "weight" else leaf for leaf, p in own)
        known = [seen[id(p)] for _, p in own if id(p) in seen]
        count = sum(p.numel() for _, p in own if id(p) not in seen)
        seen |= {id(p): where for _, p in own if id(p) not in seen}
        what = [_title(part)] if isinstance(part, nn.Module) else []
        what += [f"the weight of {place}" for place in known]
        yield f"{indent}{corner}{name}", shapes, f"{count:,}" if count else "", ", ".join(what)


def _count(module: nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()):,}"


def _once(parts: list[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    """Neighbours that are alike, as one by the range of their numbers."""
    groups: list[tuple[str, str, nn.Module, Any]] = []
    for name, part in parts:
        form = [(n, tuple(p.shape)) for n, p in part.named_parameters()]
        if groups and groups[-1][3] == form:
            groups[-1] = (groups[-1][0], name, part, form)
        else:
            groups.append((name, name, part, form))
    return [(a if a == b else f"{a} to {b}, each", part) for a, b, part, _ in groups]


def _tells(module: nn.Module) -> bool:
    """Whether a part has weights, or settings of its own to show."""
    return any(True for _ in module.parameters()) or (
        not isinstance(module, nn.Identity | nn.Dropout) and bool(module.extra_repr())
    )


def _shape(p: torch.Tensor) -> str:
    return " x ".join(f"{size:,}" for size in p.shape)


def _title(module: nn.Module) -> str:
    """The kind of a module; of a stack its size, of what is not torch's own its settings."""
    config = getattr(module, "config", None)
    if isinstance(config, StackConfig):
        heads = f"{config.heads} heads of {config.head_width}"
        keys = "" if config.key_heads == config.heads else f", {config.key_heads} of keys"
        ways = f"{', causal' * config.causal}{', cross' * config.cross}, {config.norm_order}-norm"
        return f"{config.depth} blocks of width {config.dim:,}, {heads}{keys}{ways}"
    if isinstance(module, nn.LayerNorm):
        return f"LayerNorm(eps={module.eps})"
    name, own = type(module).__name__, module.extra_repr()
    return name if not own or isinstance(module, nn.Linear | nn.Embedding) else f"{name}({own})"
