"""`zoo fit`: a run begins, goes on, or begins with the weights of another.

    zoo fit --config FILE [--config OVERLAY] [--name.of.setting VALUE ...] [--run FOLDER] [--resume last|PATH]
            [--init-from PATH]

A run is a folder that holds all of it; what opens it: zoo/train/evaluate.py.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import yaml
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from zoo import imports
from zoo.core import denormals, heap
from zoo.errors import UserError
from zoo.options import Options
from zoo.train.callbacks import ActivationCheckpointing, RunFolder, StopOnSignal, Throughput
from zoo.train.checkpoint import CHECKPOINTS, CONFIG, LAST, LOCK, check_free, find_checkpoint, open_checkpoint
from zoo.train.cli import CLI, LINKS, build
from zoo.train.complaints import one_line
from zoo.train.start import (
    Source,
    begin_with,
    begun,
    check_classes,
    check_reach,
    described,
    differs,
    fitting,
    recorded,
)
from zoo.train.unset import as_options, files_of, kept, lay_below, left_behind

# What may differ when a run goes on: how long it runs and how it is watched, not what it computes.
FREE = (
    "trainer.max_",
    "trainer.enable_",
    "trainer.log_every",
    "trainer.num_sanity",
    "trainer.limit_val",
    "trainer.logger",
    "checkpoint.",
    "data.init_args.workers",
    "data.init_args.memory",
)

HELP = """usage: zoo fit --config FILE [--config OVERLAY ...] [--NAME VALUE ...] [options]

Train a model: FILE says which, on what data, how. A run is a folder that holds all of it.

  --config FILE     settings; a later file lies over the ones before
  --NAME VALUE      any setting by its name, as --trainer.max_steps 1000 or --model.encoder.position Rotary
  --run FOLDER      where the run is kept (default: runs/ and the name of the first FILE)
  --resume last     go on where the run stopped, exactly; or --resume CHECKPOINT
  --init-from PATH  begin with the weights of a checkpoint or of any folder that zoo.load opens (a run's best, published
                    weights), anew in all else; of another kind of model: with the parts that both have. What FILE
                    leaves unset of the network, and its tokenizer, are those of PATH too
  --print_config    print all settings as they would be, with their defaults, and stop
  --help-settings   every setting with its type and meaning

  zoo fit --config configs/text/multi30k.yaml
  zoo fit --config configs/text/multi30k.yaml --config configs/overlay/cpu.yaml --run runs/mine --trainer.max_steps 1000
  zoo fit --run runs/mine --resume last"""


def fit(argv: list[str], opened: Callable[[Path], Source]) -> int:
    """Train: `zoo fit`. `opened`: what there is to begin with in a model's folder, fetched where it is a hub's."""
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    denormals.flush()  # before the first of torch's threads begins
    heap.keep()
    argv = ["--help" if arg == "--help-settings" else arg for arg in argv]
    own = Options(prog="zoo fit", add_help=False)
    own.add_argument("--run", type=Path)
    own.add_argument("--resume")
    own.add_argument("--init-from", type=Path)
    ours, args = own.parse_known_args(argv)
    run: Path = ours.run or Path("runs") / _name(args)
    stopped = None
    if ours.resume is not None:
        if ours.init_from is not None:
            raise UserError("--resume goes on with the weights of its own run: leave out --init-from")
        if ours.run is None and not (run / CONFIG).is_file():
            raise UserError(f"--resume needs the run's folder: {run} holds no run; give --run FOLDER")
        stopped = _stopped(run, ours.resume, args)
        args = stopped.args
    elif rank_zero_only.rank == 0 and not {"--help", "--print_config"} & set(args):
        # other ranks begin when the first has already written
        _check_folder(run)
    source = None if ours.init_from is None else begun(ours.init_from, opened)
    keeper = RunFolder(run, [*imports.options(), "fit", *argv], resumed=stopped is not None)
    callbacks = [keeper, Throughput(), StopOnSignal(run / CHECKPOINTS / LAST)]
    if source is None:
        known = None if stopped is None else described(run).get("settings")
        cli, taken = build(args, run, callbacks, known), {}
    else:
        cli, taken = _built_on(source, ours.init_from, args, run, callbacks)
    if stopped is not None:
        _refuse_changes(cli, run / CONFIG, stopped.moved)
        check_classes(run, cli.datamodule)
        fitting(cli.model, stopped.stored, stopped.checkpoint)
        if _complete(stopped.stored, cli.trainer):  # Lightning would count an epoch that it does not train
            print(f"run: {run} is complete; a larger trainer.max_steps or trainer.max_epochs goes on with it")
            return 0
    else:
        check_reach(cli.model, cli.datamodule)
        for line in left_behind(args) if rank_zero_only.rank == 0 else ():
            print(line, file=sys.stderr)
    if source is not None:
        _begin(cli, source, ours.init_from, taken)
    checkpoint = None if stopped is None else stopped.checkpoint
    del source, stopped  # the tensors in them: a training would hold them to its end
    keeper.settings = cli.text()
    # what compares runs goes by their settings
    for logger in cli.trainer.loggers if cli.trainer.is_global_zero else ():
        logger.log_hyperparams(dict(_flat(yaml.safe_load(keeper.settings))))
    _train(cli, checkpoint)
    if cli.trainer.is_global_zero:
        monitor: Any = cli.trainer.checkpoint_callback
        unseen = monitor is not None and monitor.monitor and not monitor.best_model_path
        print(f"run: {run}{' (never validated: its best weights are its last)' if unseen else ''}")
    return 0


class Stopped(NamedTuple):
    """Where a run that goes on had come to."""

    args: list[str]  # the settings, with those that the run began with
    moved: dict[str, str]  # options that say where the same is read now
    checkpoint: Path
    stored: dict[str, Any]  # what the checkpoint holds


def _stopped(run: Path, resume: str, args: list[str]) -> Stopped:
    checkpoint = find_checkpoint(run, "last") if resume == "last" else Path(resume)
    stored = open_checkpoint(checkpoint)
    if any(a.startswith(("--config", "-c")) for a in args):
        return Stopped(args, {}, checkpoint, stored)
    moved = kept(run / CONFIG)
    return Stopped(["--config", str(run / CONFIG), *as_options(moved), *args], moved, checkpoint, stored)


def _check_folder(run: Path) -> None:
    """UserError where a new run would write over what is not its own."""
    check_free(run)
    if foreign := _foreign(run):  # a model that was imported or published, or whatever else lies there
        raise UserError(
            f"{foreign} was not written by zoo fit, and nothing is overwritten: choose another --run FOLDER"
        )


def _built_on(
    source: Source, init_from: Path, args: list[str], run: Path, callbacks: list[Callback]
) -> tuple[CLI, dict[str, Any]]:
    """What the settings name above those of the model to begin with, and which were taken from it."""
    laid, taken = lay_below(args, source, set(LINKS))
    try:
        return build(laid, run, callbacks, source.settings), taken
    except UserError as error:
        stacks = [value for value in taken.get("model", {}).values() if isinstance(value, dict) and "depth" in value]
        if stacks or not source.kind:
            raise
        raise UserError(f"{error}; {init_from} is a {source.kind}, which has no such stack") from None


def _begin(cli: CLI, source: Source, init_from: Path, taken: dict[str, Any]) -> None:
    """Put in the weights to begin with, and say which settings came with them."""
    if source.folder is not None:
        cli.datamodule.check_origin(source.folder)
    begin_with(cli.model, source, cli.datamodule.names)
    if taken and cli.trainer.is_global_zero:
        said = "; ".join(f"{part} {', '.join(values)}" for part, values in taken.items())
        print(f"as in {init_from}: {said}", file=sys.stderr)


def _train(cli: CLI, checkpoint: Path | None) -> None:
    """Lightning's own training; what it finds wrong with the settings only as it goes is a UserError."""
    path = None if checkpoint is None else str(checkpoint)
    try:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=path, weights_only=True)
    except MisconfigurationException as error:  # a metric's name
        raise UserError(one_line(str(error))) from None
    except ValueError as error:
        if "`val_check_interval`" not in str(error):
            raise
        raise UserError(
            f"trainer.val_check_interval ({cli.trainer.val_check_interval}) is more than the batches of an epoch: "
            "lower it, or count over epochs with --trainer.check_val_every_n_epoch null"
        ) from None
    except SystemExit as left:
        if left.code == 1 and cli.trainer.interrupted:  # Lightning leaves with 1, which is a failed training's code
            raise KeyboardInterrupt from None
        raise


def _complete(stored: dict[str, Any], trainer: L.Trainer) -> bool:
    """Whether a checkpoint's run has taken all the steps or epochs that the trainer would take."""
    epochs = stored["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    steps_done = trainer.max_steps > -1 and stored["global_step"] >= trainer.max_steps
    return steps_done or (trainer.max_epochs is not None and -1 < trainer.max_epochs <= epochs)


def _foreign(run: Path) -> Path | None:
    """Something in a folder that no run has written. What a shell was told to write there (a log) is none of it."""
    if (run / "run.json").is_file() or not run.is_dir():
        return None
    ours = (".log", ".out", ".err", LOCK)
    return next((path for path in sorted(run.iterdir()) if (path.suffix or path.name) not in ours), None)


def _name(args: list[str]) -> str:
    """The run's name: that of its first --config file."""
    return Path(next(iter(files_of(args)), "run")).stem


def _refuse_changes(cli: CLI, path: Path, moved: Iterable[str]) -> None:
    """A run goes on as it began: UserError names the first setting that differs. `moved`: options that only say where
    the same is read; where the data itself is read may change as long as it is the same by its hash."""
    if not path.is_file():
        raise UserError(f"{path} is missing: this folder holds no run to go on with")
    before = cli.parser.parse_path(str(path))
    now, then = (dict(_flat(c.as_dict())) for c in (cli.config, before))
    if not then.get("model.init_args.compile"):  # compiled code may draw its dropout in another way
        for settings in (now, then):
            settings["trainer.callbacks"] = _what_counts(settings["trainer.callbacks"])
    for name in sorted(now.keys() | then.keys()):
        if name.replace(".init_args", "") in moved:
            continue
        if now.get(name) == then.get(name):
            continue
        if _is_place(name, now.get(name), cli, path.parent) and (manifest := cli.datamodule.manifest()).get("sha256"):
            if differs(recorded(path.parent), manifest):
                raise UserError(
                    f"--resume goes on with the same data: that of {name.replace('.init_args', '')} {now[name]} is not "
                    "what the run began with (its hash in run.json)"
                )
            continue
        if name.startswith("trainer.max_") and cli.ends:
            said = "learning rates, and what is averaged, go by the new end from here on"
            print(f"{name} was {then.get(name)}, is {now.get(name)}: {said}", file=sys.stderr)
        if not name.startswith((*FREE, "config")):
            raise UserError(
                f"--resume goes on with the same settings: {name} was {_shown(then.get(name))}, now "
                f"{_shown(now.get(name))}; begin a new run with --init-from to change it"
            )


def _what_counts(callbacks: Any) -> Any:
    """The settings of callbacks without the one that computes the same, in less memory."""
    same = f"{ActivationCheckpointing.__module__}.{ActivationCheckpointing.__qualname__}"
    return [callback for callback in callbacks or [] if callback["class_path"] != same] or None


def _is_place(name: str, value: Any, cli: CLI, run: Path) -> bool:
    """Whether a setting says where the data lies, not how it is read (a tokenizer, as a run keeps its own)."""
    of_data = name.startswith("data.") and isinstance(value, Path)
    return of_data and name.rpartition(".")[2] not in cli.datamodule.like(run)


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Path) else repr(value)


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return rows
