"""Windows: every place counts once, with context on both sides."""

import pytest

from zoo.protein.windows import cuts


@pytest.mark.parametrize("size", [1, 9, 10, 11, 17, 25, 100, 8386])
@pytest.mark.parametrize(("longest", "overlap"), [(10, 4), (10, 0), (512, 128), (7, 6)])
def test_every_place_counts_once(size: int, longest: int, overlap: int) -> None:
    found = cuts(size, longest, overlap)
    counted = [place for cut in found for place in range(cut.first, cut.last)]
    assert counted == list(range(size))
    assert all(0 <= c.begin <= c.first < c.last <= c.end <= size for c in found)
    assert {c.end - c.begin for c in found} == {min(size, longest)}
    for cut in found:  # context wherever the chain goes on
        assert cut.begin == 0 or cut.first - cut.begin >= overlap // 2
        assert cut.end == size or cut.end - cut.last >= overlap // 2


def test_what_fits_is_one_window() -> None:
    assert cuts(10, 10, 4) == [(0, 10, 0, 10)]


def test_an_overlap_that_leaves_no_way_forward() -> None:
    with pytest.raises(ValueError, match="below the window"):
        cuts(20, 10, 10)
