"""Checkpoints that a crash cannot destroy, opened without running what they hold."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from torch import Tensor

from zoo.errors import UserError

CONFIG = "config.yaml"  # of a run: its merged settings
CHECKPOINTS = "checkpoints"  # folder of a run
LAST = "last.ckpt"
LOCK = ".lock"  # of a run: held while one trains in it


def check_free(run: Path) -> None:
    """UserError where there is something to lose: a run that stopped before its first checkpoint may begin anew."""
    if (run / CONFIG).exists() and any((run / CHECKPOINTS).glob("*.ckpt")):
        raise UserError(f"{run} already holds a run; give another --run FOLDER, or go on with --resume last")


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the target, syncs, and replaces it in one move: the last good checkpoint outlives a full disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".part")
        try:
            with beside.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            beside.unlink(missing_ok=True)
            raise UserError(
                f"{path}: the checkpoint could not be written ({error}); the one before is untouched"
            ) from None

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return open_checkpoint(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def open_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of ours: tensors and plain values. UserError where the file is not one; nothing in it is run."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken archive fails in a dozen ways, all of which mean the same
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: not a checkpoint that can be opened ({reason[:120]})") from None
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path}: not a training checkpoint (it holds no state_dict)")
    return checkpoint


def network_weights(path: str | Path) -> dict[str, Tensor]:
    """The weights of a checkpoint's network, by the network's own names."""
    inside = "network."
    state: dict[str, Tensor] = open_checkpoint(path)["state_dict"]
    return {name.removeprefix(inside): value for name, value in state.items() if name.startswith(inside)}


def find_checkpoint(run: Path, which: str = "best") -> Path:
    """A run's checkpoint. `best`: the run's `checkpoint.monitor` likes it most; the last where it has none."""
    folder = run / CHECKPOINTS
    if which not in ("best", "last"):
        return Path(which)
    others = sorted(folder.glob("*.ckpt"))
    if not others:
        raise UserError(f"{folder} holds no checkpoint")
    kept = [p for p in others if p.name != LAST and not p.name.startswith("last-v")]
    if which == "best" and len(kept) == 1:
        return kept[0]
    last = folder / LAST
    if not last.is_file():  # a run that was told to write none
        last = max(others, key=lambda path: int(open_checkpoint(path)["global_step"]))
    if which == "best" and kept:
        for state in open_checkpoint(last).get("callbacks", {}).values():
            best = state.get("best_model_path") if isinstance(state, dict) else None
            if best and (folder / Path(best).name).is_file():
                return folder / Path(best).name
    return last
