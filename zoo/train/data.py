"""The data module of every domain: Lightning's loaders from one method, and what a run folder keeps of the data."""

from pathlib import Path
from typing import Any, Literal

import lightning as L
from torch.utils.data import DataLoader

Split = Literal["train", "val", "test"]


class DataModule(L.LightningDataModule):
    """Base of the data modules. Subclasses give `_loader`, and `manifest`.

    What a model must know of its data (`vocab_size`, `classes`, ...) is an attribute that stands as soon as the module
    is built: the command line hands it to the model (zoo/train/cli.py, LINKS).
    """

    names: tuple[str, ...] = ()  # of its classes, in the order of their numbers
    reach = ""  # the name of the setting that bounds the tokens of its sequences, where one does

    def manifest(self) -> dict[str, Any]:
        """What the data is, for run.json: the name of the set, and by a subclass the hash of each split and what shapes
        its batches. By that, a run that goes on or is tested says where its data is other than it was."""
        return {"set": type(self).__name__}

    def save(self, folder: Path) -> None:
        """What turns data into tokens and back, into a run folder; nothing unless a domain says otherwise."""

    def describe(self) -> dict[str, Any]:
        """What a model's folder must know of its data beside the network, for config.json: the names of classes."""
        return {"classes": list(self.names)} if self.names else {}

    @classmethod
    def like(cls, folder: Path) -> dict[str, Any]:
        """Arguments of this class that make data as the model in `folder` reads it: its tokenizer, its image size.

        `zoo fit --init-from FOLDER` uses those that the user's own settings leave unset. {}: the folder says nothing.
        """
        return {}

    def check_origin(self, run: Path) -> None:
        """UserError where the weights of another run mean nothing here, since it cut its data into other tokens."""

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader("val", shuffle=False)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader("test", shuffle=False)

    def predict_dataloader(self) -> DataLoader[Any]:
        return self.test_dataloader()

    def _loader(self, split: Split, *, shuffle: bool) -> DataLoader[Any]:
        raise NotImplementedError

    def ranks(self) -> dict[str, int]:
        """Which of how many processes this is, for a sampler."""
        return {} if self.trainer is None else {"rank": self.trainer.global_rank, "world": self.trainer.world_size}
