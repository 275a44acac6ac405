"""How a training shows how far it is: a bar in a terminal, a line at each validation elsewhere."""

import sys
import time

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar


class Progress(RichProgressBar):
    """Lightning's bar where there is a terminal to draw it over itself. Where output is logged or piped, a line on
    stderr at the end of each validation: step, what the bar would show, seconds."""

    def __init__(self) -> None:
        super().__init__()
        if not sys.stdout.isatty():
            self.disable()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.begun = time.time()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if self.is_enabled or not trainer.is_global_zero or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        most = f" of {trainer.max_steps:,}" if trainer.max_steps > -1 else ""
        found = {name: value for name, value in trainer.progress_bar_metrics.items() if isinstance(value, float)}
        said = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
        print(f"step {trainer.global_step:,}{most}: {said} ({time.time() - self.begun:.0f} s)", file=sys.stderr)

    def _get_train_description(self, current_epoch: int) -> str:
        described: str = super()._get_train_description(current_epoch)
        return described.replace("/-2", "")  # a training by steps has no number of epochs
