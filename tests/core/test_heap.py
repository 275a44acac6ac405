"""Memory that is freed stays with a training."""

import pytest

from zoo.core import heap


def test_memory_stays_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    class Library:
        def __init__(self, name: None) -> None:
            pass

        def mallopt(self, option: int, value: int) -> int:
            asked.append((option, value))
            return 1

    monkeypatch.setattr("ctypes.CDLL", Library)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    heap.keep()
    assert not asked
    monkeypatch.delenv("MALLOC_ARENA_MAX")
    heap.keep()
    assert [option for option, _ in asked] == [heap.M_MMAP_THRESHOLD, heap.M_TRIM_THRESHOLD]
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())  # another C library
    heap.keep()
