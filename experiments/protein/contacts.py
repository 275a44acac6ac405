"""Contacts of real chains from a pretrained model, by logistic regression over its attention maps.

    python experiments/protein/contacts.py RUN

Twenty chains fit the regression (Rao et al. 2021, section 3.2), a hundred others are judged: 30 to 250 residues,
C-alpha atoms nearer than 8 angstroms, the best L, L/2 and L/5 pairs at least 6, 12 and 24 apart along the chain, beside
chance and beside the same network untrained, fitted in the same way. Writes results/contacts-RUN.json.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

import zoo
from zoo.protein import ProteinLM
from zoo.protein.contacts import contact_probabilities, fit_regression
from zoo.protein.data import pdb_chains
from zoo.protein.structures import Backbone, precisions
from zoo.protein.tokens import Residues
from zoo.provenance import keep

FITTED, JUDGED, SEED = 20, 100, 1


def judged(model: ProteinLM, chains: list[Backbone]) -> dict[str, float]:
    """The mean over chains of each precision and its chance level, with the standard error of the precisions."""
    found = []
    for chain in chains:
        ids = torch.tensor([Residues().frame(chain.sequence)])
        found.append(precisions(contact_probabilities(model, ids)[0].numpy(), chain))
    names = [name for name in found[0] if all(name in one for one in found)]
    table = {name: np.array([one[name] for one in found]) for name in names}
    means = {name: float(values.mean()) for name, values in table.items()}
    errors = {
        f"error {name}": float(values.std() / np.sqrt(len(values)))
        for name, values in table.items()
        if name.startswith("P@L")
    }
    return means | errors


def main(run: Path) -> None:
    begin = time.time()
    chains = [chain for chain in pdb_chains() if 30 <= len(chain.sequence) <= 250]
    order = np.random.default_rng(SEED).permutation(len(chains))[: FITTED + JUDGED]
    picked = [chains[i] for i in order]
    trained = zoo.load(run).model
    torch.manual_seed(SEED)
    untrained = ProteinLM(**trained.settings).eval()
    found = {}
    for name, model in {"pretrained": trained, "untrained": untrained}.items():
        fit_regression(model, picked[:FITTED])
        found[name] = judged(model, picked[FITTED:])
    kept = {
        "chains": {"fitted": FITTED, "judged": JUDGED},
        "models": found,
    }
    keep(__file__, f"contacts-{run.name}", begin, kept, seed=SEED, given=run.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
