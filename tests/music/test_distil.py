"""The mean over keys, and lessons made of it: experiments/music."""

import numpy as np
import pytest
import torch

from experiments.music.distil import Distilling, Lesson, Taught
from experiments.music.keys import spoken
from zoo.core import Skewed, StackConfig
from zoo.music.chorale import REST, Chorale
from zoo.music.data import Pieces
from zoo.music.model import MusicLM

VIEW = Chorale()
STACK = StackConfig(dim=16, depth=1, heads=2, causal=True, position=Skewed(max_distance=16))


def piece(steps: int, seed: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    voices = [torch.randint(r.low + 2, r.high - 3, (steps,), generator=generator) for r in VIEW.ranges]
    notes = torch.stack(voices, 1).numpy()
    notes[1, 2] = REST
    return notes


def test_the_mean_over_keys_is_that_of_each_key_by_itself() -> None:
    """By a loop over keys: a key takes part until a note leaves its voice's range, and gives nothing to what would."""
    torch.manual_seed(0)
    models = [MusicLM(STACK, VIEW.vocab_size, end=VIEW.end, init="xavier").eval() for _ in range(2)]
    shifts = [-3, 0, 4]
    notes = piece(6, 0)
    pieces = Pieces(VIEW, [notes], 64)
    own, mean = (torch.cat(x) for x in zip(*spoken(models, VIEW, pieces, 0, shifts), strict=True))
    tokens = pieces.tokens[0]
    alive = dict.fromkeys(shifts, True)
    for n, token in enumerate(tokens):
        voice = VIEW.ranges[n % 4]
        expected, taking = torch.zeros(VIEW.vocab_size, dtype=torch.float64), 0
        for shift in (s for s in shifts if alive[s]):
            moved = [t + shift if 2 <= t < VIEW.end else t for t in tokens[:n]]
            for model in models:
                chances = model(torch.tensor([[VIEW.vocab_size, *moved]]))[0, -1].double().softmax(-1)
                taking += 1
                for here in range(VIEW.vocab_size):
                    pitched = 2 <= here < VIEW.end
                    if not pitched or voice.low <= here - 2 + VIEW.lowest + shift <= voice.high:
                        expected[here] += chances[here + shift if pitched else here].detach()
        torch.testing.assert_close(mean[n], expected / taking, rtol=1e-5, atol=1e-8)
        for shift in shifts:
            there = token - 2 + VIEW.lowest + shift
            alive[shift] &= not 2 <= token < VIEW.end or voice.low <= there <= voice.high
    assert not all(alive.values())
    assert mean.sum(-1).max() <= 1 + 1e-9
    assert own.sum(-1).sub(1).abs().max() < 1e-9


@pytest.mark.parametrize("length", [16, 64])
def test_lessons_stand_beside_the_tokens_that_they_are_of(length: int) -> None:
    """Chances that are sure of the piece itself, moved with it, are sure of the labels."""
    notes = [piece(7, 1), piece(3, 2)]
    chances = [torch.eye(VIEW.vocab_size)[VIEW.encode(one)] for one in notes]
    taught = Taught(VIEW, notes, length, 3, 1, chances=chances)
    items = [taught[epoch, window] for epoch in range(8) for window in range(len(taught))]
    assert len({shift for epoch in range(8) for _, shift, _ in [taught.draw((epoch, 0))]}) > 1
    lesson = taught.collate(items)
    assert isinstance(lesson, Lesson)
    keep = lesson.windows.keep
    assert torch.equal(lesson.chances.argmax(-1)[keep], lesson.windows.labels[keep])
    assert torch.equal(lesson.chances[keep].amax(-1), torch.ones(int(keep.sum())))
    student = Distilling(STACK, VIEW.vocab_size)
    out = student.loss(lesson)
    torch.testing.assert_close(out.loss, out.nll)
    with pytest.raises(ValueError, match="leave them at 0"):
        Distilling(STACK, VIEW.vocab_size, label_smoothing=0.1)
