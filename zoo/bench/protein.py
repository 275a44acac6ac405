"""`zoo bench protein`: ESM-2 8M's architecture (320 wide, 6 layers, 20 heads) beside transformers' own.

A training step hides 15 % of the residues of proteins of natural lengths; everybody sees the same proteins, padded to
the longest of a batch drawn at random, padded in batches of similar length, or (zoo) packed. A scan hides each residue
of a protein in turn, as masked marginals do. One long protein shows the memory of a step.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.bench.harness import HALF_UNITS, Bound, Race, Step
from zoo.core import Plain, Rotary, StackConfig
from zoo.data.batches import TokenBudgetSampler, rows_of
from zoo.data.corruption import IGNORED, mask_tokens
from zoo.errors import UserError
from zoo.protein.data import Proteomes
from zoo.protein.model import ProteinLM
from zoo.protein.tokens import Residues
from zoo.train.losses import token_loss

BOUNDS = (
    Bound("masked step bfloat16", "zoo", "HF padded", 0.62, HALF_UNITS),
    Bound("masked step bfloat16", "zoo", "HF bucketed", 0.72, HALF_UNITS),
)
DIM, DEPTH, HEADS = 320, 6, 20
PROTEINS, BATCH, LONGEST, SCANNED, LONG = 64, 8, 1024, 300, 2048
RANDOM = (min(Residues.residues), max(Residues.residues) + 1)

Batches = list[tuple[Tensor, Tensor, Tensor]]  # hidden ids "b n", keep "b n", labels "b n"


def races(dtype: torch.dtype, device: torch.device, *, quick: bool) -> Iterator[Race]:
    name = str(dtype).removeprefix("torch.")
    lengths, origin = protein_lengths(BATCH if quick else PROTEINS)
    case = f"masked step {name} {DIM}x{DEPTH}x{HEADS}, {sum(lengths)} tokens, {origin}"
    yield Race(case, training(lengths, dtype, device), sum(lengths), "tokens")
    scanned = 20 if quick else SCANNED
    yield Race(f"scan {name} of {scanned} residues", scan(scanned, dtype, device), 19 * scanned, "variants")
    long = 64 if quick else LONG
    yield Race(f"one protein of {long} tokens, masked step {name}", training([long], dtype, device))


def protein_lengths(count: int) -> tuple[list[int], str]:
    """Tokens of proteins, at most LONGEST, and where they are from: the public proteomes, or drawn like theirs."""
    random = np.random.default_rng(0)
    try:
        found = np.array([len(c.sequence) + 2 for c in Proteomes(limit=400).held("train")])
        chosen, origin = random.choice(found, count, replace=False), "natural lengths"
    except UserError:
        chosen, origin = random.lognormal(5.8, 0.7, count), "lengths like natural ones"
    return np.clip(chosen, 30, LONGEST).astype(int).tolist(), origin


def batches(lengths: list[int], groups: list[list[int]], device: torch.device) -> Batches:
    """Random proteins of these lengths, in the given groups, with the same residues hidden whatever the groups."""
    made = []
    for number, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(number)
        ids = torch.randint(*RANDOM, (1, length), generator=generator)
        ids[:, 0], ids[:, -1] = Residues.cls, Residues.end
        may = (ids >= RANDOM[0]) & (ids < RANDOM[1])
        hidden = mask_tokens(ids, may, mask=Residues.mask, random=RANDOM, generator=generator)
        made.append((hidden.ids[0].tolist(), hidden.labels[0].tolist()))
    found = []
    for group in groups:
        ids, keep = rows_of([made[i][0] for i in group], Residues.pad)
        labels, _ = rows_of([made[i][1] for i in group], IGNORED)
        found.append((ids.to(device), keep.to(device), labels.to(device)))
    return found


def at_random(lengths: list[int]) -> list[list[int]]:
    return [list(range(i, min(i + BATCH, len(lengths)))) for i in range(0, len(lengths), BATCH)]


def by_length(lengths: list[int]) -> list[list[int]]:
    order = np.argsort(lengths, kind="stable").tolist()
    return [order[i : i + BATCH] for i in range(0, len(order), BATCH)]


def by_budget(lengths: list[int]) -> list[list[int]]:
    """Our own batches: about as many tokens each as a batch has on average."""
    budget = max(sum(lengths) // max(len(lengths) // BATCH, 1), max(lengths))
    return TokenBudgetSampler(lengths, budget, shuffle=False).batches(0)


class Ours(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = ProteinLM(
            StackConfig(dim=DIM, depth=DEPTH, heads=HEADS, position=Rotary(), ffn=Plain("gelu", 4 * DIM))
        )

    def forward(self, ids: Tensor, keep: Tensor, labels: Tensor) -> Tensor:
        states, layout = self.model.hidden(ids, keep)
        wanted = layout.take(labels, keep)
        hidden = wanted != IGNORED
        head = self.model.head
        loss = token_loss(head.features(states[hidden]), head.out.weight, wanted[hidden], head.out.bias)
        return loss.loss / int(loss.tokens)

    def scores(self, ids: Tensor) -> Tensor:
        return self.model(ids)


class HuggingFace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        from transformers import EsmConfig, EsmForMaskedLM

        config = EsmConfig(
            vocab_size=Residues.vocab_size,
            mask_token_id=Residues.mask,
            pad_token_id=Residues.pad,
            hidden_size=DIM,
            num_hidden_layers=DEPTH,
            num_attention_heads=HEADS,
            intermediate_size=4 * DIM,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            position_embedding_type="rotary",
            token_dropout=True,
            layer_norm_eps=1e-5,
        )
        self.model: Any = EsmForMaskedLM(config)

    def forward(self, ids: Tensor, keep: Tensor, labels: Tensor) -> Tensor:
        logits = self.model(input_ids=ids, attention_mask=keep.long()).logits
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)

    def scores(self, ids: Tensor) -> Tensor:
        scores: Tensor = self.model(input_ids=ids).logits
        return scores


def training(lengths: list[int], dtype: torch.dtype, device: torch.device) -> dict[str, Callable[[], Step]]:
    """One pass over the proteins: forward under autocast where numbers are halves, backward, fused AdamW each batch."""

    def make(kind: type[nn.Module], groups: list[list[int]]) -> Step:
        torch.manual_seed(0)
        model = kind().to(device).train()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)
        chosen = batches(lengths, groups, device)

        def step() -> None:
            for batch in chosen:
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    loss = model(*batch)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()

        return step

    return {
        "HF padded": lambda: make(HuggingFace, at_random(lengths)),
        "HF bucketed": lambda: make(HuggingFace, by_length(lengths)),
        "zoo": lambda: make(Ours, by_budget(lengths)),
    }


def scan(residues: int, dtype: torch.dtype, device: torch.device) -> dict[str, Callable[[], Step]]:
    """Every residue of one protein hidden in turn, 16 copies at a time: 19 variants each."""

    def make(kind: type[nn.Module]) -> Step:
        torch.manual_seed(0)
        model: Any = kind().to(device).eval()
        ids = torch.randint(*RANDOM, (1, residues + 2))
        ids[:, 0], ids[:, -1] = Residues.cls, Residues.end
        copies = ids.repeat(residues, 1)
        copies[torch.arange(residues), torch.arange(1, residues + 1)] = Residues.mask
        chosen = copies.to(device).split(16)

        @torch.no_grad()
        def step() -> None:
            for part in chosen:
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    model.scores(part)

        return step

    return {"HF": lambda: make(HuggingFace), "zoo": lambda: make(Ours)}
