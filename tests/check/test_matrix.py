"""The table of promises: what stands in the repository is what the command measures."""

import re
from pathlib import Path

import pytest

from tests.core.architectures import ARCH, FULL_SIZE
from zoo.check import promises
from zoo.check.matrix import COLUMNS, Finding, markdown, measure, recurrent
from zoo.check.tiny import tiny
from zoo.verbs.matrix import main

DOC = Path(__file__).parents[2] / "docs" / "matrix.md"


def rows(table: str) -> dict[str, list[str]]:
    lines = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")][2:]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_the_table_in_the_documents_is_whole_and_all_kept() -> None:
    text = DOC.read_text()
    assert rows(text).keys() == (FULL_SIZE | recurrent()).keys()
    assert "**" not in text
    for name in COLUMNS:
        assert f"| {name} |" in text


@pytest.mark.parametrize("name", ["bert_base/stack", "t5_small/decoder", "lstm/causal+cross"])
def test_the_table_in_the_documents_is_what_is_measured(name: str) -> None:
    now = rows(markdown(measure({name: (FULL_SIZE | recurrent())[name]})))[name]
    then = rows(DOC.read_text())[name]
    # how far sums of another order lie apart is the processor's affair, as long as it is below the bound
    blank = re.compile(r"\de-1\d")
    assert [blank.sub("", cell) for cell in now] == [blank.sub("", cell) for cell in then]


def test_a_broken_promise_is_bold_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.yaml").write_text((ARCH / "gpt2_small.yaml").read_text())
    monkeypatch.setattr("zoo.check.matrix.recurrent", dict)
    assert main([str(tmp_path), "--out", str(tmp_path / "table.md")]) == 0
    assert "one/stack" in (tmp_path / "table.md").read_text()
    monkeypatch.setattr(promises, "amount", lambda config: 1.0)
    assert main([str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "**1e+00**" in out
    assert "broken: one/stack: more padding" in err


def test_that_a_cache_is_refused_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    cached, bert = COLUMNS["cached - uncached"], tiny(FULL_SIZE["bert_base/stack"])
    assert cached(bert) == Finding("refused", True)
    monkeypatch.setattr(promises, "Cache", lambda stack, batch, capacity: None)  # one that takes any stack
    assert cached(bert) == Finding("made", False)


def test_a_folder_without_architectures_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no architecture"):
        main([str(tmp_path)])
