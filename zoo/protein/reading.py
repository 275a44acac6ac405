"""Proteins through a model: batches by length, windows where they are long, the order of the input kept by index."""

import math
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter

import torch
from torch import Tensor, nn

from zoo.data.batches import TokenBudgetSampler, rows_of
from zoo.errors import UserError
from zoo.progress import bar
from zoo.protein.tokens import Residues
from zoo.protein.windows import Cut, cuts

LONGEST, OVERLAP, BUDGET = 1024, 256, 8192  # tokens of a window, of what two windows share, of a batch
AHEAD = 8  # batches that are made up together, by length, where sequences are wanted in their order

# What a model gives for rows of tokens: (ids "b n", keep "b n") -> "b n ...".
Read = Callable[[Tensor, Tensor], Tensor]


def window_of(network: nn.Module, longest: int | None = None) -> tuple[int, int]:
    """Tokens of a window, and of what two windows share: `longest` (1,024 where not given), or what the model can
    place, if that is less. UserError where the model cannot place as many as are asked for, or these are below 4."""
    placed = next(part.longest for part in network.modules() if hasattr(part, "longest"))
    if longest is not None and placed is not None and longest > placed:
        raise UserError(f"windows of {longest} tokens: the model can place {placed}")
    size = min(x for x in (LONGEST if longest is None else longest, placed) if x is not None)
    if size < 4:
        raise UserError(f"windows of {size} tokens are too short: at least 4")
    return size, min(OVERLAP, size // 2)


@torch.no_grad()
def read(
    function: Read,
    sequences: Sequence[Sequence[int]],
    *,
    longest: int,
    overlap: int,
    device: torch.device,
    budget: int = BUDGET,
    name: str = "",
    wanted: Sequence[Sequence[int]] | None = None,
    ahead: float = math.inf,
) -> Iterator[tuple[int, Cut, Tensor]]:
    """What `function` gives for each token of framed sequences: (index, window, "n ..." of the part that counts).

    Windows come by length, those of one sequence not always one after the other; where `ahead` is given, so many tokens
    of the sequences as they stand come before the next. `wanted`: places of each sequence; windows in which none of
    them counts are left out. A bar named `name` goes by windows.
    """
    jobs = [
        (index, cut)
        for index, ids in enumerate(sequences)
        for cut in cuts(len(ids), longest, overlap)
        if wanted is None or any(cut.first <= place < cut.last for place in wanted[index])
    ]
    runs: dict[float, list[tuple[int, Cut]]] = {}
    tokens = 0
    for index, cut in jobs:
        runs.setdefault(tokens // ahead, []).append((index, cut))
        tokens += cut.end - cut.begin
    with bar(doing=name, unit="window", total=len(jobs)) as shown:
        for chosen in (batch for run in runs.values() for batch in _batches(run, budget)):
            rows = [sequences[index][cut.begin : cut.end] for index, cut in chosen]
            ids, keep = (x.to(device) for x in rows_of(rows, Residues.pad))
            for (index, cut), out in zip(chosen, function(ids, keep), strict=True):
                yield index, cut, out[cut.first - cut.begin : cut.last - cut.begin]
            shown.update(len(chosen))


def _batches(jobs: list[tuple[int, Cut]], budget: int) -> Iterator[list[tuple[int, Cut]]]:
    """Windows by length, of `budget` tokens together."""
    for batch in TokenBudgetSampler([cut.end - cut.begin for _, cut in jobs], budget, shuffle=False):
        yield [jobs[number] for number in batch]


def read_whole(
    function: Read,
    sequences: Sequence[Sequence[int]],
    *,
    longest: int,
    overlap: int,
    device: torch.device,
    budget: int = BUDGET,
    name: str = "",
) -> Iterator[Tensor]:
    """As `read`, put together: "n ..." of each whole sequence, in their order. What waits for its turn are a few
    batches, however many sequences there are."""
    missing = [len(cuts(len(ids), longest, overlap)) for ids in sequences]
    held: dict[int, list[tuple[int, Tensor]]] = {}
    options = {"longest": longest, "overlap": overlap, "device": device, "budget": budget, "name": name}
    turn = 0
    for index, cut, out in read(function, sequences, ahead=AHEAD * budget, **options):  # type: ignore[arg-type]
        held.setdefault(index, []).append((cut.first, out.cpu()))
        while turn in held and len(held[turn]) == missing[turn]:
            yield torch.cat([part for _, part in sorted(held.pop(turn), key=itemgetter(0))])
            turn += 1


@torch.no_grad()
def read_sequences(
    function: Read, sequences: Sequence[Sequence[int]], *, device: torch.device, budget: int = BUDGET, name: str = ""
) -> Iterator[tuple[int, Tensor]]:
    """What `function` gives for each framed sequence as a whole, "...", with its index, as they are done."""
    batches = TokenBudgetSampler([len(ids) for ids in sequences], budget, shuffle=False) if sequences else []
    with bar(doing=name, unit="protein", total=len(sequences)) as shown:
        for batch in batches:
            ids, keep = (x.to(device) for x in rows_of([sequences[index] for index in batch], Residues.pad))
            yield from zip(batch, function(ids, keep).cpu(), strict=True)
            shown.update(len(batch))
