"""The peers of `zoo bench text`: with the same weights they give the same logits and the same beams."""

import numpy as np
import pytest
import torch

from zoo.bench import text
from zoo.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"VOCAB": 60, "DIM": 32, "DEPTH": 2, "HEADS": 4, "PAIRS": 4}.items():
        monkeypatch.setattr(text, name, value)

    def nowhere(**settings: object) -> None:
        raise UserError("not to be had")

    monkeypatch.setattr(text, "Multi30k", nowhere)  # wherever the tests run: neither a mirror's nor downloaded


def test_transformers_marian_is_our_marian() -> None:
    """An independent implementation of the whole encoder-decoder, weights copied."""
    ours, theirs = text.twins(CPU)
    source, target = torch.randint(4, 60, (3, 9)), torch.randint(4, 60, (3, 7))
    keep = torch.tensor([[True] * 9, [True] * 5 + [False] * 4, [True] * 2 + [False] * 7])
    with torch.no_grad():
        expected = theirs(input_ids=source, attention_mask=keep, decoder_input_ids=target).logits
        torch.testing.assert_close(ours(source, target, keep), expected, rtol=0, atol=2e-5)
        ours.encoder.blocks[0].mixer.after.eps = 0.1
        assert (ours(source, target, keep) - expected).abs().max() > 1e-3  # negative control


def test_beams_are_the_same() -> None:
    ours, theirs = text.twins(CPU)
    own, found = text.written(ours, theirs, text.sentences(16, CPU), 20)
    assert own == found
    assert len({tuple(row) for row in own}) > 8
    assert max(len(set(row)) for row in own) > 3


def test_batches_by_length_are_fuller() -> None:
    lengths = np.random.default_rng(0).integers(4, 40, (500, 2))

    def full(order: str) -> float:
        return float(np.mean([float(b.keep.float().mean()) for b in text.batches(lengths, order, 3)]))

    assert full("by length") > 0.9 > full("random")


def test_every_case_runs() -> None:
    cases = [race.case for dtype in (torch.float32,) for race in text.races(dtype, CPU, quick=True)]
    assert len(cases) == len(set(cases)) == 5
    for race in text.races(torch.float32, CPU, quick=True):
        for make in race.entries.values():
            make()()
