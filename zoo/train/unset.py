"""What files of settings leave unset, where a training begins with another model: that model's own settings, laid below
the files before anything is parsed. And what they set in vain, since a later one names another class.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import _typehints
from jsonargparse._loaders_dumpers import get_yaml_default_loader
from jsonargparse._parameter_resolvers import get_signature_parameters
from jsonargparse._util import import_object

from zoo.train.complaints import check_file
from zoo.train.data import DataModule
from zoo.train.start import Source
from zoo.train.task import Task

Settings = dict[str, Any]


def files_of(args: list[str]) -> list[str]:
    """What stands behind every --config, in order."""
    return _behind(args, ("-c", "--config"))


def read(path: str | Path) -> Settings:
    """The settings of a file, with the numbers that the parser reads; UserError where it holds none."""
    check_file(str(path))
    content: Settings = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=get_yaml_default_loader())
    return content


def class_of(family: type, name: str) -> type | None:
    """The class of a short name or a whole one; None where there is none, which the parser says better."""
    try:
        kind: type = import_object(_typehints.resolve_class_path_by_name(family, name))
    except (ValueError, ImportError, AttributeError):
        return None
    return kind


def lay_below(args: list[str], source: Source, known_of_data: set[str]) -> tuple[list[str], dict[str, Settings]]:
    """The arguments with what their files leave unset laid below, and that by "model" and "data".

    The network is then that of `source`, but for what is `known_of_data`, and the data is cut into the same tokens. A
    section that names another class than the last one says nothing in the end: it is left out, since with it the
    parser would forget what lies below. UserError where a file is none of settings.
    """
    files = [read(file) for file in files_of(args)]
    network = {key: value for key, value in source.settings.items() if key not in known_of_data}
    offers: dict[str, tuple[type, Callable[[Any], Settings]]] = {
        "model": (Task, lambda kind: network),
        "data": (DataModule, lambda kind: kind.like(source.folder) if source.folder is not None else {}),
    }
    below: dict[str, Settings] = {}
    for part, (family, offer) in offers.items():
        typed = [{"class_path": name} for name in _behind(args, (f"--{part}", f"--{part}.class_path"))]
        name, since, given = _stated([*(file.get(part) for file in files), *typed])
        kind = class_of(family, name)
        if kind is None:
            continue
        own = arguments_of(kind)
        taken = {key: value for key, value in offer(kind).items() if key in own and key not in given}
        if taken:
            below[part] = {"class_path": name, "init_args": taken}
            for file in files[:since]:
                file.pop(part, None)
    if not below:
        return args, {}
    laid = ["--config", json.dumps(below, default=str)]
    rest = iter(files)
    words = iter(args)
    for word in words:
        if word in ("-c", "--config"):
            next(words)
        elif not word.startswith(("-c=", "--config=")):
            laid.append(word)
            continue
        laid += ["--config", json.dumps(next(rest), default=str)]
    return laid, {part: section["init_args"] for part, section in below.items()}


def _stated(sections: list[Any]) -> tuple[str, int, set[str]]:
    """What the sections of a part come to: its class, the first section of it, and the arguments that are given."""
    name, since, given = "", 0, set[str]()
    for number, section in enumerate(sections):
        section = {"class_path": section} if isinstance(section, str) else section
        if not isinstance(section, dict):  # nothing, or what the parser refuses
            continue
        now = str(section.get("class_path", name))
        if now.rpartition(".")[2] != name.rpartition(".")[2]:
            name, since, given = now, number, set()
        inner = section.get("init_args")
        given |= set(inner) if isinstance(inner, dict) else set()
    return name, since, given


@dataclass
class _Change:
    """Another class at a place of the settings: the one before, the one now, what had been set of the one before."""

    before: str
    now: str
    names: list[str]


def left_behind(args: list[str]) -> list[str]:
    """What files and options set of a class that a later one replaces, a line for each place of the settings.

    Another class starts from its own defaults, so none of that holds unless it is set again.
    """
    tree: Any = {}
    changes: dict[str, _Change] = {}
    for section in _sections(args):
        tree = _over(tree, section, "", changes)
    said = []
    for where, change in changes.items():
        node = tree
        for key in where.split("."):
            node = _inner(node).get(key)
        lost = [name for name in change.names if name not in _inner(node)]
        if lost and not any(where.startswith(f"{other}.") for other in changes):
            said.append(
                f"{where}: {change.now} in place of {change.before} starts from its own defaults; "
                f"left behind: {', '.join(lost)}"
            )
    return said


def _sections(args: list[str]) -> Iterator[Settings]:
    """What each file and each option of a command line sets, in order, the option's as a file would say it."""
    words = iter(args)
    for word in words:
        name, sign, value = word.partition("=")
        if not name.startswith("-"):
            continue
        value = value if sign else next(words, "")
        if name in ("-c", "--config"):
            yield yaml.safe_load(value) if value.startswith("{") else read(value)
            continue
        plain = value.startswith("{") or value in ("null", "true", "false")
        section: Any = yaml.safe_load(value) if plain else value
        if value.endswith((".yaml", ".yml")) and Path(value).is_file():  # the settings of a part, in a file of its own
            section = read(value)
        for key in reversed(name.lstrip("-").split(".")):
            section = {key: section}
        yield section


def _over(below: Any, above: Any, where: str, changes: dict[str, _Change]) -> Any:
    """Settings laid over others as the parser does it; `changes` gets what another class leaves behind, by place."""
    if isinstance(below, str) and isinstance(above, dict):
        below = {"class_path": below}
    of_class = isinstance(below, dict) and "class_path" in below
    if of_class and isinstance(above, str):
        above = {"class_path": above}
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    if of_class:
        before, now = (str(s.get("class_path", below["class_path"])).rpartition(".")[2] for s in (below, above))
        if before != now:
            names = [name for name, value in _inner(below).items() if value is not None]
            first = changes.setdefault(where, _Change(before, now, []))
            first.now, first.names = now, list(dict.fromkeys([*first.names, *names]))
            return above
        return {"class_path": now, "init_args": _over(_inner(below), _inner(above), where, changes)}
    inside = {k: _over(below.get(k), v, f"{where}.{k}".lstrip("."), changes) for k, v in above.items()}
    return below | inside


def _inner(section: Any) -> Settings:
    """The arguments of a section, which an option says without `init_args`."""
    if not isinstance(section, dict):
        return {}
    inner = section.get("init_args")
    beside = {key: value for key, value in section.items() if key not in ("class_path", "init_args")}
    return beside | (inner if isinstance(inner, dict) else {})


def kept(config: Path) -> dict[str, str]:
    """What a run took its tokens from it has kept: settings that read them in its own folder, by the names of options,
    so that the source may move or go."""
    section = read(config).get("data")
    if not isinstance(section, dict):
        return {}
    kind, given = class_of(DataModule, str(section.get("class_path"))), section.get("init_args") or {}
    found = {} if kind is None else kind.like(config.parent)  # type: ignore[attr-defined]
    return {f"data.{key}": value for key, value in found.items() if isinstance(value, str) and given.get(key)}


def arguments_of(kind: type) -> set[str]:
    """The names of a class's arguments, with those that `**kwargs` hands on to its base: those that can be set."""
    return {parameter.name for parameter in get_signature_parameters(kind, "__init__")}


def as_options(values: dict[str, str]) -> list[str]:
    """Settings by their names as the command line takes them."""
    return [f"--{name}={value}" for name, value in values.items()]


def _behind(args: list[str], names: tuple[str, ...]) -> list[str]:
    """What stands behind each of these options, after a space or a sign of equality."""
    words = [word for arg in args for word in (arg.split("=", 1) if arg.split("=", 1)[0] in names else [arg])]
    return [after for word, after in pairwise(words) if word in names]
