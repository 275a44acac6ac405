"""The built-in family: drawn from the model exactly, with an entropy and contacts that are known."""

import itertools

import numpy as np
import pytest

from zoo.protein import potts
from zoo.protein.potts import SEPARATION, Family, plant
from zoo.protein.structures import precision


def small() -> Family:
    """Six positions of three kinds: every sequence can be listed."""
    random = np.random.default_rng(0)
    return Family(random.permutation(6), random.normal(size=(6, 3, 3)))


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Family:
    monkeypatch.setattr(potts, "KINDS", 3)
    return small()


def every(family: Family) -> np.ndarray:
    return np.array(list(itertools.product(range(3), repeat=family.length)))


def log_probability(family: Family, sequences: np.ndarray) -> np.ndarray:
    """Nats of whole sequences "s n": "s". All of them together weigh the trace of the product of the edges' weights."""
    total = np.log(np.trace(np.linalg.multi_dot(np.exp(family.energies))))
    ring = sequences[:, family.order]
    after = np.roll(ring, -1, 1)
    return sum(e[ring[:, k], after[:, k]] for k, e in enumerate(family.energies)) - total


def test_probabilities_of_all_sequences_sum_to_one(three: Family) -> None:
    assert np.exp(log_probability(three, every(three))).sum() == pytest.approx(1)


def test_sequences_come_as_often_as_their_probability_says(three: Family) -> None:
    p = np.exp(log_probability(three, every(three)))
    drawn = three.sample(200_000, seed=1) @ 3 ** np.arange(6)[::-1]
    share = np.bincount(drawn, minlength=len(p)) / 200_000
    assert np.abs(share - p).max() < 5 * np.sqrt(p.max() / 200_000)
    assert np.corrcoef(share, p)[0, 1] > 0.99


def test_the_conditional_is_the_models(three: Family) -> None:
    """Against Bayes over all values of one residue, by brute force."""
    sequences = three.sample(20, seed=2)
    for position in range(6):
        others = [sequences.copy() for _ in range(3)]
        for kind in range(3):
            others[kind][:, position] = kind
        p = np.exp([log_probability(three, o) for o in others])
        right = np.log(p / p.sum(0))[sequences[:, position], np.arange(20)]
        np.testing.assert_allclose(three.conditional(sequences)[:, position], right, atol=1e-9)


def test_contacts_are_as_said() -> None:
    family = plant(32, strength=5.0, seed=1)
    touch = family.contacts()
    assert (touch.sum(0) == 2).all()  # degree 2
    assert touch.sum() // 2 == 32  # as many contacts as positions
    assert min(abs(i - j) for i, j in family.edges) >= SEPARATION
    assert (family.pair_energies()[~touch] == 0).all()
    for energy in family.energies:  # one to one
        assert (energy > 0).sum(0).tolist() == (energy > 0).sum(1).tolist() == [1] * 20
    other = plant(32, strength=5.0, seed=2)
    assert other.edges != family.edges
    assert np.array_equal(plant(32, strength=5.0, seed=1).sample(5, 3), family.sample(5, 3))


def test_a_single_residue_says_nothing() -> None:
    drawn = plant(16, strength=3.0, seed=1).sample(40_000, seed=0)
    share = np.stack([(drawn == kind).mean(0) for kind in range(20)])
    assert np.abs(share - 0.05).max() < 0.007


def test_precision_counts_pairs_far_enough_apart_once() -> None:
    contacts = plant(20, strength=3.0, seed=1).contacts()
    assert precision(contacts.astype(float), contacts, separation=SEPARATION, top=20)[0] == 1.0
    found, chance = precision(-contacts.astype(float), contacts, separation=SEPARATION, top=20)
    assert found == 0
    assert chance == pytest.approx(20 / (16 * 17 / 2))


@pytest.mark.parametrize("wrong", [{"length": 8}, {"strength": 0.0}])
def test_a_family_that_cannot_be_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        plant(**({"length": 20, "strength": 3.0, "seed": 1} | wrong))
