"""Contacts: from structures, from maps, from a Jacobian; and a model that is taught a family finds what was planted."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.protein.test_verbs import STACK, folder, masked
from zoo.bench.harness import peak_bytes
from zoo.cli import main
from zoo.core import NoPosition
from zoo.core.recurrent import LSTM
from zoo.errors import UserError
from zoo.protein import ProteinLM
from zoo.protein.contacts import (
    attention_maps,
    categorical_jacobian,
    correct,
    fit_regression,
    jacobian_map,
    pair_energies,
    score_map,
)
from zoo.protein.planted import look
from zoo.protein.potts import plant
from zoo.protein.structures import Backbone, precisions, read_npz, read_structure
from zoo.protein.tokens import RESIDUES, Residues


def helix(size: int, seed: int = 0) -> Backbone:
    """A chain that goes forth and back: residue i lies beside residue size - 1 - i."""
    there = np.arange(size)
    x = np.where(there < size // 2, there, size - 1 - there) * 3.8
    y = np.where(there < size // 2, 0.0, 6.0)
    letters = np.random.default_rng(seed).choice(list(RESIDUES), size)
    return Backbone("h", "".join(letters), np.stack((x, y, np.zeros(size)), 1).astype(np.float32))


def test_contacts_are_near_and_what_was_not_seen_is_left_out() -> None:
    chain = helix(20)
    touch = chain.contacts()
    assert touch[0, 19]
    assert touch[5, 14]
    assert not touch[0, 10]
    chain.places[0] = np.nan
    assert not chain.contacts()[0].any()
    assert not chain.seen()[0].any()
    assert chain.seen()[1, 2]


def test_precision_at_length_by_hand() -> None:
    chain = helix(20)
    perfect = precisions(chain.contacts().astype(float), chain, ranges=(6,))
    i, j = np.triu_indices(20, 6)
    touching = chain.contacts()[i, j].sum()
    assert perfect["P@L 6+"] == pytest.approx(min(touching, 20) / 20)
    assert perfect["chance 6+"] == pytest.approx(touching / len(i))
    assert precisions(-chain.contacts().astype(float), chain, ranges=(6,))["P@L 6+"] == 0
    # by how many of the best pairs is right: the k best are the contacts, then pairs that are none
    places = np.argwhere(np.triu(chain.contacts(), 6))
    assert len(places) >= 4
    scores = np.zeros((20, 20))
    for rank, (i, j) in enumerate(places[:3]):
        scores[i, j] = 9 - rank
    scores -= 1e-3 * chain.contacts()
    some = precisions(scores, chain, ranges=(6,))
    assert [some[f"P@L{part} 6+"] for part in ("", "/2", "/5")] == [3 / 20, 3 / 10, 3 / 4]
    assert list(some) == ["P@L 6+", "chance 6+", "P@L/2 6+", "P@L/5 6+"]
    # L is all residues, of which one was not seen: pairs of that one alone are left out
    chain.places[10] = np.nan
    assert precisions(scores, chain, ranges=(6,))["P@L 6+"] == 3 / 20


def test_the_correction_takes_what_row_and_column_give_alone() -> None:
    rows = torch.rand(7, 1)
    assert correct(rows @ rows.T).abs().max() < 1e-6
    peak = rows @ rows.T
    peak[2, 5] += 1
    peak[5, 2] += 1
    assert correct(peak).argmax() in (2 * 7 + 5, 5 * 7 + 2)


def test_a_jacobian_is_that_of_the_model() -> None:
    """Entry by entry against single passes, both axes centred."""
    model = masked()
    ids = torch.tensor(Residues().frame("MKVLAW"))
    jacobian = categorical_jacobian(model, ids, batch=7)
    raw = torch.empty(6, 20, 6, 20)
    kinds = torch.tensor(Residues.residues)
    with torch.no_grad():
        for n in range(6):
            for a in range(20):
                changed = ids.clone()
                changed[n + 1] = kinds[a]
                raw[n, a] = model(changed[None])[0, 1:-1, kinds]
    centred = raw - raw.mean(1, keepdim=True)
    centred = centred - centred.mean(3, keepdim=True)
    torch.testing.assert_close(jacobian, centred, atol=1e-5, rtol=0)
    energies = pair_energies(jacobian)
    torch.testing.assert_close(energies[1, 4], energies[4, 1].T)
    scores = jacobian_map(jacobian)
    torch.testing.assert_close(scores, scores.T)


def test_a_map_of_a_jacobian_is_that_of_all_pair_energies_and_holds_it_once() -> None:
    model, sequence = masked(), "".join(np.random.default_rng(0).choice(list(RESIDUES), 100))
    ids = torch.tensor(Residues().frame(sequence))
    jacobian = categorical_jacobian(model, ids)
    size = pair_energies(jacobian).square().sum((-1, -2)).sqrt()
    whole = correct(size - torch.diag(size.diagonal()))
    torch.testing.assert_close(jacobian_map(jacobian), whole, atol=1e-6, rtol=1e-5)
    copy = jacobian.numel() * jacobian.element_size()
    del jacobian, size
    peak = peak_bytes(lambda: jacobian_map(categorical_jacobian(model, ids, batch=8)), torch.device("cpu"))
    assert copy < peak < 1.3 * copy


def test_a_residue_alone_has_no_contacts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score_map(masked(), "M", "jacobian").tolist() == [[0.0]]
    (tmp_path / "x.fasta").write_text(">x\nM\n")
    assert main(["contacts", folder(tmp_path / "m", masked()), str(tmp_path / "x.fasta")]) == 0
    said = capsys.readouterr()
    assert said.out == "name\tfirst\tsecond\tresidues\tscore\n"
    assert "x: 1 residues, no two are 6 apart" in said.err


def test_a_network_without_attention_is_read_by_its_jacobian_alone() -> None:
    """Through what `zoo test` reports of the built-in family too."""
    family = plant(12, strength=5.0, seed=1)
    assert look(ProteinLM(STACK).eval(), family).to_plain()["head"] is not None
    recurrent = ProteinLM(STACK.replace(mixer=LSTM(), position=NoPosition())).eval()
    found = look(recurrent, family)
    assert found.head is None
    assert 0 <= found.jacobian <= 1
    with pytest.raises(ValueError, match="no attention"):
        attention_maps(recurrent, torch.tensor([Residues().frame("MKVLAW")]))


def test_a_regression_finds_what_its_maps_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps of which one head shows the contacts: that head gets the weight, and new chains are told right. Neighbours
    along the chain, and residues that were not seen, teach nothing: here their maps are no numbers."""
    chains = [helix(40, seed) for seed in range(4)]
    chains[1].places[[3, 20]] = np.nan
    model = ProteinLM(STACK).eval()
    by_sequence = {chain.sequence: chain for chain in chains}

    def maps(net: ProteinLM, ids: torch.Tensor) -> torch.Tensor:
        chain = by_sequence[Residues().decode(ids[0].tolist())]
        noise = torch.rand(1, 4, 40, 40, generator=torch.Generator().manual_seed(len(chain.name)))
        noise[:, 2] = torch.from_numpy(chain.contacts().astype(np.float32)) + 0.1 * noise[:, 2]
        apart = np.abs(np.subtract.outer(np.arange(40), np.arange(40))) >= 6
        return noise.masked_fill(torch.from_numpy(~(apart & chain.seen())), float("nan"))

    monkeypatch.setattr("zoo.protein.contacts.attention_maps", maps)
    fit_regression(model, chains[:3])
    assert model.contacts.fitted
    assert int(model.contacts.weight.abs().argmax()) == 2
    found = model.contacts(maps(model, torch.tensor([Residues().frame(chains[3].sequence)])))[0].numpy()
    i, j = np.triu_indices(40, 6)
    assert ((found[i, j] > 0.5) == chains[3].contacts()[i, j]).mean() > 0.99
    with pytest.raises(ValueError, match="no residues touch"):
        fit_regression(model, [])


def write_chains(path: Path, chains: list[Backbone]) -> None:
    np.savez(
        path,
        pdb=np.array([f"1AB{i}" for i in range(len(chains))]),
        chain=np.array(["A"] * len(chains)),
        sequence=np.array([c.sequence for c in chains]),
        offset=np.cumsum([0, *(len(c.sequence) for c in chains)]),
        seq_index=np.concatenate([np.arange(len(c.sequence)) for c in chains]),
        xyz=np.concatenate([c.places for c in chains]),
    )


def test_fit_and_write_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chains = [helix(40, seed) for seed in range(3)]
    write_chains(tmp_path / "c.npz", chains)
    for one, other in zip(read_npz(tmp_path / "c.npz"), chains, strict=True):
        np.testing.assert_array_equal(one.places, other.places)
    model = folder(tmp_path / "m", masked())
    (tmp_path / "x.fasta").write_text(f">x\n{chains[0].sequence}\n")
    given = ["contacts", model, str(tmp_path / "x.fasta"), "--fit", str(tmp_path / "c.npz")]
    assert main(given) == 2
    assert "--fit needs --out" in capsys.readouterr().err
    assert main([*given, "--out", str(tmp_path / "fitted")]) == 0
    said = capsys.readouterr().out
    assert main(["contacts", str(tmp_path / "fitted"), str(tmp_path / "x.fasta")]) == 0
    assert capsys.readouterr().out == said  # opened again, it predicts the same
    assert main([*given, "--out", str(tmp_path / "fitted")]) == 2
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not an npz file of chains"):
        read_npz(tmp_path / "bad.npz")


def test_twenty_chains_of_common_lengths_are_fitted_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted: list[Backbone] = []
    monkeypatch.setattr("zoo.protein.contacts.fit_regression", lambda model, chains: fitted.extend(chains))
    chains = [helix(size, size) for size in (29, 301, 30, 300, *range(40, 62))]
    write_chains(tmp_path / "c.npz", chains)
    (tmp_path / "x.fasta").write_text(">x\nMKVLAW\n")
    given = ["contacts", folder(tmp_path / "m", masked()), str(tmp_path / "x.fasta"), "--fit", str(tmp_path / "c.npz")]
    assert main([*given, "--out", str(tmp_path / "fitted")]) == 0
    assert [chain.sequence for chain in fitted] == [chain.sequence for chain in chains[2:22]]
    assert "fitted to 20 chains" in capsys.readouterr().err


def test_a_structure_is_read_from_mmcif(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    structure = pytest.importorskip("biotite.structure")
    from biotite.sequence import ProteinSequence
    from biotite.structure.io import pdbx

    chain = helix(30)
    atoms = structure.AtomArray(30)
    atoms.coord = chain.places
    atoms.chain_id[:] = "B"
    atoms.res_id = np.arange(1, 31)
    atoms.res_name = np.array([ProteinSequence.convert_letter_1to3(c) for c in chain.sequence])
    atoms.atom_name[:] = "CA"
    atoms.element[:] = "C"
    file = pdbx.CIFFile()
    pdbx.set_structure(file, atoms)
    file.write(str(tmp_path / "s.cif"))
    found = read_structure(tmp_path / "s.cif")
    assert found.sequence == chain.sequence
    np.testing.assert_allclose(found.places, chain.places, atol=1e-3)
    with pytest.raises(UserError, match=r"no protein chain 'A' \(it has B\)"):
        read_structure(tmp_path / "s.cif", "A")
    (tmp_path / "broken.cif").write_text("loop_\n_atom_site.id\n")
    with pytest.raises(UserError, match="not a structure that can be read"):
        read_structure(tmp_path / "broken.cif")
    model = folder(tmp_path / "m", masked())
    (tmp_path / "x.fasta").write_text(f">x\n{chain.sequence}\n")
    assert main(["contacts", model, str(tmp_path / "x.fasta"), "--structure", str(tmp_path / "s.cif")]) == 0
    err = capsys.readouterr().err
    assert all(f"P@L{part} 24+: " in err for part in ("", "/2", "/5"))
    (tmp_path / "y.fasta").write_text(">y\nMKV\n")
    assert main(["contacts", model, str(tmp_path / "y.fasta"), "--structure", str(tmp_path / "s.cif")]) == 2
    assert "has 30 residues that are not those of 'y' (3)" in capsys.readouterr().err


def test_a_structure_with_gaps_is_placed_in_its_whole_sequence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    structure = pytest.importorskip("biotite.structure")
    from biotite.sequence import ProteinSequence
    from biotite.structure.io import pdbx

    chain = helix(30)
    sequence = "G" + chain.sequence[1:].replace("G", "A")
    names = [ProteinSequence.convert_letter_1to3(c) for c in sequence]
    seen = [*range(2, 10), *range(20, 28)]  # of residues from 0
    atoms = structure.AtomArray(3 * len(seen) + 1)
    for row, place in enumerate(seen):
        for number, (name, up) in enumerate((("N", 9.0), ("CA", 3.0), ("CB", 0.0))):
            atom = 3 * row + number
            atoms.coord[atom] = chain.places[place] + (0, 0, up)
            atoms.atom_name[atom], atoms.element[atom] = name, name[0]
            atoms.res_id[atom], atoms.res_name[atom], atoms.chain_id[atom] = place + 1, names[place], "A"
    atoms.coord[-1], atoms.atom_name[-1], atoms.element[-1] = (500, 0, 0), "CA", "CA"  # calcium
    atoms.res_id[-1], atoms.res_name[-1], atoms.chain_id[-1], atoms.hetero[-1] = 900, "CA", "A", True
    file = pdbx.CIFFile()
    pdbx.set_structure(file, atoms)
    file.write(str(tmp_path / "gap.cif"))
    unknown = read_structure(tmp_path / "gap.cif")  # says nothing of residues that were not seen
    assert unknown.sequence == "XX" + sequence[2:10] + "X" * 10 + sequence[20:28]
    count = len(sequence)
    file.block["entity_poly_seq"] = pdbx.CIFCategory(
        {"entity_id": ["1"] * count, "num": [str(i + 1) for i in range(count)], "mon_id": names}
    )
    file.write(str(tmp_path / "whole.cif"))
    found = read_structure(tmp_path / "whole.cif")
    assert found.sequence == sequence
    assert np.flatnonzero(found.seen().diagonal()).tolist() == seen
    np.testing.assert_allclose(found.places[seen], chain.places[seen], atol=1e-3)  # of C-beta
    assert found.of(sequence[2:28]).places.shape == (26, 3)
    assert unknown.of(sequence[:28]) is not None
    assert found.of(sequence[2:10] + sequence[20:28]) is None  # places over a gap would be miscounted
    model = folder(tmp_path / "m", masked())
    (tmp_path / "x.fasta").write_text(f">x\n{sequence}\n")
    assert main(["contacts", model, str(tmp_path / "x.fasta"), "--structure", str(tmp_path / "whole.cif")]) == 0
    said = capsys.readouterr().err
    assert "contacts are C-beta (C-alpha where there is none) atoms below 8 angstroms; 16 of 30 residues" in said
    touching = [(i, j) for i in seen for j in seen if j - i >= 6 and found.contacts()[i, j]]
    pairs = [(i, j) for i in seen for j in seen if j - i >= 6]
    assert f"chance 6+: {len(touching) / len(pairs):.3f}" in said
