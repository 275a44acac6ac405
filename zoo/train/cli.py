"""Lightning's command line with our parser: short names, no abbreviations, one line per error.

`build` makes of settings what they name. The verbs: zoo/train/fit.py and zoo/train/evaluate.py.
"""

import logging
import os
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import Namespace, _typehints, set_parsing_settings
from jsonargparse._util import import_object
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from zoo.core.setting import Setting
from zoo.errors import UserError
from zoo.train.callbacks import AverageLast, Checkpoints
from zoo.train.checkpoint import CHECKPOINTS, CONFIG, AtomicCheckpointIO
from zoo.train.complaints import check_file, one_line
from zoo.train.data import DataModule
from zoo.train.metrics import MetricsFile
from zoo.train.progress import Progress
from zoo.train.task import Task
from zoo.train.unset import arguments_of, files_of

# What a model must know of its data before it is built: attributes of the data module, handed to the task's parameter
# of the same name where it has one.
LINKS = {
    "vocab_size": "tokens of its tokenizer",
    "codebooks": "how many codes each of its frames has",
    "classes": "how many classes it has",
    "start": "the token that begins a text",
    "end": "the token that ends a text",
    "mask": "the token that hides another",
    "ordinary": "which tokens may be hidden, and drawn in place of others",
    "image_size": "pixels along a side of its images",
    "channels": "channels of its images",
}


class Parser(LightningArgumentParser):
    """Options in full only; an error is one line (Lightning's own prints the whole help).

    `others`: options of the verb that never reach this parser, and that a mistyped name may have meant.
    """

    others: tuple[str, ...] = ("run", "resume", "init-from")

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **(kwargs | {"allow_abbrev": False, "exit_on_error": False}))

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        raise UserError(one_line(message, self))

    def parse_args(self, *args: Any, **kwargs: Any) -> Namespace:
        try:
            return super().parse_args(*args, **kwargs)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # argparse's and jsonargparse's own, and ValueErrors of settings as they are built
            raise UserError(one_line(str(error), self)) from None


def _forget(parser: Any, before: Any, after: Any) -> None:
    """Another class starts from its own defaults.

    jsonargparse lets it inherit what the class before was given under the same names: an RMSNorm in place of a
    LayerNorm had the other's eps. There is no setting for that.
    """
    if before and "init_args" in before and before["class_path"] != after["class_path"]:
        before.pop("init_args")


_typehints.discard_init_args_on_class_path_change = _forget


class CLI(LightningCLI):
    """Settings to model, data and trainer; what a run always has (folder, checkpoints, callbacks) is added here."""

    def __init__(self, args: list[str], run: Path, extra: list[Callback], known: dict[str, Any]):
        self.given, self.run, self.extra, self.known = args, run, extra, known
        super().__init__(
            Task,
            DataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            save_config_callback=None,
            seed_everything_default=1,
            # The summary of Lightning counts operations as 0 where it knows none: Throughput says what it is.
            trainer_defaults={"use_distributed_sampler": False, "enable_model_summary": False},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args,
            run=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(Checkpoints, "checkpoint")
        parser.set_defaults(
            {"checkpoint.save_last": True, "checkpoint.filename": "{step}", "checkpoint.enable_version_counter": False}
        )
        for name in LINKS:
            parser.link_arguments(
                "data", f"model.init_args.{name}", compute_fn=partial(self._of_data, name), apply_on="instantiate"
            )

    def _of_data(self, name: str, data: DataModule) -> Any:
        """What the data module says of itself; UserError where the model asks for what this data has not.

        What a network begins or goes on with knows better where it is the task's `own`, and how many rows its table of
        tokens has, which may be more than there are tokens.
        """
        kind = import_object(self.config["model"]["class_path"])
        if name not in arguments_of(kind):
            return None
        if name in kind.own:
            return self.known.get(name)
        if not hasattr(data, name):
            raise UserError(
                f"model {kind.__name__} needs data that knows {LINKS[name]} ({name}); {type(data).__name__} does not"
            )
        said, known = getattr(data, name), self.known.get(name)
        return max(said, known) if name == "vocab_size" and isinstance(known, int) else said

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        # Lightning's own compares `args` with the process's arguments and warns: ours have been read in part.
        self.config = parser.parse_args(args)
        callbacks = self.config["trainer"]["callbacks"]
        if callbacks is not None and not isinstance(callbacks, list):  # one alone, given without +=
            self.config["trainer"]["callbacks"] = [callbacks]
        for name in LINKS:
            if self.config.get(f"model.init_args.{name}") is not None:
                raise UserError(f"model.{name} is the data's to say: {LINKS[name]}")

    def instantiate_classes(self) -> None:
        folder, own = self.config.checkpoint, self.run / CHECKPOINTS
        # runs of before say where theirs lay, and may have been moved since
        typed = any(arg.startswith("--checkpoint.dirpath") for arg in self.given)
        new = typed or not (self.run / CONFIG).is_file()
        if new and folder["dirpath"] is not None and Path(folder["dirpath"]).resolve() != own.resolve():
            raise UserError(
                f"checkpoint.dirpath ({folder['dirpath']}): the checkpoints of a run lie in its folder, {own}; "
                "--run FOLDER names another"
            )
        folder["dirpath"] = str(own)
        super().instantiate_classes()
        folder["dirpath"] = None  # what a run's settings need not say

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        given = self.config_init["trainer"]
        kwargs["default_root_dir"] = str(self.run)
        if given["logger"] is not False:
            theirs = given["logger"] if isinstance(given["logger"], list) else [given["logger"]]
            theirs = [logger for logger in theirs if isinstance(logger, Logger)]
            ours = not any(isinstance(logger, MetricsFile) for logger in theirs)
            kwargs["logger"] = [*([MetricsFile(self.run / "metrics.csv")] if ours else []), *theirs]
        callbacks = [*(given["callbacks"] or []), *self.extra]
        if given["enable_progress_bar"] is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(Progress())
        kwargs["callbacks"] = callbacks
        kwargs["plugins"] = [*(given["plugins"] or []), AtomicCheckpointIO()]
        return super().instantiate_trainer(**kwargs)

    @property
    def ends(self) -> bool:
        """Whether what is trained depends on which step is the last."""
        return self.model.schedule_setting.ends or any(isinstance(c, AverageLast) for c in self.trainer.callbacks)

    def text(self) -> str:
        """The merged settings, as YAML that makes the same run."""
        return self.parser.dump(self.config, skip_none=False)


def build(args: list[str], run: Path, extra: list[Callback] | None = None, known: dict[str, Any] | None = None) -> CLI:
    """Everything that the settings name; UserError in one line where they do not fit. `known`: settings of the network
    that it begins or goes on with."""
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*|.*smaller than the logging interval.*")
    # Both are so by design: a run that goes on finds its own folder, and our sampler takes up the order (Task).
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*|.*your dataloader is not resumable.*")
    warnings.filterwarnings("ignore", message=".*custom batch sampler.*|.*predict returned None.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # a frozen trunk
    warnings.filterwarnings("ignore", message=".*but have no `(val|test)_dataloader`.*")  # every Task can be validated
    warnings.filterwarnings("ignore", message=".*tensorboardX.*|.*LeafSpec.*|.*isinstance.treespec.*")
    warnings.filterwarnings("ignore", message=".*WeightAveraging callback with a model that overrides.*")  # AverageLast
    warnings.filterwarnings("ignore", message=".*could not find the monitored key.*")  # `fit` says it at the end
    set_parsing_settings(subclasses_enabled=[Setting])
    for path in files_of(args):
        if not path.startswith("{"):  # settings themselves, from a file that was checked
            check_file(path)
    try:
        return CLI(
            args, run, extra or [], known if isinstance(known, dict) else {}
        )  # what a broken file says is nothing
    except UserError:
        raise
    except (ValueError, MisconfigurationException) as error:
        raise UserError(one_line(str(error))) from None
