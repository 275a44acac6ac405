"""Corruptions: what they choose, how often, and that nothing is lost."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.corruption import IGNORED, draw_spans, drop_spans, fill_spans, mask_tokens

MASK, LOW, HIGH = 3, 10, 60


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(
    st.integers(0, 10_000),
    st.integers(1, 5),
    st.integers(1, 30),
    st.floats(0.01, 1.0),
    st.sampled_from([0.0, 0.4, 1.0]),
)
def test_masking_chooses_what_it_may_and_says_what_stood_there(
    seed: int, rows: int, length: int, rate: float, share: float
) -> None:
    ids = torch.randint(LOW, HIGH, (rows, length), generator=seeded(seed))
    may = torch.rand(rows, length, generator=seeded(seed + 1)) < share
    before = ids.clone()
    masked = mask_tokens(ids, may, mask=MASK, random=(LOW, HIGH), rate=rate, generator=seeded(seed))
    assert torch.equal(ids, before)
    chosen = masked.labels != IGNORED
    assert not (chosen & ~may).any()
    assert torch.equal(masked.labels[chosen], ids[chosen])
    assert torch.equal(masked.ids[~chosen], ids[~chosen])
    for row in range(rows):
        count = int(may[row].sum())
        assert (
            int(chosen[row].sum()) == (max(round(rate * count), 1) if count else 0)
            or abs(rate * count % 1 - 0.5) < 1e-4
        )
    again = mask_tokens(ids, may, mask=MASK, random=(LOW, HIGH), rate=rate, generator=seeded(seed))
    assert torch.equal(again.ids, masked.ids)
    assert torch.equal(again.labels, masked.labels)


def test_the_shares_of_masks_random_tokens_and_kept_ones() -> None:
    ids = torch.full((200, 200), LOW)
    masked = mask_tokens(ids, torch.ones_like(ids).bool(), mask=MASK, random=(LOW + 1, HIGH), generator=seeded(0))
    chosen = masked.labels != IGNORED
    assert int(chosen.sum()) == 200 * 30
    found = masked.ids[chosen]
    for share, hits in {0.8: found == MASK, 0.1: found > LOW}.items():
        assert float(hits.float().mean()) == pytest.approx(share, abs=0.02)
    drawn = found[found > LOW]
    assert set(drawn.tolist()) == set(range(LOW + 1, HIGH))  # every token of the range, none beyond
    places = chosen.float().mean(0)
    assert float(places.std()) < 0.05  # no place is preferred: 0.15 with a deviation of 0.025
    assert float(places.mean()) == pytest.approx(0.15)


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"rate": 1.1}, {"shares": (0.9, 0.2)}, {"shares": (-0.1, 0.2)}])
def test_masking_refuses_what_makes_no_sense(wrong: dict) -> None:
    ids = torch.zeros(1, 4, dtype=torch.long)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        mask_tokens(ids, ids == 0, mask=MASK, random=(LOW, HIGH), **wrong)


@given(st.integers(2, 300), st.integers(0, 10_000), st.floats(0.02, 0.9), st.floats(1.0, 10.0))
def test_spans_cover_the_density_and_stand_apart(length: int, seed: int, density: float, mean: float) -> None:
    spans = draw_spans(length, np.random.default_rng(seed), density=density, mean=mean)
    noise = min(max(round(length * density), 1), length - 1)
    assert sum(end - begin for begin, end in spans) == noise
    assert len(spans) == min(max(round(noise / mean), 1), length - noise + 1)
    assert spans[0][0] >= 0
    assert spans[-1][1] <= length
    assert all(begin < end for begin, end in spans)
    assert all(a[1] < b[0] for a, b in pairwise(spans))
    assert spans == draw_spans(length, np.random.default_rng(seed), density=density, mean=mean)


def test_every_choice_of_spans_is_drawn_equally_often() -> None:
    random = np.random.default_rng(0)
    drawn = [tuple(draw_spans(6, random, density=0.5, mean=1.5)) for _ in range(6000)]  # 3 tokens in 2 spans, 3 left
    counts = {found: drawn.count(found) for found in set(drawn)}
    assert len(counts) == 2 * 6
    assert max(counts.values()) < 1.35 * min(counts.values())


@given(st.lists(st.integers(0, 50), min_size=2, max_size=60), st.data())
def test_dropped_spans_are_put_back_without_loss(ids: list[int], data: st.DataObject) -> None:
    """For any spans that stand apart, wherever they lie."""
    dropped = data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    edges = np.flatnonzero(np.diff([0, *map(int, dropped), 0]))
    spans = [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
    sentinels = list(range(199, 99, -1))
    source, target = drop_spans(ids, spans, sentinels)
    assert fill_spans(source, target, sentinels) == ids
    count = len(spans)
    assert [t for t in source if t >= 100] == sentinels[:count]  # in order, each once
    assert [t for t in target if t >= 100] == sentinels[: count + 1]
    assert target[-1] == sentinels[count]
    assert [t for t in target if t < 100] == [i for i, gone in zip(ids, dropped, strict=True) if gone]


def test_the_example_of_the_paper() -> None:
    words = "Thank you for inviting me to your party last week".split()
    source, target = drop_spans(words, [(2, 4), (8, 9)], ["<X>", "<Y>", "<Z>"])  # type: ignore[arg-type]
    assert " ".join(map(str, source)) == "Thank you <X> me to your party <Y> week"
    assert " ".join(map(str, target)) == "<X> for inviting <Y> last <Z>"


@pytest.mark.parametrize("spans", [[(2, 2)], [(0, 3), (3, 4)], [(3, 4), (1, 2)], [(4, 7)], [(-1, 2)]])
def test_spans_that_cannot_be_told_apart_are_refused(spans: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="does not stand apart"):
        drop_spans([1] * 6, spans, [99, 98, 97])


def test_too_few_sentinels_or_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="2 spans need 3 sentinels, there are 2"):
        drop_spans([1] * 6, [(1, 2), (3, 4)], [99, 98])
    with pytest.raises(ValueError, match="too few to drop some"):
        draw_spans(1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="density"):
        draw_spans(9, np.random.default_rng(0), density=1.0)


def test_what_a_model_wrote_may_lack_a_sentinel() -> None:
    assert fill_spans([1, 99, 2, 98, 3], [99, 7, 8], [99, 98, 97]) == [1, 7, 8, 2, 3]
