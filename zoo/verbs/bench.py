"""`zoo bench SUITE`: races against other libraries, their table, a file of figures, and bounds that can fail."""

import importlib
import json
import shlex
import sys
import time
from pathlib import Path

from zoo.atomic import write_atomically
from zoo.bench import SUITES
from zoo.errors import UserError, nearest
from zoo.options import Options, check_ours


def main(argv: list[str]) -> int:
    parser = Options(prog="zoo bench", description="Measure speed side by side: ratios of medians, below 1 is faster.")
    parser.add_argument("suite", help=" or ".join(SUITES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to FILE")
    parser.add_argument("--check", action="store_true", help="a bound that is missed is an error (exit code 1)")
    parser.add_argument("--save", action="store_true", help="attend: make the table that attention goes by from now on")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each candidate (default 7, at least 5)")
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument("--dtype", action="append", choices=["float32", "bfloat16"], help="default: what is fast here")
    parser.add_argument("--device", default=None, help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--quick", action="store_true", help="few and small cases, to see that all of it runs")
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory")
    given = parser.parse_args(argv)
    if given.suite not in SUITES:
        raise UserError(f"unknown suite {given.suite!r}{nearest(given.suite, list(SUITES))}")
    if given.rounds < 5:
        raise UserError(f"--rounds must be at least 5 for a median to mean something, got {given.rounds}")
    if given.save and given.suite != "attend":
        raise UserError("--save belongs to 'zoo bench attend': it writes the table of attention kernels")
    if given.json:
        check_ours("--json", given.json, '{\n "command": "zoo bench')
    import torch

    from zoo.bench import harness
    from zoo.core import heap
    from zoo.provenance import commit, device_name
    from zoo.weights.load import device_of

    heap.keep()  # as `zoo fit` does; for everybody
    suite = importlib.import_module(SUITES[given.suite])
    device = device_of(given.device)
    fast = {harness.HALF_UNITS, harness.CUDA} & harness.machine()
    names = given.dtype or (["bfloat16", "float32"] if fast else ["float32"])
    if not given.dtype and not fast:
        print(
            "bfloat16 is left out: this processor has no units for it (--dtype bfloat16 asks for it)", file=sys.stderr
        )
    about: dict[str, object] = {
        "command": shlex.join(["zoo", "bench", *argv]),
        "commit": commit(),
        "device": device_name(device),
        "machine": sorted(harness.machine()),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "seed": 0,
    }
    begin, results = time.time(), []
    for name in names:
        for race in suite.races(getattr(torch, name), device, quick=given.quick):
            if given.only not in race.case:
                continue
            result = harness.run(race, rounds=given.rounds, device=device, memory=not given.no_memory)
            results.append(result)
            print(harness.table([result]), flush=True)
            about["seconds"] = round(time.time() - begin, 1)
            if given.json:  # after every case: who breaks off has what was measured
                given.json.parent.mkdir(parents=True, exist_ok=True)
                plain = about | harness.to_plain(results, suite.BOUNDS)
                write_atomically(given.json, json.dumps(plain, indent=1) + "\n")
    if not results:
        raise UserError(f"--only {given.only!r}: no case of this suite has that in its name")
    judged = harness.judge(results, suite.BOUNDS)
    for bound, case, ratio, kept in judged:
        word = {True: "kept", False: "MISSED", None: f"not checked, it is for {bound.machine}"}[kept]
        print(f"bound: {bound.ours} at most {bound.at_most} of {bound.reference}: {ratio:.3f} in {case}: {word}")
    if given.save:
        from zoo.core.kernels import thresholds_file

        suite.save(results, thresholds_file(), about)
        print(f"written: {thresholds_file()}")
    return 1 if given.check and any(kept is False for *_, kept in judged) else 0
