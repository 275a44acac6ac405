"""The peers of `zoo bench protein`: as many weights, the same proteins, the same residues hidden."""

import pytest
import torch

from zoo.bench import protein
from zoo.data.corruption import IGNORED

CPU = torch.device("cpu")
LENGTHS = [40, 12, 33, 25, 8, 40, 17, 30]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    for name, value in {"DIM": 32, "DEPTH": 2, "HEADS": 4, "BATCH": 4}.items():
        monkeypatch.setattr(protein, name, value)
    monkeypatch.setattr(protein, "protein_lengths", lambda count: (LENGTHS, "given lengths"))


def test_both_have_as_many_weights() -> None:
    """But for the regression of contacts, which transformers counts among its parameters."""
    ours = sum(p.numel() for p in protein.Ours().parameters())
    theirs = sum(p.numel() for n, p in protein.HuggingFace().named_parameters() if "contact_head" not in n)
    assert ours == theirs


def test_everybody_sees_the_same_residues_hidden() -> None:
    def seen(groups: list[list[int]]) -> list[tuple[list[int], list[int]]]:
        made = protein.batches(LENGTHS, groups, CPU)
        rows = [row for batch in made for row in zip(*batch, strict=True)]
        return sorted((ids[keep].tolist(), labels[keep].tolist()) for ids, keep, labels in rows)

    assert seen(protein.at_random(LENGTHS)) == seen(protein.by_length(LENGTHS)) == seen(protein.by_budget(LENGTHS))
    assert sum(label != IGNORED for _, labels in seen(protein.at_random(LENGTHS)) for label in labels) == 29


def test_every_case_runs() -> None:
    races = list(protein.races(torch.float32, CPU, quick=True))
    assert len({race.case for race in races}) == 3
    for race in races:
        for make in race.entries.values():
            make()()
