"""What several translators say together, for a target: experiments/multi30k."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from experiments.multi30k.distil import Taught
from zoo.core import StackConfig
from zoo.errors import UserError
from zoo.text.data import collate
from zoo.text.model import Seq2Seq, shifted_right

STACK = StackConfig(dim=16, depth=1, heads=2)
DECODER = STACK.replace(causal=True, cross=True)
BATCH = collate([(0, [3, 4, 5, 2], [6, 7, 2]), (1, [8, 2], [9, 10, 11, 12, 2])])


def taught(true: float) -> Taught:
    task = Taught([Path("a"), Path("b")], STACK.replace(dropout=0.2), DECODER, 20, true=true)
    task.opened = [Seq2Seq(STACK, DECODER, 20).eval() for _ in range(2)]
    return task


def test_a_student_is_to_say_the_mean_of_its_teachers_and_a_share_of_the_reference() -> None:
    torch.manual_seed(0)
    task = taught(0.25)
    given = (BATCH.source, shifted_right(BATCH.labels, 1), BATCH.source_keep, BATCH.keep)
    labels = F.one_hot(BATCH.labels[BATCH.keep], 20)
    chances = [teacher(*given)[BATCH.keep].softmax(-1) for teacher in task.opened]
    targets = 0.25 * labels + 0.75 * (chances[0] + chances[1]) / 2
    torch.manual_seed(1)
    told = task.loss(BATCH)
    torch.manual_seed(1)
    states, _ = task.network.hidden(*given)
    expected = -(targets * task.network.head(states).log_softmax(-1)).sum()
    torch.testing.assert_close(told.loss, expected)
    assert told.tokens == 8
    told.loss.backward()
    assert all(weight.grad is None for teacher in task.opened for weight in teacher.parameters())
    assert not any("opened" in name for name in task.state_dict())


def test_validation_and_a_student_of_the_reference_alone_have_the_loss_of_one_target() -> None:
    torch.manual_seed(0)
    task = taught(1.0).eval()
    plain = task.loss(BATCH)
    torch.testing.assert_close(plain.loss, plain.nll)
    for part in task.network.modules():
        part.training = False
    task.training = True
    torch.testing.assert_close(task.loss(BATCH).loss, plain.loss)


def test_teachers_are_opened_as_a_training_begins_and_write_with_the_same_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the student's device, which a task does not know before."""
    task = Taught([Path("a"), Path("b")], STACK, DECODER, 20)
    models = {Path(name): Seq2Seq(STACK, DECODER, 20).eval() for name in "ab"}
    written = {Path("a"): "these", Path("b"): "these"}

    def load(path: Path, *, kind: type) -> SimpleNamespace:
        return SimpleNamespace(model=models[path], tokenizer=SimpleNamespace(to_json=lambda: written[path]))

    monkeypatch.setattr("experiments.multi30k.distil.load", load)
    tokens = SimpleNamespace(to_json=lambda: "these")
    task._trainer = SimpleNamespace(datamodule=SimpleNamespace(tokenizer=tokens))  # type: ignore[assignment]
    task.on_fit_start()
    assert task.opened == [*models.values()]
    written[Path("b")] = "others"
    with pytest.raises(UserError, match="b writes with other tokens"):
        task.on_fit_start()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="teachers is empty"):
        Taught([], STACK, DECODER, 20)
    with pytest.raises(ValueError, match="leave them at 0"):
        Taught([], STACK, DECODER, 20, label_smoothing=0.1)
    with pytest.raises(ValueError, match=r"true \(2\) must be in \[0, 1\]"):
        Taught([Path("a")], STACK, DECODER, 20, true=2)
