"""What a training starts with: the weights of a checkpoint, all of them or those of some parts."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from zoo.core.network import Network
from zoo.core.position import PositionModule
from zoo.errors import UserError
from zoo.train.checkpoint import find_checkpoint, network_weights, open_checkpoint
from zoo.train.data import DataModule
from zoo.train.task import Task

N = TypeVar("N", bound=Network)


def load_weights(task: Task, path: Path) -> None:
    """A checkpoint's weights into a task; UserError names the first that does not fit."""
    task.load_state_dict(fitting(task, open_checkpoint(path), path))


def fitting(task: Task, stored: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """A checkpoint's weights, which are this task's by name and shape; UserError names the first that is not."""
    state: dict[str, Tensor] = stored["state_dict"]
    check_same(state, task.state_dict(), f"{path}: not weights of this model")
    return state


@dataclass(frozen=True, eq=False)
class Source:
    """What a training may begin with: weights by the names of a task, and what is known of the network they are of."""

    path: Path  # as it was given
    state: dict[str, Tensor]
    settings: dict[str, Any]  # of the network, as plain values
    folder: Path | None  # that says what its tokens are
    classes: tuple[str, ...] = ()  # their names, where it has some
    kind: str = ""  # of network, by its short name


def begun(path: Path, opened: Callable[[Path], Source]) -> Source:
    """What lies in a checkpoint, or in a folder that `opened` reads. UserError where it is none."""
    if path.is_dir() or (path.suffix != ".ckpt" and not path.is_file()):
        return opened(path)
    state, run = open_checkpoint(path)["state_dict"], path.parent.parent
    folder, about = run if (run / "config.yaml").is_file() else None, described(run)
    classes, kind = tuple(about.get("classes") or ()), str(about.get("kind") or "")
    return Source(path, state, about.get("settings") or {}, folder, classes, kind)


def described(run: Path) -> dict[str, Any]:
    """What a run's folder says of its model: kind, settings of the network, what of its data a model must know; nothing
    where there is no such file, or a broken one."""
    return _values(run / "config.json")


def recorded(run: Path) -> dict[str, Any]:
    """What a run's folder says of how it was made; nothing where there is no such file, or a broken one."""
    return _values(run / "run.json")


def _values(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def check_classes(run: Path, data: DataModule) -> None:
    """UserError where a run's classes are not those of the data: their numbers would mean something else."""
    known = tuple(described(run).get("classes") or ())
    if known and data.names and known != data.names:
        named = {"lacks": set(known) - set(data.names), "adds": set(data.names) - set(known)}
        said = "; ".join(f"{what} {', '.join(sorted(names)[:5])}" for what, names in named.items() if names)
        raise UserError(f"{run} knows other classes than this data, which {said or 'has them in another order'}")


def differs(began: dict[str, Any], manifest: dict[str, Any]) -> bool:
    """Whether the data is not what a run `began` with (its run.json), by the hashes of a manifest."""
    before: object = began.get("data", {}).get("sha256")
    return before != manifest.get("sha256")


def say_other_data(run: Path, began: dict[str, Any], manifest: dict[str, Any], therefore: str = "") -> None:
    """A line on stderr where the data is not what a run began with."""
    if differs(began, manifest):
        print(f"{run}: the data is not what the run began with (its hash in run.json){therefore}", file=sys.stderr)


def check_reach(task: Task, data: DataModule) -> None:
    """UserError where texts may come to more tokens than the network has positions for."""
    places = [part.longest for part in task.network.modules() if isinstance(part, PositionModule)]
    most = min((place for place in places if place is not None), default=None)
    if data.reach and most is not None and (tokens := getattr(data, data.reach)) > most:
        said = f"the model has positions for {most} tokens"
        raise UserError(f"data.{data.reach} is {tokens}, {said}: give --data.{data.reach} {most}")


def begin_with(task: Task, source: Source, classes: Sequence[str] = ()) -> None:
    """Begin with the weights of another task: all where all fit, else those of the parts that the task may carry over.
    A head of other `classes` by name does not fit.

    The network may first make them its own (a table of positions of another length). A part is taken whole or not at
    all, and stderr says what was taken and what is new. UserError where nothing fits.
    """
    path = source.path
    state = adapted(task.network, source.state, path)
    own = task.state_dict()
    same = {name: value.shape for name, value in state.items()} == {name: value.shape for name, value in own.items()}
    others = bool(classes and source.classes and tuple(classes) != source.classes)
    foreign = source.kind and source.kind != task.kind
    complaint = f"{path}: {f'a {source.kind}, ' if foreign else ''}not weights of this {task.kind}"
    if (same and not others) or not task.carried:
        check_same(state, own, complaint)
        task.load_state_dict(state)
        return
    taken: dict[str, Tensor] = {}
    for part in task.carried:
        theirs, ours = (
            {name: value for name, value in names.items() if f"{name}.".startswith(f"network.{part}.")}
            for names in (state, own)
        )
        if theirs:
            check_same(theirs, ours, f"{path}: its {part} is not this model's")
            taken |= theirs
        elif part == task.carried[0]:
            raise UserError(f"{complaint}, and no {part} to begin with")
    task.load_state_dict(own | taken)
    if rank_zero_only.rank == 0:
        new = _parts(name for name in own if name not in taken)
        print(f"taken from {path}: {_parts(taken)} ({len(taken)} tensors); new: {new or 'nothing'}", file=sys.stderr)


def open_network(run: Path, kind: type[N]) -> N:
    """The network of another run, in eval mode, for a training that needs it beside its own: a teacher, a codec.

    UserError where the folder holds no such network. (`zoo.load` stands above the domains and opens any.)
    """
    path = run / "config.json"
    if not path.is_file():
        raise UserError(f"{run} holds no model (no config.json)")
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        if described["kind"] != kind.__name__:
            raise UserError(f"{run} holds a {described['kind']}, expected a {kind.__name__}")
        network = kind.from_plain(described["settings"])
    except UserError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no description of a network ({error})") from None
    checkpoint = find_checkpoint(run)
    weights = network_weights(checkpoint)
    check_same(weights, network.state_dict(), f"{checkpoint}: not weights of this network")
    network.load_state_dict(weights)
    return network.eval()


def adapted(network: Network, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """A task's weights with those of its network as that makes them its own; UserError where it cannot."""
    inside = {name.removeprefix("network."): v for name, v in state.items() if name.startswith("network.")}
    try:
        made = network.adapt(inside)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    return state | {f"network.{name}": value for name, value in made.items()}


def check_same(state: dict[str, Tensor], own: dict[str, Tensor], complaint: str) -> None:
    """UserError, beginning with `complaint`, names the first weight that is missing, foreign or of another shape."""
    if missing := [name for name in own if name not in state]:
        raise UserError(f"{complaint} (it lacks {missing[0]!r})")
    if foreign := [name for name in state if name not in own]:
        raise UserError(f"{complaint} (it holds {foreign[0]!r})")
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise UserError(f"{complaint} ({name!r}: {tuple(value.shape)} against {tuple(own[name].shape)})")


def _parts(names: Iterable[str]) -> str:
    """The parts of a network that weights belong to, by name."""
    return ", ".join(dict.fromkeys(name.split(".")[1] for name in names))
