"""Batches by a budget of tokens, whose order is a pure function of (seed, epoch)."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.batches import TokenBudgetSampler

pairs = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=60)


def lengths(count: int = 300) -> list[tuple[int, int]]:
    random.seed(3)
    return [(random.randint(2, 30), random.randint(2, 30)) for _ in range(count)]


@given(pairs, st.integers(1, 120), st.integers(0, 5))
def test_every_item_once_and_within_the_budget(items: list[tuple[int, int]], budget: int, epoch: int) -> None:
    batches = TokenBudgetSampler(items, budget, seed=1).batches(epoch)
    assert sorted(i for batch in batches for i in batch) == list(range(len(items)))
    for batch in batches:
        assert batch
        assert sum(sum(items[i]) for i in batch) <= budget or len(batch) == 1


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    items = lengths()

    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = TokenBudgetSampler(items, 200, seed=seed)
        sampler.epoch = epoch
        random.seed()  # no generator of the process has a say
        np.random.seed()
        return list(sampler)

    assert order(1, 0) == order(1, 0)
    assert order(1, 3) == order(1, 3)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_what_stands_together_changes_between_epochs() -> None:
    """Equal lengths change places: batches are not the same sets again and again."""
    items = [(4, 4)] * 100
    sampler = TokenBudgetSampler(items, 80, seed=1)
    assert {frozenset(b) for b in sampler.batches(0)} != {frozenset(b) for b in sampler.batches(1)}


def test_an_interrupted_epoch_goes_on_where_it_stopped_and_only_once() -> None:
    sampler = TokenBudgetSampler(lengths(), 200, seed=1)
    whole = list(sampler)
    sampler.skip = 7
    assert list(sampler) == whole[7:]
    assert list(sampler) == whole


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_an_epoch_and_take_equally_many_steps(world: int) -> None:
    items = lengths()
    ranks = [TokenBudgetSampler(items, 200, seed=1, rank=r, world=world) for r in range(world)]
    alone = TokenBudgetSampler(items, 200, seed=1).batches(2)
    parts = [rank.batches(2) for rank in ranks]
    assert {len(part) for part in parts} == {len(ranks[0])} == {len(alone) // world}
    merged = [batch for step in zip(*parts, strict=True) for batch in step]
    assert merged == alone[: len(merged)]  # together one step's batches are those that one process takes in turn


def test_without_shuffling_short_comes_first_and_ranks_leave_nothing_out() -> None:
    items = lengths(101)
    sampler = TokenBudgetSampler(items, 100, shuffle=False)
    flat = [items[i][1] for batch in sampler for i in batch]
    assert flat == sorted(flat)
    ranks = [TokenBudgetSampler(items, 100, shuffle=False, rank=r, world=3) for r in range(3)]
    assert sorted(i for rank in ranks for batch in rank for i in batch) == list(range(101))
    assert [len(rank) for rank in ranks] == [len(list(rank)) for rank in ranks]


def test_batches_hold_little_padding() -> None:
    """What buckets are for: random batches of these lengths are 55 % full, these above 85 %."""
    items = lengths(2000)

    def full(batches: list[list[int]]) -> float:
        real = sum(items[i][1] for batch in batches for i in batch)
        return real / sum(len(batch) * max(items[i][1] for i in batch) for batch in batches)

    assert full(TokenBudgetSampler(items, 600, seed=1).batches(0)) > 0.85


@pytest.mark.parametrize(("options", "message"), [({"budget": 0}, "at least one"), ({"rank": 2, "world": 2}, "below")])
def test_senseless_settings_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenBudgetSampler([1, 2], **({"budget": 5} | options))


def test_no_rank_is_left_without_a_batch() -> None:
    """One batch and three ranks: a rank with nothing to do would let the others wait for ever.

    In training they would all see the same batch, and the others never: that is refused.
    """
    for rank in range(3):
        sampler = TokenBudgetSampler([2, 3], 100, shuffle=False, rank=rank, world=3)
        assert len(sampler) == len(list(sampler)) == 1
    with pytest.raises(ValueError, match="2 batches for 3 processes"):
        TokenBudgetSampler([2, 3], 3, rank=0, world=3)
