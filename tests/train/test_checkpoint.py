"""A checkpoint survives what happens to its successor, and opening one runs nothing."""

import errno
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.errors import UserError
from zoo.train.checkpoint import AtomicCheckpointIO, open_checkpoint

GOOD = {"state_dict": {"weight": torch.arange(3.0)}, "global_step": 7}


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    io = AtomicCheckpointIO()
    io.save_checkpoint(GOOD, tmp_path / "new" / "last.ckpt")
    got = io.load_checkpoint(tmp_path / "new" / "last.ckpt")
    assert got["global_step"] == 7
    assert torch.equal(got["state_dict"]["weight"], torch.arange(3.0))
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize(
    "fault", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file")]
)
def test_a_full_disk_leaves_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(GOOD, path)

    def full(obj: Any, file: Any) -> None:
        file.write(b"half of a checkpoint")
        raise fault

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="could not be written"):
        AtomicCheckpointIO().save_checkpoint(GOOD | {"global_step": 8}, path)
    assert open_checkpoint(path)["global_step"] == 7
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_crash_while_writing_leaves_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(GOOD, path)

    def killed(obj: Any, file: Any) -> None:
        file.write(b"half of a checkpoint")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpointIO().save_checkpoint(GOOD, path)
    assert open_checkpoint(path)["global_step"] == 7


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_a_checkpoint_holds_is_run(tmp_path: Path) -> None:
    torch.save(GOOD | {"hyper_parameters": Bomb(tmp_path / "hit")}, tmp_path / "bad.ckpt")
    with pytest.raises(UserError, match=r"bad.ckpt: not a checkpoint that can be opened"):
        open_checkpoint(tmp_path / "bad.ckpt")
    assert not (tmp_path / "hit").exists()
    torch.load(tmp_path / "bad.ckpt", weights_only=False)  # the bomb is a real one
    assert (tmp_path / "hit").exists()


@pytest.mark.parametrize("content", ["empty", "truncated", "text", "pickle"])
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "some.ckpt"
    torch.save(GOOD, path)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "truncated": whole[: len(whole) // 2],
            "text": b"hello",
            "pickle": pickle.dumps({"a": print}, 2),
        }[content]
    )
    with pytest.raises(UserError, match=r"some.ckpt: not a checkpoint that can be opened") as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_foreign_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint"):
        open_checkpoint(tmp_path / "none.ckpt")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "foreign.ckpt")
    with pytest.raises(UserError, match="not a training checkpoint"):
        open_checkpoint(tmp_path / "foreign.ckpt")
