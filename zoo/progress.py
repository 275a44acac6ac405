"""One progress bar for all that takes longer than a second: on stderr, in a terminal alone."""

from collections.abc import Iterable
from typing import Any, TypeVar

T = TypeVar("T")


def bar(
    items: Iterable[T] | None = None, doing: str = "", unit: str = "it", *, total: int | None = None, **more: Any
) -> Any:
    """A bar of tqdm's over `items`, or over `total` steps that its `update` counts; none where nothing is `doing`.

    What is logged or piped gets no bar: one that cannot be drawn over itself would fill a file.
    """
    from tqdm import tqdm

    shown = {"disable": None if doing else True, "delay": 1, "mininterval": 0.5, "leave": False}
    return tqdm(items, desc=doing, unit=unit, total=total, **(shown | more))
