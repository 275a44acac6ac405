"""Bars are for terminals; what is logged gets lines, or nothing."""

import io

from zoo.progress import bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_drawn_in_a_terminal_alone() -> None:
    for file, drawn in ((Terminal(), True), (io.StringIO(), False)):
        assert list(bar(range(3), "counting", file=file, delay=0, mininterval=0)) == [0, 1, 2]
        assert ("counting" in file.getvalue()) == drawn


def test_nothing_that_is_done_gets_no_bar() -> None:
    file = Terminal()
    with bar(total=2, file=file, delay=0) as shown:
        shown.update(2)
    assert file.getvalue() == ""
