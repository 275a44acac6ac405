"""Published weights beside the libraries that published them: logits, gradients, what is written; wrong knobs fail."""

from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.check import parity
from zoo.check.references import Reference, references
from zoo.core import (
    EvenStretch,
    FixedScale,
    HeadScale,
    LayerNorm,
    Learned,
    LongStretch,
    Mean,
    NoNorm,
    RelativeBuckets,
    RMSNorm,
    Rotary,
    Sinusoidal,
    StackConfig,
)
from zoo.protein.contacts import contact_probabilities
from zoo.verbs.parity import HEAD

REFERENCES = references()
SIDES: dict[tuple[str, torch.dtype], parity.Side] = {}


def pair(reference: Reference, dtype: torch.dtype = torch.float64) -> parity.Side:
    """One saved and loaded pair serves all tests of a reference."""
    key = (str(reference), dtype)
    if key not in SIDES:
        SIDES[key] = parity.open_pair(reference, dtype)
    return SIDES[key]


@pytest.mark.parametrize("reference", REFERENCES, ids=str)
def test_logits(reference: Reference) -> None:
    for dtype, most in ((torch.float32, 1e-5), (torch.float64, parity.bound(reference))):
        side = pair(reference, dtype)
        for padding in side.compared.sides:
            assert parity.logits(side, padding) < most, (dtype, padding)


@pytest.mark.parametrize("reference", REFERENCES, ids=str)
def test_gradients(reference: Reference) -> None:
    assert parity.gradients(pair(reference)) < parity.gradient_bound(reference)


def test_contacts_of_esm2() -> None:
    """The regression on attention maps, from published weights."""
    side = pair(next(r for r in REFERENCES if str(r) == "esm2/token dropout"))
    ids = torch.randint(4, 24, (2, 9))
    ids[:, 0], ids[:, -1] = 0, 2  # start and end
    with torch.no_grad():
        theirs = side.theirs.predict_contacts(ids, torch.ones_like(ids))
    ours = contact_probabilities(side.ours.model, ids)
    assert theirs.std() > 0.001  # else anything would be near
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_the_page_of_parity_has_every_reference() -> None:
    """It is written by `zoo parity`: what it says of each is measured above."""
    page = (Path(__file__).parents[2] / "docs" / "parity.md").read_text()
    assert page.startswith(HEAD)
    assert "**" not in page.removeprefix(HEAD)  # a broken promise stands in bold
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert rows == ["reference", *map(str, REFERENCES)]


WRITERS = [r for r in REFERENCES if r.family in ("gpt2", "llama") and "classifier" not in r.name]


@pytest.mark.parametrize("reference", WRITERS, ids=str)
def test_greedy_writing_token_for_token(reference: Reference) -> None:
    theirs, cached, uncached = parity.greedy(pair(reference))
    assert theirs.unique().numel() > 3  # the writing is not one token over and over
    assert torch.equal(cached, theirs)
    assert torch.equal(uncached, theirs)


TRANSLATORS = [r for r in REFERENCES if r.family in ("marian", "bart", "t5")]


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("reference", TRANSLATORS, ids=str)
def test_searching_token_for_token(reference: Reference, width: int) -> None:
    for length_penalty in (1.0,) if width == 1 else (0.6, 2.0):
        for once in (False, True):
            theirs, ours = parity.beams(pair(reference), width, length_penalty=length_penalty, once=once)
            assert ours == theirs


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("family", ["marian", "bart", "t5"])
def test_searching_with_several_ends(family: str, width: int) -> None:
    """With tokens that stand in what is written with the model's own end alone: texts get shorter, and not all."""
    side = pair(next(r for r in TRANSLATORS if r.family == family))
    free, _ = parity.beams(side, width, once=True)
    written = sorted({token for row in free for token in row})
    shorter = 0
    for ends in combinations(written[:6], 2):
        for length_penalty in (1.0,) if width == 1 else (0.6, 2.0):
            theirs, ours = parity.beams(side, width, length_penalty=length_penalty, once=True, ends=ends)
            assert ours == theirs
            shorter += sum(len(a) < len(b) for a, b in zip(theirs, free, strict=True))
    assert shorter


# -- one knob wrong ----------------------------------------------------------------------------------------------------

# A setting of every stack of a network, or of the network itself, that is not the published one.
WRONG: dict[str, dict[str, dict[str, Any]]] = {
    "gpt2/three heads": {
        "eps": {"norm": LayerNorm(eps=2e-5)},
        "eps of the last norm": {"final_norm": LayerNorm(eps=2e-5)},
        "no last norm": {"final_norm": NoNorm()},
        "heads": {"heads": 4},
        "scale": {"scale": FixedScale(1.0)},
        "scale by layer": {"scale": HeadScale(inverse_layer=True)},
        "activation": {"activation": "gelu"},
        "scaled embeddings": {"embed_scale": True},
    },
    "bert/three heads": {
        "eps": {"norm": LayerNorm(eps=1e-5)},
        "eps of the embeddings": {"embed_norm": LayerNorm(eps=1e-5)},
        "a last norm": {"final_norm": LayerNorm()},
        "activation": {"activation": "gelu_tanh"},
        "scaled embeddings": {"embed_scale": True},
    },
    "bert/classifier of three": {"pooling": {"pool": Mean()}},
    "t5/v1.0: relu, tied, scaled": {
        "eps": {"norm": RMSNorm(eps=1e-4)},
        "norm": {"norm": LayerNorm(bias=False)},
        "scale": {"scale": HeadScale()},
        "buckets": {"position": RelativeBuckets(8, 24)},
        "activation": {"activation": "gelu"},
        "scaled head": {"head_scale": False},
        "scaled embeddings": {"embed_scale": True},
    },
    "marian/scaled embeddings, swish": {
        "order of sines": {"position": Sinusoidal("interleaved")},
        "scaled embeddings": {"embed_scale": False},
        "activation": {"activation": "gelu"},
        "a last norm": {"final_norm": LayerNorm()},
        "norm of embeddings": {"embed_norm": LayerNorm()},
    },
    "bart/three heads": {
        "offset of places": {"position": Learned(33, offset=1)},
        "no norm of embeddings": {"embed_norm": NoNorm()},
        "eps": {"norm": LayerNorm(eps=2e-5)},
        "scaled embeddings": {"embed_scale": True},
    },
    "llama/grouped heads": {
        "theta": {"position": Rotary(500.0)},
        "stretch": {"position": Rotary(stretch=EvenStretch(1.5))},
        "eps": {"norm": RMSNorm(eps=1e-4)},
        "activation": {"activation": "gelu"},
    },
    "llama/long stretch, tied": {
        "no stretch": {"position": Rotary(100.0)},
        "stretch of all": {"position": Rotary(100.0, EvenStretch(8.0))},
        "its bound": {"position": Rotary(100.0, LongStretch(factor=8.0, low=1.0, high=8.0, length=16))},
        "its length": {"position": Rotary(100.0, LongStretch(factor=8.0, low=1.0, high=4.0, length=32))},
    },
    "vit/three heads": {
        "eps": {"norm": LayerNorm(eps=1e-6)},
        "pooling": {"pool": Mean()},
        "heads": {"heads": 2},
        "activation": {"activation": "gelu_tanh"},
    },
    "timm/deit III, registers, query norms": {
        "eps": {"norm": LayerNorm(eps=1e-5)},
        "norm of queries": {"qk_norm": NoNorm()},
        "gains": {"layer_scale": None},
        "pooling": {"pool": Mean()},
    },
    "timm/mean, no class token": {"norm before the mean": {"final_norm": LayerNorm(eps=1e-6)}},
    "esm2/token dropout": {
        "token dropout": {"token_dropout": False},
        "theta": {"position": Rotary(500.0)},
        "eps": {"norm": LayerNorm(eps=1e-3)},
    },
    "musicgen/four codebooks": {
        "order of sines": {"position": Sinusoidal("halves")},
        "scaled embeddings": {"embed_scale": True},
        "activation": {"activation": "relu"},
        "eps": {"norm": LayerNorm(eps=1e-3)},
    },
}


@torch.no_grad()
def with_wrong(side: parity.Side, change: dict[str, Any]) -> parity.Side:
    """The same weights, as far as it has them, in a network with another setting."""
    settings = dict(side.ours.model.settings)
    stacked = {field.name for field in fields(StackConfig)} | {"activation"}
    for name, value in settings.items():
        if isinstance(value, StackConfig):
            changed = {k: v for k, v in change.items() if k in stacked and k != "activation"}
            if "activation" in change:
                changed["ffn"] = replace(value.ffn, activation=change["activation"])
            settings[name] = value.replace(**changed)
    network = type(side.ours.model)(**settings | {k: v for k, v in change.items() if k in settings})
    network.to(torch.float64).load_state_dict(side.ours.model.state_dict(), strict=False)
    return replace(side, ours=replace(side.ours, model=network.eval()))


@pytest.mark.parametrize(("reference", "knob"), [(r, k) for r, knobs in WRONG.items() for k in knobs])
def test_a_wrong_knob_is_seen(reference: str, knob: str) -> None:
    found = next(r for r in REFERENCES if str(r) == reference)
    wrong = with_wrong(pair(found), WRONG[reference][knob])
    assert parity.logits(wrong, "none") > 3 * parity.bound(found)
