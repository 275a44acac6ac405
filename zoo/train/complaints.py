"""What the parser complains about, as one line: which setting, what is wrong with it, what would be right.

jsonargparse reports a tree: a setting of a setting is read by a parser of its own, whose complaint the outer one
quotes. Each parser here says its part in one line ("warmup: expected int, got 'x'"), and the outer puts its own name
before it ("model.schedule.warmup: ...").
"""

import re
from argparse import Action, ArgumentParser
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import yaml

from zoo.errors import UserError, if_yours, nearest

_NOISE = (
    "Does not validate",
    "Subtypes:",
    "Errors:",
    "Given value",
    "Expected a <class 'NoneType'>",
    "Expected a path",
    "Subclass types expect one of",
    "a class path (str)",
    "a dict with",
)
_HELPERS = ("help", "config", "print_config", "print_shtab", "class_path", "init_args")


def one_line(message: str, parser: ArgumentParser | None = None) -> str:
    """The complaint `message` of `parser` in one line."""
    message = re.sub(r"^Call to compute_fn of link .* failed: ", "", message, flags=re.DOTALL)
    options = {o.removeprefix("--"): a for o, a in parser._option_string_actions.items()} if parser else {}
    # the parser of a setting of a setting has no --config, and its names have none beside them
    beside = [*options, *(getattr(parser, "others", ()) if "config" in options else ())]
    if found := re.search(r"unrecognized arguments: --([\w.\-]+)", message, re.IGNORECASE):
        return _unknown(found[1], beside)
    if found := re.search(r"unrecognized arguments: (.*)", message, re.IGNORECASE):
        return f"unknown argument {found[1]!r}: options begin with --"
    if found := re.search(r"Option '([^']+)' is not accepted|Key '([^']+)' is not expected", message):
        return _unknown(found[1] or found[2], beside)
    if found := re.search(r"Group '([^']+)' does not accept option '([^']+)'", message):
        return _unknown(f"{found[1]}.{found[2]}", options)
    if found := re.search(r"arguments? (?:is|are) required: (.*)", message):
        names = found[1].split(", ")
        of_stack = all("." in name for name in names)
        others = " all, or none of them where --init-from names a model that has them" if of_stack else ""
        return f"no {' and no '.join(names)} given; --config FILE names them{others}"
    where = ""
    if found := re.match(r'Parser key "([^"]+)":\s*', message):
        where, message = found[1], message[found.end() :]
    what = _reason(message, where, options)
    if not where:
        return what
    # a complaint about something inside, said by one of our own parsers
    inner = re.match(r"[a-z_][\w.]*: ", what)
    return f"{where}.{what}" if inner else f"{where}: {what}"


def _unknown(key: str, options: Iterable[str]) -> str:
    """A name that is no option: the first part of it that does not exist, and the nearest that does."""
    names = [option.split(".") for option in options]
    parts = key.split(".")
    for depth, part in enumerate(parts):
        below = {n[depth] for n in names if n[:depth] == parts[:depth] and len(n) > depth}
        beside = sorted(name for name in below - {*_HELPERS} if not name.startswith("-"))
        if part not in beside:
            where = ".".join(parts[:depth])
            return f"{where + ': ' if where else ''}unknown setting {part!r}{nearest(part, beside)}"
    return f"{key}: not a setting by itself"


def _reason(message: str, where: str, options: dict[str, Action]) -> str:
    """The part of a complaint that says what is wrong."""
    missing = re.search(r"Problem with given class_path '(([\w.]+)\.\w+)':\s*No module named '([\w.]+)'", message)
    if missing and f"{missing[2]}.".startswith(f"{missing[3]}."):  # and no library that it asks for
        return f"there is no {missing[1]!r}{if_yours(missing[2])}"
    if found := re.search(r"Expected a dot import path string: (\S+)", message):
        hint = nearest(found[1], _choices(options.get(where)))
        return f"there is no {found[1]!r}{hint if hint.startswith('; did') else hint + if_yours()}"
    if found := re.search(r"Import path (\S+) does not correspond to a subclass of (\w+)", message):
        return f"{found[1]!r} is no {found[2]}{nearest(found[1], _choices(options.get(where)))}"
    if found := re.search(
        r"Expected a typing\.Literal\[(.*?)\]\. Got value: (.*?)\s*$", message, re.IGNORECASE | re.MULTILINE
    ):
        choices = [choice.strip().strip("'") for choice in found[1].split(",")]
        return f"{found[2]!r} is not one of {', '.join(choices)}"
    value = re.search(r"(?:Given value|Got value): (.*?)\s*$", message)
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    reasons = [line for line in lines if line and not line.startswith(_NOISE)]
    if not reasons:
        return " ".join(message.split())
    types = [found[1].split(".")[-1] for r in reasons if (found := re.match(r"Expected an? <class '([\w.]+)'>", r))]
    if len(types) == len(reasons):
        return f"expected {' or '.join(dict.fromkeys(types))}" + (f", got {value[1]!r}" if value else "")
    said = [r for r in reasons if not r.startswith("Expected a <class")]
    # of several forms that a value may have, the one that it nearly has says most
    reason = next((r for r in reversed(said) if not r.startswith("Not a valid subclass")), said[-1])
    return reason[0].lower() + reason[1:] if reason.startswith(("Expected", "File", "Unable")) else reason


def _choices(action: Action | None) -> list[str]:
    """Short names of the classes that an option may name."""
    return sorted({c.__name__ for kind in _classes(getattr(action, "_typehint", None)) for c in _below(kind)})


def _classes(hint: Any) -> list[type]:
    if isinstance(hint, type):
        return [hint] if hint is not type(None) else []
    return [kind for part in get_args(hint) for kind in _classes(part)]


def _below(kind: type) -> list[type]:
    return [c for sub in kind.__subclasses__() for c in [sub, *_below(sub)] if not c.__name__.startswith("_")]


def check_file(path: str) -> None:
    """UserError names what is wrong with a file of settings, and the line; OSError where it cannot be read."""
    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"), yaml.SafeLoader)
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {error}") from None
    if root is None:
        raise UserError(f"{path}: empty, expected settings by name")
    if not isinstance(root, yaml.MappingNode):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
        raise UserError(f"{path}: expected settings by name, got {kind}")
    _check_repeats(root, path)


def _check_repeats(node: yaml.Node, path: str) -> None:
    """YAML's reader keeps the last of two equal names and says nothing."""
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _check_repeats(child, path)
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, child in node.value:
            if key.value in seen:
                raise UserError(f"{path}, line {key.start_mark.line + 1}: {key.value!r} is given twice")
            seen.add(key.value)
            _check_repeats(child, path)
