"""Settings: the choices of which a stack is made.

A choice with parameters of its own is a *type*, not a flag with satellites: `position=Rotary(theta=1e4)`,
`norm=RMSNorm(eps=1e-6)`. Such a type is a frozen dataclass below one of the families (Position, Norm, FeedForward,
Mixer, Scale). It stands in the file of the module that it builds, knows how many parameters that will have, and is
registered by being written.

As plain values (JSON, YAML) a setting is `{"class_path": "Rotary", "init_args": {"theta": 10000.0}}`, the form of
Lightning's command line; `"Rotary"` alone means the defaults. Names are looked up among the types that exist here and
are never imported, so that reading a configuration can run no code: a type of one's own must have been imported
before (`zoo --import MODULE ...`).
"""

import dataclasses
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from zoo.errors import if_yours, nearest

T = TypeVar("T")


class Setting:
    """Base of the families. A family is a direct subclass; its `choices` are the types below it, by short name.

    `abstract`: what several types share, and no choice itself. ValueError for a second type of a name that another
    module has given: files that say it would mean something else.
    """

    choices: ClassVar[dict[str, type["Setting"]]]

    def __init_subclass__(cls, *, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Setting in cls.__bases__:
            cls.choices = {}
        elif not abstract:
            before = cls.choices.get(cls.__name__)
            if before is not None and before.__module__ != cls.__module__:
                raise ValueError(f"{cls.__name__} is a choice of {before.__module__} already: give yours another name")
            cls.choices[cls.__name__] = cls

    def __post_init__(self) -> None:
        """What a type with checks of its own calls first."""
        check_kinds(self)

    @classmethod
    def from_plain(cls, value: Any, where: str = "") -> Self:
        """The setting of this family that plain values describe; ValueError names `where` and the nearest choice."""
        if isinstance(value, cls):
            return value
        where = where or cls.__name__.lower()
        if isinstance(value, str):
            value = {"class_path": value}
        if not isinstance(value, Mapping) or not isinstance(value.get("class_path"), str):
            raise ValueError(f"{where}: expected one of {', '.join(sorted(cls.choices))}, got {value!r}")
        check_names(value, ["class_path", "init_args"], where)
        name = value["class_path"]
        if name not in cls.choices:
            raise ValueError(f"{where}: unknown {cls.__name__} {name!r}{nearest(name, list(cls.choices))}{if_yours()}")
        kind = cls.choices[name]
        built = read(kind, value.get("init_args") or {}, where)
        assert isinstance(built, cls)
        return built


def check_names(given: Mapping[str, Any], allowed: list[str], where: str) -> None:
    """Refuse a key that does not exist, with the nearest one that does."""
    for name in given:
        if name not in allowed:
            raise ValueError(f"{where}: unknown setting {name!r}{nearest(str(name), allowed)}")


def check_kinds(settings: Any) -> None:
    """ValueError where a field that takes a setting holds something else (its name, its class, a flag), and where one
    that takes one of several words holds another."""
    for field in dataclasses.fields(settings):
        kind, value = field.type, getattr(settings, field.name)
        if get_origin(kind) is Literal:
            _value(kind, value, field.name)
        if not isinstance(kind, type) or isinstance(value, kind):
            continue
        if issubclass(kind, Setting):
            named = value.__name__ if isinstance(value, type) else value
            example = (
                named
                if isinstance(named, str) and named in kind.choices
                else min(name for name, choice in kind.choices.items() if issubclass(choice, kind))
            )
        elif dataclasses.is_dataclass(kind):
            example = kind.__name__
        else:
            continue
        raise ValueError(f"{field.name}: expected an object as {example}(...), got {value!r}; from_plain reads names")


def read(kind: Callable[..., T], values: Any, where: str) -> T:
    """Call `kind` (a dataclass, a module) with arguments given as plain values, checking names and types on the way."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{where}: expected settings by name, got {values!r}")
    parameters = inspect.signature(kind).parameters
    check_names(values, list(parameters), where)
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in values:
            raise ValueError(f"{where}: {name!r} is missing")
    hints = get_type_hints(kind.__init__)
    return kind(**{name: _value(hints[name], value, f"{where}.{name}") for name, value in values.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        kinds = [a for a in get_args(hint) if a is not type(None)]
        return _first_that_fits(kinds, value, where)
    if get_origin(hint) in (tuple, list):  # any number of values of one type
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{where}: expected a list, got {value!r}")
        items = (_value(get_args(hint)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        return get_origin(hint)(items)
    if get_origin(hint) is dict:  # by name
        if not isinstance(value, Mapping):
            raise ValueError(f"{where}: expected values by name, got {value!r}")
        return {name: _value(get_args(hint)[1], item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(hint, type) and issubclass(hint, Setting):
        return hint.from_plain(value, where)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else read(hint, value, where)  # type: ignore[arg-type]
    if isinstance(hint, type):
        number = hint is float and type(value) is int  # 1 is a float, True is not an int
        if type(value) is not hint and not number:
            raise ValueError(f"{where}: expected {hint.__name__}, got {value!r}")
        return hint(value)
    check_word(where, value, hint)  # what is left is a Literal
    return value


def check_word(where: str, value: Any, literal: Any) -> None:
    """ValueError where `value` is none of a Literal's, with the nearest that is."""
    allowed = get_args(literal)
    if value not in allowed:
        raise ValueError(f"{where}: unknown {value!r}{nearest(str(value), [str(word) for word in allowed])}")


def _first_that_fits(kinds: list[Any], value: Any, where: str) -> Any:
    faults = []
    for kind in kinds:
        try:
            return _value(kind, value, where)
        except ValueError as error:
            faults.append(str(error))
    raise ValueError(faults[0] if len(faults) == 1 else "; or ".join(faults))


def to_plain(value: Any) -> Any:
    """The plain values of a setting or a dataclass of settings, such that reading them back gives an equal one."""
    if isinstance(value, Setting):
        return {"class_path": type(value).__name__, "init_args": _fields(value)}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: to_plain(item) for name, item in value.items()}
    return _fields(value) if dataclasses.is_dataclass(value) else value


def _fields(value: Any) -> dict[str, Any]:
    return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
