"""In which settings two models differ, and what one is made of: text for a reader."""

from collections.abc import Mapping
from typing import Any

ABSENT = "-"


def flat(plain: Any, name: str = "") -> dict[str, Any]:
    """Plain settings by dotted names; the type of a setting stands under its own name."""
    if not isinstance(plain, Mapping):
        return {name: plain}
    if plain.keys() == {"class_path", "init_args"}:
        found = {name: plain["class_path"]}
        plain = plain["init_args"]
    else:
        found = {}
    for key, value in plain.items():
        found |= flat(value, f"{name}.{key}" if name else str(key))
    return found


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings that are not equal, by name: those of `left` and `right`; what one has not is "-"."""
    both = flat(left), flat(right)
    names = dict.fromkeys([*both[0], *both[1]])
    pairs = {name: (both[0].get(name, ABSENT), both[1].get(name, ABSENT)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
