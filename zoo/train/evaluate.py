"""`zoo validate|test|predict`: a run is opened with its settings and weights."""

from pathlib import Path

import lightning as L
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from zoo.core import denormals
from zoo.errors import UserError
from zoo.options import Options
from zoo.train.checkpoint import CONFIG, find_checkpoint
from zoo.train.cli import build
from zoo.train.complaints import one_line
from zoo.train.start import check_classes, described, load_weights, recorded, say_other_data
from zoo.train.unset import as_options, kept


def evaluate(verb: str, argv: list[str]) -> int:
    """`zoo validate|test|predict RUN [--checkpoint best|last|PATH] [--data.X ...]`: a run's settings and weights."""
    denormals.flush()  # before the first of torch's threads begins
    own = Options(
        prog=f"zoo {verb}",
        description="Open a run with its settings and weights. Any setting can be given by its name, as in "
        "--data.test_set test_2017_flickr or --model.beams 1.",
    )
    own.add_argument("run", type=Path, help="a run folder")
    own.add_argument("--checkpoint", default="best", help="best (default), last, or a path")
    ours, args = own.parse_known_args(argv)
    if not (ours.run / CONFIG).is_file():
        raise UserError(f"{ours.run} holds no run (no {CONFIG}); train one with 'zoo fit'")
    config = ours.run / CONFIG
    given = ["--config", str(config), *as_options(kept(config)), "--trainer.logger", "false", *args]
    cli = build(given, ours.run, known=described(ours.run).get("settings"))
    if verb == "predict" and type(cli.model).predict_step is L.LightningModule.predict_step:
        task = type(cli.model).__name__
        raise UserError(f"{task} predicts nothing of a test set; 'zoo --help' lists the verbs that use its model")
    check_classes(ours.run, cli.datamodule)
    began = recorded(ours.run)
    if began and verb != "predict" and not any(arg.startswith("--data") for arg in args):
        therefore = ": what it is tested on may have been trained on"
        say_other_data(ours.run, began, cli.datamodule.manifest(), therefore)
    load_weights(cli.model, find_checkpoint(ours.run, ours.checkpoint))
    options = {"verbose": False} if verb == "test" else {}  # a test says its result itself, with signatures
    try:
        getattr(cli.trainer, verb)(cli.model, datamodule=cli.datamodule, **options)
    except MisconfigurationException as error:  # a task that does not do this
        raise UserError(one_line(str(error))) from None
    if verb == "test" and not cli.model.reported:  # a task that only logs
        cli.model.report({name.removeprefix("test/"): float(x) for name, x in cli.trainer.callback_metrics.items()})
    return 0
