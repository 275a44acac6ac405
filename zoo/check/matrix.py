"""The promises of many stacks as one table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from zoo.check import promises
from zoo.check.tiny import tiny
from zoo.core import GRU, LSTM, RNN, Sinusoidal, StackConfig
from zoo.errors import UserError

EXACT = 1e-12  # float64: what another order of sums may change
SINGLE = 2e-5  # float32: what another kernel may change


@dataclass(frozen=True)
class Finding:
    """One promise of one stack: what was measured, and whether it holds."""

    text: str
    kept: bool


def _zero(value: float) -> Finding:
    return Finding(f"{value:g}", value == 0)


def _below(value: float, bound: float) -> Finding:
    return Finding(f"{value:.0e}" if value else "0", value < bound)


def _future(config: StackConfig) -> Finding:
    seen = promises.influence(config)
    ahead = seen[seen.new_ones(seen.shape).triu(1).bool()]
    if config.causal:
        return Finding(f"{float(ahead.max()):g}", float(ahead.max()) == 0)
    return Finding("all" if bool((ahead > 0).all()) else "some", bool((ahead > 0).all()))


def _padding(config: StackConfig) -> Finding:
    found = [promises.padding(config, side) for side in promises.PADDINGS]
    return Finding(f"{max(f[0] for f in found):g}", all(f[0] == 0 < f[1] for f in found))


def _values(config: StackConfig) -> Finding:
    return _zero(sum(promises.padding(config, side)[2] for side in promises.PADDINGS))


def _cached(config: StackConfig) -> Finding:
    if not config.causal:
        refused = promises.refused(config)
        return Finding("refused" if refused else "made", refused)
    return _below(max(promises.cached(config, (4, 1, 2, 1, 1), ragged=ragged) for ragged in (False, True)), EXACT)


def _halves(config: StackConfig) -> Finding:
    good = all(promises.halves(config, autocast=autocast) for autocast in (False, True))
    return Finding("finite" if good else "not finite", good)


# Measured on the tiny stack of the same architecture; only the parameters are those of the full size.
COLUMNS: dict[str, Callable[[StackConfig], Finding]] = {
    "sees the future": _future,
    "gradient of padding": _padding,
    "bits changed by padding": _values,
    "more padding (float32)": lambda c: _below(promises.amount(c), SINGLE),
    "packed - one by one": lambda c: _below(max(promises.packed(c, side) for side in promises.PADDINGS), EXACT),
    "cached - uncached": _cached,
    "parameters without gradient": lambda c: _zero(len(promises.unused(c))),
    "bfloat16": _halves,
}


def recurrent() -> dict[str, StackConfig]:
    """The recurrent mixers in every stack that takes them."""
    base = StackConfig(dim=24, depth=2, heads=4, position=Sinusoidal())
    kinds = {"lstm": LSTM(), "gru": GRU(16), "rnn": RNN()}
    return {
        f"{name}/{'causal' if causal else 'full'}{'+cross' if cross else ''}": base.replace(
            mixer=mixer, causal=causal, cross=cross
        )
        for name, mixer in kinds.items()
        for causal in (False, True)
        for cross in (False, True)
    }


def architectures(folder: Path) -> dict[str, StackConfig]:
    """The stacks that a folder's YAML files describe, by "file/role"."""
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise UserError(f"{folder}: no architecture (*.yaml) here; give the folder that holds some")
    found = {}
    for path in files:
        for role, values in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            try:
                found[f"{path.stem}/{role}"] = StackConfig.from_plain(values, role)
            except ValueError as error:
                raise UserError(f"{path}: {error}") from None
    return found


def measure(stacks: Mapping[str, StackConfig]) -> dict[str, dict[str, Finding]]:
    """Every promise of every stack."""
    rows = {}
    for name, config in stacks.items():
        rows[name] = {column: check(tiny(config)) for column, check in COLUMNS.items()}
        off = promises.uncounted(config)
        rows[name]["parameters"] = Finding(f"{config.parameters():,}" + (f" ({off:+,})" if off else ""), off == 0)
    return rows


def markdown(rows: Mapping[str, Mapping[str, Finding]], what: str = "stack") -> str:
    """The findings as a table, a row for each `what`; a promise that does not hold is set in bold."""
    columns = list(next(iter(rows.values())))
    head = f"| {what} | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}\n"
    return head + "".join(
        f"| {name} | {' | '.join(f.text if f.kept else f'**{f.text}**' for f in row.values())} |\n"
        for name, row in rows.items()
    )
