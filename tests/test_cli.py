"""The entry: verbs, exit codes, one line for a user's fault and a traceback for ours."""

import os
import subprocess
import sys
import time
import types
from collections.abc import Callable

import pytest

import zoo
from zoo.cli import VERBS, Verb, main
from zoo.errors import TrainingError, UserError


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[list[str]], int]], None]:
    """Install a function as the verb `probe`."""

    def install(run: Callable[[list[str]], int]) -> None:
        module = types.ModuleType("probe_verb")
        module.main = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "probe_verb", module)
        monkeypatch.setitem(VERBS, "probe", Verb("probe_verb", "a probe"))

    return install


def raising(error: BaseException) -> Callable[[list[str]], int]:
    def run(argv: list[str]) -> int:
        raise error

    return run


def test_help_is_quick_and_names_every_verb() -> None:
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "zoo", "--help"], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 0.3
    assert all(f"\n  {name} " in done.stdout for name in VERBS)
    assert done.stderr == ""


def test_import_and_help_load_no_torch() -> None:
    code = (
        "import sys, zoo, zoo.cli; zoo.cli.main(['--help']); print(sorted(set(sys.modules) & {'torch', 'lightning'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_verb_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("usage: zoo VERB")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"zoo {zoo.__version__}\n"


def test_an_unknown_verb_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transalte"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "zoo transalte: unknown verb 'transalte'; did you mean 'translate'?\n"


def test_a_verb_gets_its_arguments_and_gives_its_exit_code(verb: Callable[..., None]) -> None:
    got: list[str] = []

    def run(argv: list[str]) -> int:
        got.extend(argv)
        return 7

    verb(run)
    assert main(["probe", "a", "--b"]) == 7
    assert got == ["a", "--b"]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("file x,\nline 3"), 2, "zoo probe: file x, line 3\n"),
        (TrainingError("step 5: the loss is nan"), 1, "zoo probe: step 5: the loss is nan\n"),
        (FileNotFoundError(2, "No such file", "gone.txt"), 2, "zoo probe: gone.txt: No such file\n"),
        (PermissionError(13, "Permission denied", "shut.txt"), 2, "zoo probe: shut.txt: Permission denied\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_faults_are_one_line_with_an_exit_code(
    verb: Callable[..., None], capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    verb(raising(error))
    assert main(["probe"]) == code
    assert capsys.readouterr() == ("", line)


def test_a_bug_keeps_its_traceback(verb: Callable[..., None]) -> None:
    verb(raising(ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError):
        main(["probe"])


def test_a_reader_that_goes_away_is_no_fault() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "--help"], check=False, stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_of_fit_names_its_own_options_and_where_the_settings_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--help"]) == 0
    said = capsys.readouterr().out
    for option in ("--config", "--run", "--resume", "--init-from", "--print_config", "--help-settings"):
        assert option in said
    assert len(said.splitlines()) < 25
