"""Published weights beside the libraries that published them: logits, gradients, what is written; wrong knobs fail."""

import pytest
import torch

from zoo.check import parity
from zoo.check.references import Reference, references

REFERENCES = references()
SIDES: dict[tuple[str, torch.dtype], parity.Side] = {}


def pair(reference: Reference, dtype: torch.dtype = torch.float64) -> parity.Side:
    """One saved and loaded pair serves all tests of a reference."""
    key = (str(reference), dtype)
    if key not in SIDES:
        SIDES[key] = parity.open_pair(reference, dtype)
    return SIDES[key]


def bound(reference: Reference) -> float:
    return 1e-6 if reference.tables32 else 1e-9


@pytest.mark.parametrize("reference", REFERENCES, ids=str)
def test_logits(reference: Reference) -> None:
    for dtype, most in ((torch.float32, 1e-5), (torch.float64, bound(reference))):
        side = pair(reference, dtype)
        for padding in side.compared.sides:
            assert parity.logits(side, padding) < most, (dtype, padding)


@pytest.mark.parametrize("reference", REFERENCES, ids=str)
def test_gradients(reference: Reference) -> None:
    # what a float32 table rounds, every layer's gradient sees once more
    assert parity.gradients(pair(reference)) < (5 if reference.tables32 else 1) * bound(reference)


WRITERS = [r for r in REFERENCES if r.family in ("gpt2", "llama")]


@pytest.mark.parametrize("reference", WRITERS, ids=str)
def test_greedy_writing_token_for_token(reference: Reference) -> None:
    theirs, cached, uncached = parity.greedy(pair(reference))
    assert theirs.unique().numel() > 3  # the writing is not one token over and over
    assert torch.equal(cached, theirs)
    assert torch.equal(uncached, theirs)
