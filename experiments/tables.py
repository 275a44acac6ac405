"""Tables of results, made from the result files, set into the documents between their marks.

    python experiments/tables.py            rewrites every marked table
    python experiments/tables.py --check    exit code 1 where a table is not what the files say

A mark is `<!-- table: NAME -->`, closed by `<!-- end -->`; NAME is a function of TABLES.
"""

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

HERE = Path(__file__).parent
DOCUMENTS = ("README.md", "docs/design.md", "docs/speed.md", "experiments/*/README.md")
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def results(topic: str, pattern: str = "*.json") -> list[dict[str, Any]]:
    files = sorted((HERE / topic / "results").glob(pattern))
    return [json.loads(path.read_text()) | {"file": f"experiments/{topic}/results/{path.name}"} for path in files]


def rows(head: list[str], body: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in body]) + "\n"


def over_seeds(found: list[float], digits: int) -> str:
    """Mean and deviation where there are three or more, else each."""
    if len(found) > 2:
        return f"{mean(found):.{digits}f} +- {stdev(found):.{digits}f}"
    return ", ".join(f"{one:.{digits}f}" for one in found) or "not yet run"


def multi30k() -> str:
    body = [
        [
            run["name"],
            f"{run['parameters'] / 1e6:.1f} M",
            ", ".join(f"{name.removeprefix('test_')} {test['bleu']:.1f}" for name, test in run["tests"].items()),
            ", ".join(f"{test['chrf']:.1f}" for test in run["tests"].values()),
            f"{run['steps']:,}",
            f"{run['seconds'] / 60:.0f} min",
            run["device"],
        ]
        for run in results("multi30k")
    ]
    return rows(["run", "parameters", "sacreBLEU", "chrF", "steps", "time", "device"], body)


def shakespeare() -> str:
    body = [
        [
            run["name"],
            f"{run['parameters'] / 1e6:.1f} M",
            f"{run['tests']['test']['nll']:.3f}",
            f"{run['steps']:,}",
            f"{run['seconds'] / 60:.0f} min",
            run["device"],
        ]
        for run in results("shakespeare")
        if "tests" in run
    ]
    return rows(["run", "parameters", "nats per character", "steps", "time", "device"], body)


def shakespeare_beside() -> str:
    (kept,) = results("shakespeare", "beside.json")
    body = [
        [
            name,
            f"{runs[0]['parameters'] / 1e6:.1f} M",
            over_seeds([run["nll"] for run in runs], 3),
            over_seeds([run["seconds"] for run in runs], 0) + " s",
        ]
        for name, runs in kept["runs"].items()
    ]
    return rows(["training", "parameters", "nats per character", kept["device"]], body)


def planted() -> str:
    body = []
    for run in results("protein", "planted-*.json"):
        test = run["tests"]["test"]
        body.append(
            [
                run["name"],
                f"{run['data']['length']} positions, {len(run['data']['contacts'])} contacts",
                f"{test['jacobian']:.2f}",
                f"{test['head']:.2f}",
                f"{test['untrained']['jacobian']:.2f}",
                f"{test['chance']:.3f}",
                f"{test['energies']:.2f}",
                spent(run),
            ]
        )
    head = ["run", "family", "P@L, Jacobian", "best head", "untrained", "chance", "energies", "trained"]
    return rows(head, body or [["not yet run", *[""] * 7]])


def structure() -> str:
    body = [
        [run["name"], *(f"{run['tests'][name]['accuracy']:.3f}" for name in ("flip", "cb513", "ts115")), spent(run)]
        for run in results("protein", "structure-*.json")
    ]
    body += [
        ["one-hot, published (TAPE)", "", "0.69", "", ""],
        ["pretrained Transformer / LSTM, published (TAPE)", "", "0.73 / 0.75", "", ""],
    ]
    return rows(["run", "FLIP's test", "CB513", "TS115", "trained"], body)


def confusion() -> str:
    body = []
    for run in results("protein", "structure-from-nothing-*.json"):
        for name, row in run["tests"]["cb513"]["confusion"].items():
            body.append([run["name"], name, *(f"{count / sum(row.values()):.2f}" for count in row.values())])
    return rows(["run", "is", "called C", "called H", "called E"], body or [["not yet run", "", "", "", ""]])


def fitness() -> str:
    sets = {
        "avgfp": ("avGFP, over 3 mutations", "0.14 one-hot, 0.68 pretrained Transformer (TAPE)"),
        "two_vs_rest": ("GB1 two-vs-rest", "0.59 ridge, 0.55 ESM-1b (FLIP, by memory)"),
        "three_vs_rest": ("GB1 three-vs-rest", "0.76 ridge, 0.79 ESM-1b (FLIP, by memory)"),
        "low_vs_high": ("GB1 low-vs-high", "0.34 ridge, 0.59 ESM-1b (FLIP, by memory)"),
    }
    ridge = {name: found for run in results("protein", "ridge.json") for name, found in run["sets"].items()}
    ways = ("from-nothing", "same-network", "tuned")  # as the files' names tell them
    nets: dict[tuple[str, str], list[float]] = {}
    for run in [*results("protein", "avgfp-*.json"), *results("protein", "gb1-*.json")]:
        test = next(iter(run["tests"].values()))
        name = test["test_set"] if test["test_set"] in sets else "avgfp"
        way = next(way for way in reversed(ways) if way in run["file"] or way == ways[0])
        nets.setdefault((name, way), []).append(test["spearman"])
    body = [
        [
            said,
            f"{ridge[name]['spearman']:.2f}" if name in ridge else "",
            *(over_seeds(nets.get((name, way), []), 2) for way in ways),
            known,
        ]
        for name, (said, known) in sets.items()
    ]
    nets_head = ["Transformer from nothing", "the larger one from nothing", "the larger one after pretraining"]
    return rows(["Spearman on the test part", "one-hot ridge", *nets_head, "published"], body)


def classes() -> str:
    body = [
        [f"{run['name']}, {run['parameters'] / 1e3:,.0f} k parameters", f"{test['accuracy']:.3f}", spent(run)]
        for run in results("protein", "classes-*.json")
        for test in run["tests"].values()
    ]
    for run in results("protein", "composition.json"):
        body += [[f"{name}, linear", f"{found['test']:.3f}", run["device"]] for name, found in run["models"].items()]
    return rows(["which organism", "right", "trained"], body)


def natural() -> str:
    """Runs that differ by seed alone in one line; their differences protein by protein in another table."""
    (kept,) = results("protein", "natural-ngrams.json")
    sizes = {
        run["name"].lower().replace(", seed ", "-").replace(" ", "-"): run
        for run in results("protein", "natural-*.json")
        if "tests" in run
    }
    kinds: dict[str, list[str]] = {}
    for name in kept["models"]:
        kinds.setdefault(re.sub(r"-\d$", "", name), []).append(name)
    body = []
    for kind, names in kinds.items():
        found = [kept["models"][name] for name in names]
        body.append(
            [
                kind + (f", {len(names)} seeds" if len(names) > 1 else ""),
                f"{sizes[names[0]]['parameters'] / 1e6:.1f} M" if names[0] in sizes else "",
                over_seeds([one["nll"] for one in found], 4),
                f"{mean(one['error'] for one in found):.4f}",
                f"{mean(one['gain'] for one in found):.4f} +- {mean(one['gain_error'] for one in found):.4f}",
            ]
        )
    head = ["left to right", "parameters", "nats per residue", "standard error", "better than the unigram by"]
    return rows(head, body)


def natural_pairs() -> str:
    """What one network has less than another, protein by protein: the mean over pairs of runs, and their mean error."""
    (kept,) = results("protein", "natural-ngrams.json")
    found: dict[str, list[dict[str, float]]] = {}
    for names, pair in kept["pairs"].items():
        kinds = [re.sub(r"^natural-|-\d$", "", name) for name in names.split(" - ")]
        if kinds[0] != kinds[1]:
            found.setdefault(" - ".join(kinds), []).append(pair)
    body = [
        [
            kinds,
            f"{mean(p['difference'] for p in pairs):+.4f}",
            f"{mean(p['error'] for p in pairs):.4f}",
            str(len(pairs)),
        ]
        for kinds, pairs in found.items()
    ]
    return rows(["nats per residue", "difference", "standard error", "pairs of runs"], body)


def real_contacts() -> str:
    """Precision of the best L, L / 2 and L / 5 pairs that are so far apart, with its standard error over chains."""
    body = []
    for run in results("protein", "contacts-*.json"):
        for name, found in run["models"].items():
            for apart in (6, 12, 24):
                best = [f"P@{pairs} {apart}+" for pairs in ("L", "L/2", "L/5")]
                body.append(
                    [f"{name} ({run['file'].split('contacts-')[1].removesuffix('.json')})", f"{apart} or more"]
                    + [f"{found[one]:.3f} +- {found[f'error {one}']:.3f}" for one in best]
                    + [f"{found[f'chance {apart}+']:.3f}"]
                )
    head = ["model", "residues apart", "P@L", "P@L/2", "P@L/5", "chance"]
    return rows(head, body or [["not yet run", *[""] * 5]])


def spent(run: dict[str, Any]) -> str:
    """Steps, minutes and device of a run."""
    return f"{run['steps']:,} steps, {run['seconds'] / 60:.0f} min, {run['device']}"


def vision() -> str:
    body = [
        [
            run["name"],
            f"{run['parameters'] / 1e3:,.0f} k",
            f"{run['tests']['test']['images']:,}",
            f"{100 * run['tests']['test']['accuracy']:.2f} %",
            f"{run['steps']:,}",
            f"{run['seconds'] / 60:.0f} min",
            run["device"],
        ]
        for run in results("vision")
        if "accuracy" in run["tests"].get("test", {})
    ]
    return rows(["run", "parameters", "test images", "right", "steps", "time", "device"], body)


def sentences() -> str:
    body = [
        [
            run["name"],
            f"{run['parameters'] / 1e6:.2f} M",
            f"{100 * run['tests']['test']['accuracy']:.1f} of {run['tests']['test']['texts']:,}",
            str(run["seed"]),
            f"{run['steps']:,}",
            f"{run['seconds']:.0f} s",
            run["device"],
        ]
        for run in results("sentences")
        if "tests" in run
    ]
    (linear,) = results("sentences", "linear.json")
    for name, one in linear["sets"].items():
        if "held out" in name:  # stands beside what the search found
            continue
        right = f"{100 * one['test']:.1f} of {one['texts']:,}"
        body.append([f"{name}, words and pairs, linear", "", right, "", "", "", linear["device"]])
    return rows(["run", "parameters", "right, %", "seed", "steps", "time", "device"], body)


def sentences_search(name: str, kept: str, linear: str) -> str:
    """Variants of a set's settings, and the linear model, on sentences that are not the test's."""
    body = [
        [variant, f"{100 * one['mean']:.1f} +- {100 * one['deviation']:.1f}"]
        for run in results("sentences", f"{kept}.json")
        for variant, one in run["variants"].items()
    ]
    (run,) = results("sentences", "linear.json")
    body.append(["words and pairs, linear", f"{100 * run['sets'][linear]['val']:.1f}"])
    return rows([f"{name}'s settings", "right of held-out sentences, %"], body)


def hidden(topic: str) -> str:
    """Losses of what was hidden, as they fell."""
    body = [
        [
            run["name"],
            f"{run['parameters'] / 1e6:.2f} M",
            " ".join(f"{point['val/nll']:.2f}" for point in run["validation"]),
            f"{run['tests']['test']['nll']:.3f}",
            f"{100 * run['tests']['test']['accuracy']:.1f}",
            f"{run['steps']:,}",
            f"{run['seconds'] / 60:.0f} min",
            run["device"],
        ]
        for run in results(topic)
    ]
    head = ["run", "parameters", "nats per token while training", "at the end", "right, %", "steps", "time", "device"]
    return rows(head, body)


def masked() -> str:
    return hidden("masked")


def spans() -> str:
    return hidden("spans")


def signatures() -> str:
    tests = [test for run in results("multi30k") for test in run["tests"].values()]
    found = {(name, value) for test in tests for name, value in test.items() if name.endswith("_signature")}
    return "".join(f"- {name.removesuffix('_signature')}: `{value}`\n" for name, value in sorted(found))


def races(suite: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """A suite's runs and their races; where several files hold a case on one machine, that of the last file by name."""
    found = [(run, race) for run in results("bench", f"{suite}-*.json") for race in run["results"]]
    return list({(race["case"], machine(run)): (run, race) for run, race in found}.values())


def machine(run: dict[str, Any]) -> str:
    """Device and threads, and whether a processor has units for bfloat16: AMD names several generations alike."""
    has_units = "x86 with bfloat16 units" in run["machine"]
    return run["device"].replace(",", " with bfloat16,") if has_units else run["device"]


def raced(suite: str, *begins: str) -> str:
    """Races of a suite: each candidate's share of the reference's time, its peak memory, its work a second.

    `begins`: of how the cases that are shown begin; without any, all are.
    """
    body = []
    for run, race in races(suite):
        if not race["case"].startswith(begins or ""):
            continue
        candidates = dict(race["candidates"])
        own = candidates.pop(race["reference"])
        first = f"{race['reference']}, {1000 * own['median_s']:,.3g} ms{beside(own, race)}"
        cells = ", ".join(f"{name} {c['ratio']:.2f}{beside(c, race)}" for name, c in candidates.items())
        body.append([race["case"], first, cells, f"{machine(run)}, torch {run['torch']}"])
    return rows(["case", "reference", "share of its time (below 1 is faster)", "machine"], body)


def beside(candidate: dict[str, Any], race: dict[str, Any]) -> str:
    said = []
    if candidate["peak_bytes"] is not None:
        said.append(f"{candidate['peak_bytes'] / 2**20:,.0f} MiB")
    if race.get("unit"):
        said.append(f"{candidate['per_second']:,.4g} {race['unit']}/s")
    return f" ({', '.join(said)})" if said else ""


# What the README shows of the races: what zoo is far ahead in, level in, and behind in.
SHORT = ("seq2seq step", "causal LM step", "writing float32 batch 1 ", "ViT-Ti/4", "music step", "masked step")


def speed(*cases: str, on: str = "") -> str:
    """zoo's time as a share of each peer's, for whole models: of cases that begin with one of `cases`, if any, and on
    machines whose name holds `on`."""
    body = []
    for suite in ("text", "lm", "vision", "music", "protein"):
        for run, race in races(suite):
            times = {name: c["median_s"] for name, c in race["candidates"].items()}
            ours = next((name for name in ("zoo", "zoo rotary") if name in times), None)
            if ours is not None and (not cases or race["case"].startswith(cases)) and on in machine(run):
                peers = {name: time for name, time in times.items() if not name.startswith("zoo")}
                shares = ", ".join(f"{times[ours] / time:.2f} of {name}" for name, time in peers.items())
                body.append([race["case"], shares, machine(run)])
    return rows(["case", "zoo's time", "machine"], sorted(body, key=lambda row: "with bfloat16" not in row[2]))


def count() -> str:
    (run,) = results("design", "count.json")
    counts: dict[str, dict[str, Any]] = run["counts"]
    names = ["modules", "settings classes", "settings", "branches", "statements", "a new position scheme touches"]
    body = [["architectures of 13", *(str(len(c["architectures"])) for c in counts.values())]]
    body += [[name, *(str(c[name]) for c in counts.values())] for name in names]
    return rows(["", *counts], body)


def music() -> str:
    """JSB by grid: what models, counting and compressing make of the same tokens."""
    (base,) = results("music", "baselines.json")
    body = []
    for grid, counted in base["grids"].items():
        tokens, notes, steps = (counted[unit]["test"] for unit in ("tokens", "notes", "steps"))
        for run in results("music", f"{grid}-*.json"):
            if " seed " in run["name"]:  # those have a table of their own
                continue
            test = run["tests"]["test"]
            body.append(
                [
                    grid,
                    run["name"].removeprefix(f"{grid} "),
                    f"{run['parameters'] / 1e6:.2f} M",
                    f"{min(point['val/nll'] for point in run['validation']):.3f}",
                    *(f"{test[unit]:.3f}" for unit in ("nll", "nll_note", "nll_step")),
                    f"{run['steps']:,} steps, {run['seconds'] / 60:.0f} min, {run['device']}",
                ]
            )
        for name, nats in counted["nats_a_token"].items():
            units = [nats["test"], nats["test"] * tokens / notes, nats["test"] * tokens / steps]
            order = f"order {counted['order']}" if name == "n-gram" else ""
            body.append([grid, name, "", f"{nats['val']:.3f}", *(f"{unit:.3f}" for unit in units), order])
    head = ["grid", "model", "parameters", "val, per token", "test, per token", "per note", "per time step", "run"]
    return rows(head, body)


def music_seeds() -> str:
    """Position schemes on the 16th grid over seeds: mean and deviation of nats per token."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in sorted(results("music", "16th-*.json"), key=lambda run: run["seed"]):
        found.setdefault(run["name"].removeprefix("16th ").split(" seed ")[0], []).append(run)
    body = []
    for name, runs in found.items():
        if len(runs) == 1:
            continue
        val = [min(point["val/nll"] for point in run["validation"]) for run in runs]
        test = [run["tests"]["test"]["nll"] for run in runs]
        seeds = ", ".join(str(run["seed"]) for run in runs)
        body.append([name, seeds, *(f"{mean(x):.3f} +- {stdev(x):.3f}" for x in (val, test))])
    return rows(["positions", "seeds", "val, nats per token", "test, nats per token"], body)


def music_samples() -> str:
    body = [
        [name, f"{one['samples']:,}", f"{one['tokens']:,}", *(f"{held:,}" for held in one["hold"].values())]
        for run in results("music", "samples.json")
        for name, one in run["valid"].items()
    ]
    return rows(["samples of", "pieces", "tokens", "hold the grammar", "come back from tokens", "from MIDI"], body)


SENSE = {  # what a measure is called here: what it is called in the files
    "parallel fifths a bar": ("parallel fifths a bar, similar motion",),
    "parallel octaves a bar": ("parallel octaves a bar, similar motion",),
    "steps with a voice crossing": ("steps with a voice crossing",),
    "overlap of chords with the test set": ("overlap of chords with the test set",),
}


def music_sense() -> str:
    measured: dict[str, dict[str, Any]] = {}
    for run in results("music", "samples.json") + results("music", "pieces.json"):
        for kind, one in run["sense"].items():
            measured[kind] = measured.get(kind, {}) | one
    body = []
    for shown, names in SENSE.items():
        found = [next((one[name] for name in names if name in one), None) for one in measured.values()]
        if any(x is not None for x in found):
            body.append([shown, *("not yet run" if x is None else f"{x:.3f}" for x in found)])
    spans = "span of the voices, semitones"
    body.append([spans, *(", ".join(f"{span:.0f}" for span in one[spans]) for one in measured.values())])
    for lag in ("1", "2", "4", "8"):
        similar = [one["self-similarity by bars"].get(lag) for one in measured.values()]
        body.append([f"the same {lag} bars later", *("" if x is None else f"{x:.3f}" for x in similar)])
    return rows(["measure", *measured], body)


def music_pop909() -> str:
    (run,) = results("music", "pop909.json")
    onset, length = run["onset_error_quarters"], run["length_error_quarters"]
    body = [
        ["files", f"{run['files']:,}"],
        ["the same from tokens, from MIDI", f"{run['identical']['tokens']:,}, {run['identical']['midi']:,}"],
        ["notes read, kept", f"{run['notes']['read']:,}, {run['notes']['kept']:,}"],
        ["error of onsets in quarters, mean, largest", f"{onset['mean']:.4f}, {onset['max']:.4f}"],
        ["error of lengths in quarters, mean, largest", f"{length['mean']:.4f}, {length['max']:.4f}"],
    ]
    body += [[what, f"{count:,}"] for what, count in run["changed"].items()]
    return rows(["", "POP909"], body)


def music_memory() -> str:
    (run,) = results("music", "relative-memory.json")
    names = list(next(iter(run["peak_bytes"].values())))
    body = [
        [f"{int(length):,}", *(f"{peaks[name] / 2**20:,.0f} MiB" for name in names)]
        for length, peaks in run["peak_bytes"].items()
    ]
    return rows(["n", *names], body)


def music_denormals() -> str:
    (run,) = results("music", "denormals.json")
    times = run["seconds"]
    body = [[f"{name}", f"{seconds:.2f} s", f"{seconds / times['computed']:.2f}"] for name, seconds in times.items()]
    return rows(["numbers below 1.2e-38 are", "forward and backward", "share"], body)


def mixers() -> str:
    columns = {
        "text": ("exact", "translated exactly, %", 100, 1),
        "vision": ("accuracy", "digits right, %", 100, 1),
        "music": ("nll", "harmony, nats per token", 1, 3),
        "protein": ("jacobian", "contacts found, P@L", 1, 2),
    }
    head = ["mixer", *(said for _, said, _, _ in columns.values())]
    kept = next(iter(results("mixers", "mixers.json")), None)
    if kept is None:
        return rows(head, [["not yet run", "", "", "", ""]])

    def cell(domain: str, mixer: str) -> str:
        figure, _, factor, digits = columns[domain]
        runs = kept["domains"].get(domain, {}).get(mixer, {"runs": []})["runs"]
        rates = {run["rate"] for run in runs if run["seed"] != kept["seed"]}
        found = [factor * run[figure] for run in runs if run["rate"] in rates]
        return over_seeds(found, digits)

    body = [[mixer, *(cell(domain, mixer) for domain in columns)] for mixer in ("Attention", "LSTM", "GRU", "RNN")]
    body.append(["best possible", "100", "100", f"{kept['rule']:.3f}", "1"])
    return rows(head, body)


def glance() -> str:
    """One line a task: what came of it, what stands beside it, how long it took. Topics have tables of the rest."""

    def one(topic: str, name: str) -> dict[str, Any]:
        (run,) = results(topic, f"{name}.json")
        return run

    def test(run: dict[str, Any], figure: str, which: str = "test") -> float:
        return float(run["tests"][which][figure])

    pair = [one("multi30k", f"en-de-two-readings-weight-{weight}") for weight in ("1.5", "3")]
    captions = [one("multi30k", "en-de-student-of-both"), *pair]
    adamw, muon = one("shakespeare", "AdamW"), one("shakespeare", "Muon")
    bleu = [" / ".join(f"{found['bleu']:.1f}" for found in run["tests"].values()) for run in captions]
    trec, sst = (results("sentences", f"{name}-from-scratch-seed-*.json") for name in ("TREC", "SST-2"))
    linear = {name: 100 * found["test"] for name, found in one("sentences", "linear")["sets"].items()}
    plain, stem = (one("vision", f"MNIST-{name}-16-epochs-2-threads") for name in ("plain-ViT", "stem"))
    short, tenth = (
        one("vision", f"cifar10-jpeg-q75-{name}") for name in ("short-run", "a-tenth-after-masked-pretraining")
    )
    nothing = one("vision", "cifar10-jpeg-q75-a-tenth-from-scratch")
    student, quarter = one("music", "16th-student-of-two-in-every-key"), one("music", "quarter-rotary")
    teachers = results("music", "16th-relative-and-beat-192-wide-bfloat16-seed-*.json")
    equal, lstm = one("music", "16th-relative"), one("music", "16th-LSTM")
    counted = one("music", "baselines")["grids"]["16th"]["nats_a_token"]
    planted, structure = one("protein", "planted-seed-1"), one("protein", "structure-from-nothing-2700-steps-seed-1")
    tuned, ridge = one("protein", "gb1-two_vs_rest-tuned-seed-1"), one("protein", "ridge")["sets"]

    def val(run: dict[str, Any]) -> float:
        return min(point["val/nll"] for point in run["validation"])

    def line(task: str, zoo: str, beside: str, *legs: dict[str, Any]) -> list[str]:
        every = {figure: sum(leg[figure] for leg in legs) for figure in ("steps", "seconds")}
        return [task, zoo, beside, spent(legs[-1] | every)]

    body = [
        line(
            "captions from English to German (Multi30k), sacreBLEU on 2016 / 2017 / mscoco",
            f"{bleu[0]}, taught by two networks of {bleu[1]} and {bleu[2]}",
            "41.0 / 33.4 / 29.9 tokenised, another measure (Wu et al. 2021, by memory)",
            *captions,
        ),
        line(
            "tinyshakespeare by characters, nats",
            f"{test(adamw, 'nll'):.3f}; {test(muon, 'nll'):.3f} by Muon",
            "1.88 (nanoGPT's README: this size, these steps, learned positions)",
            muon,
        ),
        line(
            f"questions by what they ask for (TREC), % right, {len(trec)} seeds",
            over_seeds([100 * test(run, "accuracy") for run in trec], 1),
            "88.2 convolutions (harvardnlp/sent-conv-torch), 91.2 in Kim 2014 (by memory), "
            f"{linear['TREC']:.1f} linear",
            trec[0],
        ),
        line(
            f"film reviews (SST-2, sentences alone), % right, {len(sst)} seeds",
            over_seeds([100 * test(run, "accuracy") for run in sst], 1),
            f"83.5 convolutions that learn phrases too (the same), {linear['SST-2']:.1f} linear",
            sst[0],
        ),
        line(
            "digits (MNIST), % right",
            f"{100 * test(plain, 'accuracy'):.2f} plain ViT, {100 * test(stem, 'accuracy'):.2f} with a stem",
            "98 to 99 plain ViTs (by memory)",
            plain,
        ),
        line(
            "CIFAR-10 (JPEG q75), % right, a short run",
            f"{100 * test(short, 'accuracy'):.1f}",
            "91 plain ViTs trained long (their READMEs, on CIFAR-10 itself)",
            short,
        ),
        line(
            "a tenth of its labels, after masked pretraining",
            f"{100 * test(tenth, 'accuracy'):.1f}",
            f"{100 * test(nothing, 'accuracy'):.1f} from scratch",
            tenth,
        ),
        line(
            "Bach's chorales (JSB, 16th), nats per token, validation",
            f"{val(student):.3f}, taught by two networks of {' and '.join(f'{val(run):.3f}' for run in teachers)}",
            "0.335 Music Transformer, 0.417 its plain one (second-hand)",
            *teachers,
            student,
        ),
        line(
            "the same, a short run",
            f"{val(equal):.3f}",
            f"{val(lstm):.3f} LSTM of as many weights, {counted['n-gram']['val']:.3f} n-gram",
            equal,
        ),
        line(
            "JSB, quarter, nats per step of 88 keys",
            f"{test(quarter, 'nll_step'):.2f}",
            "8.10 TCN, 8.45 LSTM (their paper), 5.56 RNN-NADE (by memory)",
            quarter,
        ),
        line(
            "planted contacts of a protein family, P@L",
            f"{test(planted, 'jacobian'):.2f}",
            f"1 is possible, {test(planted, 'chance'):.2f} by chance",
            planted,
        ),
        line(
            "three states of residues (CB513), share right",
            f"{test(structure, 'accuracy', 'cb513'):.3f}",
            "0.69 one-hot, 0.73 and 0.75 pretrained on Pfam (TAPE)",
            structure,
        ),
        line(
            "fitness of GB1, two-vs-rest, Spearman, after masked pretraining",
            f"{test(tuned, 'spearman', 'two_vs_rest'):.2f}",
            f"{ridge['two_vs_rest']['spearman']:.2f} ridge here, 0.55 ESM-1b (FLIP, by memory)",
            one("protein", "natural-masked-seed-1"),
            tuned,
        ),
    ]
    return rows(["task", "zoo", "for comparison", "trained"], body)


TABLES: dict[str, Callable[[], str]] = {
    "multi30k": multi30k,
    "shakespeare": shakespeare,
    "shakespeare_beside": shakespeare_beside,
    "sentences": sentences,
    "sentences_search": partial(sentences_search, "TREC", "search", "TREC, a quarter held out"),
    "sentences_search_sst2": partial(sentences_search, "SST-2", "search-sst2", "SST-2"),
    "masked": masked,
    "spans": spans,
    "planted": planted,
    "structure": structure,
    "confusion": confusion,
    "classes": classes,
    "fitness": fitness,
    "natural": natural,
    "natural_pairs": natural_pairs,
    "real_contacts": real_contacts,
    "signatures": signatures,
    "vision": vision,
    "core": partial(raced, "core", "causal LM", "encoder block", "decoder block", "norm"),
    **{f"raced_{suite}": partial(raced, suite) for suite in ("text", "lm", "vision", "music", "protein")},
    "speed": speed,
    "speed_short": partial(speed, *SHORT, on="with bfloat16"),
    "count": count,
    "glance": glance,
    "mixers": mixers,
    "music": music,
    "music_seeds": music_seeds,
    "music_samples": music_samples,
    "music_sense": music_sense,
    "music_memory": music_memory,
    "music_denormals": music_denormals,
    "music_pop909": music_pop909,
}


def made(text: str) -> str:
    """A document with its tables as the files say."""
    return MARKED.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def main(argv: list[str]) -> int:
    stale = []
    for pattern in DOCUMENTS:
        for path in sorted(HERE.parent.glob(pattern)):
            text = path.read_text()
            if made(text) != text:
                stale.append(path)
                if "--check" not in argv:
                    path.write_text(made(text))
    for path in stale:
        print(f"{'not what the results say' if '--check' in argv else 'rewritten'}: {path}")
    return int("--check" in argv and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
