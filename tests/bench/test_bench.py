"""The harness of the races: medians of interleaved turns, bounds that hold or fail, a table for the kernels."""

import json
import time
from pathlib import Path

import pytest
import torch

from zoo.bench import harness
from zoo.bench.harness import Bound, Race, Result, judge, peak_bytes, run
from zoo.bench.kernels import PRODUCTS, multiplier, thresholds
from zoo.cli import main
from zoo.core.kernels import load_choices

CPU = torch.device("cpu")


def sleeper(seconds: float, log: list[str], name: str):
    def step() -> None:
        log.append(name)
        time.sleep(seconds)

    return lambda: step


def test_turns_alternate_and_ratios_are_of_medians() -> None:
    log: list[str] = []
    race = Race("sleep", {"a": sleeper(0.02, log, "a"), "b": sleeper(0.04, log, "b")})
    result = run(race, rounds=5, device=CPU, least=0.001)
    assert log[4:] == ["a", "b", "b", "a"] * 2 + ["a", "b"]
    assert result.ratio("b") == pytest.approx(2, rel=0.2)
    assert result.ratio("a", "b") == pytest.approx(0.5, rel=0.2)
    assert result.to_plain()["candidates"]["b"]["rounds"] == 5


def test_one_slow_turn_moves_no_median() -> None:
    result = Result("x", {"a": [1, 1, 1, 1, 50], "b": [2, 2, 2, 2, 2]}, {})
    assert result.ratio("b") == 2


def test_peak_memory_is_what_stands_at_once() -> None:
    def step() -> None:
        for _ in range(3):
            torch.zeros(1_000_000)

    assert peak_bytes(step, CPU) == pytest.approx(4e6, rel=0.01)
    assert peak_bytes(lambda: [torch.zeros(1_000_000) for _ in range(3)], CPU) == pytest.approx(12e6, rel=0.01)


def test_work_a_second_stands_beside_the_time() -> None:
    result = Result(
        "case", {"peer": [2.0, 4.0, 3.0], "zoo": [1.0, 2.0, 1.5]}, {"peer": 2**21, "zoo": 2**20}, 600, "images"
    )
    plain = result.to_plain()
    assert [plain["candidates"][name]["per_second"] for name in ("peer", "zoo")] == [200, 400]
    said = harness.table([result])
    assert "peer 3e+03 ms (2 MiB, 200 images/s) = 1; zoo 0.50 (1 MiB, 400 images/s)" in said
    bare = Result("case", {"peer": [1.0], "zoo": [1.0]}, {})
    assert bare.to_plain()["candidates"]["zoo"]["per_second"] is None
    assert harness.table([bare]).endswith("peer 1e+03 ms = 1; zoo 1.00")


def test_bounds_hold_fail_or_wait_for_their_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "machine", lambda: {"here"})
    result = Result("case one", {"peer": [1.0], "zoo": [0.9]}, {})
    bounds = [
        Bound("case", "zoo", "peer", 0.95),
        Bound("case", "zoo", "peer", 0.8, "here"),
        Bound("case", "zoo", "peer", 0.8, "elsewhere"),
        Bound("other", "zoo", "peer", 0.8),
    ]
    assert [kept for *_, kept in judge([result], bounds)] == [True, False, None]


@pytest.mark.parametrize(("bound", "code"), [(1000.0, 0), (0.0001, 1)])
def test_a_missed_bound_is_an_error_where_it_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bound: float, code: int
) -> None:
    monkeypatch.setattr("zoo.bench.core.BOUNDS", (Bound("norm", "RMSNorm", "LayerNorm", bound),))
    options = [
        "bench",
        "core",
        "--quick",
        "--only",
        "norm inference",
        "--rounds",
        "5",
        "--json",
        str(tmp_path / "r.json"),
    ]
    assert main(options) == 0
    assert main([*options, "--check"]) == code
    plain = json.loads((tmp_path / "r.json").read_text())
    assert plain["bounds"][0]["kept"] is (code == 0)
    assert plain["results"][0]["candidates"].keys() == {"LayerNorm", "RMSNorm", "torch's RMSNorm"}
    assert {"command", "commit", "seed", "device", "seconds"} <= plain.keys()


def test_every_case_runs(device: torch.device) -> None:
    from zoo.bench import core

    cases = [race.case for race in core.races(torch.float32, device, quick=True)]
    assert len(cases) == len(set(cases))
    for race in core.races(torch.float32, device, quick=True):
        if "language" not in race.case and "LM" not in race.case:
            for make in race.entries.values():
                make()()


def test_the_verb_measures_on_the_device(device: torch.device, capsys: pytest.CaptureFixture[str]) -> None:
    """One case on a CPU, with its memory; on CUDA all of them, in both types of numbers."""
    few = ["--only", "norm inference", "--dtype", "float32"] if device.type == "cpu" else []
    assert main(["bench", "core", "--quick", "--rounds", "5", "--device", device.type, *few]) == 0
    assert "norm inference float32" in capsys.readouterr().out


def test_every_suite_has_a_test_that_runs_it() -> None:
    from zoo.bench import SUITES

    tested = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert set(SUITES) - {"core", "attend"} <= tested  # those two are run in this file


def test_a_table_of_kernels_is_written_where_attention_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZOO_KERNELS", str(tmp_path / "deep" / "kernels.json"))
    assert main(["bench", "attend", "--quick", "--rounds", "5", "--save", "--only", "e 16 T 64", "--no-memory"]) == 0
    load_choices(tmp_path / "deep" / "kernels.json")
    assert "products" not in json.loads((tmp_path / "deep" / "kernels.json").read_text())  # those were not raced
    assert "kernels.json" in capsys.readouterr().out


def test_rows_say_up_to_which_length_a_kernel_wins() -> None:
    def raced(width: int, length: int, explicit: float) -> Result:
        seconds = {"fused": [1.0] * 5, "explicit": [explicit] * 5}
        return Result(f"float32 training e {width} T {length}", seconds, {})

    results = [raced(16, n, 1.5) for n in (64, 128)] + [raced(64, 64, 0.5), raced(64, 128, 0.5), raced(64, 256, 0.95)]
    rows = [(r.min_width, r.max_width, r.max_length, r.kernel) for r in thresholds(results)]
    assert rows == [(17, 256, 128, "explicit"), (17, 256, 256, "fused")]


def test_rows_behind_blocks_are_those_without_them() -> None:
    seconds = {"fused": [1.0] * 5, "explicit": [0.6] * 5, "blocks": [0.3] * 5}
    rows = thresholds([Result("bfloat16 training e 64 T 128", seconds, {})])
    assert [(row.kernel, row.max_length) for row in rows] == [("blocks", 128), ("explicit", 128)]


@pytest.mark.parametrize(("share", "library"), [(0.8, "onednn"), (0.95, "torch")])
def test_who_multiplies_is_who_clearly_saves_time(share: float, library: str) -> None:
    def raced(rows: int, share: float) -> Result:
        return Result(f"{PRODUCTS} of {rows} rows", {"torch": [1.0] * 5, "onednn": [share] * 5}, {})

    assert multiplier([raced(1, share), raced(128, share)]) == library
    assert multiplier([raced(1, share / 2), raced(128, share * 2)]) == library
    assert multiplier([]) is None
    assert thresholds([raced(1, share)]) == []


def test_products_are_raced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_KERNELS", str(tmp_path / "kernels.json"))
    given = ["--dtype", "float32", "--quick", "--rounds", "5", "--save", "--only", "of 128 rows", "--no-memory"]
    assert main(["bench", "attend", *given]) == 0
    assert load_choices(tmp_path / "kernels.json").products in ("torch", "onednn")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["cor"], "unknown suite 'cor'; did you mean 'core'?"),
        (["core", "--rounds", "3"], "--rounds must be at least 5"),
        (["core", "--save"], "--save belongs to 'zoo bench attend'"),
        (["core", "--only", "nonesuch", "--quick"], "no case of this suite has that in its name"),
    ],
)
def test_a_wrong_option_is_one_line(capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    assert main(["bench", *options]) == 2
    assert message in capsys.readouterr().err
