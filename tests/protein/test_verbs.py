"""The verbs for proteins, through the command line, on small models with random weights."""

import json
import math
import resource
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.test_bad_input import one_line
from zoo.cli import main
from zoo.core import Learned, Rotary, StackConfig
from zoo.protein import ProteinLM, ResidueModel, SequenceModel
from zoo.protein.reading import AHEAD, read_whole, window_of
from zoo.protein.scoring import MASKED, Reading, agreement, score
from zoo.protein.tokens import Residues
from zoo.protein.variants import Wildtype, parse

STACK = StackConfig(dim=24, depth=2, heads=2, position=Rotary())
WILD = "MKVLAWDEGHIKLPQRSTNY"


def folder(path: Path, model: Any, **config: Any) -> str:
    path.mkdir()
    described = {"kind": type(model).__name__, "settings": model.to_plain(), **config}
    (path / "config.json").write_text(json.dumps(described))
    (path / "vocab.txt").write_text(Residues().content())
    save_file({k: v.clone() for k, v in model.state_dict().items()}, path / "model.safetensors")
    return str(path)


def masked(**changes: Any) -> ProteinLM:
    torch.manual_seed(0)
    model = ProteinLM(STACK.replace(**changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def causal() -> ProteinLM:
    torch.manual_seed(0)
    return ProteinLM(STACK.replace(causal=True), token_dropout=False).eval()


def by_hand(model: ProteinLM, sequence: str, hidden: list[int]) -> torch.Tensor:
    """Log probabilities "n v" of each residue, with some of them hidden, in one pass over the whole protein."""
    ids = torch.tensor([Residues().frame(sequence)])
    ids[0, [place + 1 for place in hidden]] = Residues.mask
    with torch.no_grad():
        return model(ids).log_softmax(-1)[0, 1:-1]


def at(table: torch.Tensor, place: int, letter: str) -> float:
    return float(table[place, Residues().encode(letter)[0]])


def test_the_five_conventions_are_what_they_are_called() -> None:
    model, wild = masked(), Wildtype(WILD)
    variants = [parse(v) for v in ("K2R,D7E", "W6F", "", "K2del", "K2R,D7E")]
    two = WILD.replace("K", "R", 1).replace("D", "E", 1)
    shown, hidden, own = by_hand(model, WILD, []), by_hand(model, WILD, [1, 6]), by_hand(model, two, [])

    def difference(table: torch.Tensor) -> float:
        return at(table, 1, "R") - at(table, 1, "K") + at(table, 6, "E") - at(table, 6, "D")

    def alone(place: int, old: str, new: str) -> float:
        table = by_hand(model, WILD, [place])
        return at(table, place, new) - at(table, place, old)

    def pseudo(sequence: str) -> float:
        return float(np.mean([at(by_hand(model, sequence, [i]), i, c) for i, c in enumerate(sequence)]))

    expected = {
        "wildtype-marginals": difference(shown),
        "masked-marginals": difference(hidden),
        "masked-additive": alone(1, "K", "R") + alone(6, "D", "E"),
        "mutant-marginals": difference(own),
        "pseudo-perplexity": pseudo(two) - pseudo(WILD),
    }
    for method, value in expected.items():
        found = score(model, wild, variants, method)
        assert found[0] == pytest.approx(value, abs=1e-5), method
        assert found[0] == found[4]
        assert found[2] == 0.0
        assert (found[3] is None) == (method != "pseudo-perplexity")
    assert len({round(v, 4) for v in expected.values()}) == 5  # five numbers, not one under five names
    singles = [score(model, wild, [parse("W6F")], method) for method in ("masked-marginals", "masked-additive")]
    assert singles[0] == pytest.approx(singles[1], abs=1e-6)
    assert score(model, wild, [parse("K2del")], "pseudo-perplexity")[0] == pytest.approx(
        pseudo(WILD[0] + WILD[2:]) - pseudo(WILD), abs=1e-5
    )


def test_a_model_that_writes_gives_the_likelihood_of_the_whole() -> None:
    model = causal()

    def log(sequence: str) -> float:
        ids = torch.tensor([Residues().frame(sequence)])
        with torch.no_grad():
            table = model(ids[:, :-1]).log_softmax(-1)[0]
        return float(table[torch.arange(ids.shape[1] - 1), ids[0, 1:]].sum())

    found = score(model, Wildtype(WILD), [parse("K2R"), parse("K2_V3insGG")], "likelihood")
    assert found == pytest.approx([log("MR" + WILD[2:]) - log(WILD), log("MKGG" + WILD[2:]) - log(WILD)], abs=1e-4)
    ids = torch.tensor([Residues().frame(WILD * 150)])
    with torch.no_grad():
        each = model(ids).log_softmax(-1)[0, torch.arange(ids.shape[1] - 1), ids[0, 1:]]
    whole = Reading(model, ids.shape[1], "").likelihood([WILD * 150])[0]
    assert whole == pytest.approx(math.fsum(each.tolist()), abs=1e-6)  # however long it is
    with pytest.raises(ValueError, match="reads from left to right gives no masked-marginals"):
        score(model, Wildtype(WILD), [parse("K2R")], "masked-marginals")


@pytest.mark.parametrize("method", MASKED)
def test_windows_are_the_whole_where_the_whole_fits(method: str) -> None:
    """A window of exactly the protein's length changes nothing; one token less does."""
    model, wild, variants = masked(), Wildtype(WILD), [parse("K2R"), parse("D7E,Y20F")]
    whole = score(model, wild, variants, method)
    assert score(model, wild, variants, method, longest=len(WILD) + 2) == pytest.approx(whole, abs=1e-6)
    assert score(model, wild, variants, method, longest=len(WILD) + 1) != pytest.approx(whole, abs=1e-6)


def test_windows_of_a_model_without_reach_are_the_whole() -> None:
    """A model whose tokens see nobody else gives the same by windows as at once: every place once, in its place."""
    model = masked()
    rows = [Residues().frame(WILD * n) for n in (9, 1, 4)]

    def alone(ids: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        return model.trunk.embedding(ids)

    options = {"overlap": 6, "device": torch.device("cpu"), "budget": 64}
    found = list(read_whole(alone, rows, longest=20, **options))
    assert len(found) == 3
    for out, ids in zip(found, rows, strict=True):
        torch.testing.assert_close(out, model.trunk.embedding(torch.tensor(ids)).detach())


def test_whole_proteins_come_in_order_and_few_wait_for_their_turn() -> None:
    draw = np.random.default_rng(0)
    rows = [Residues().frame("M" * int(n)) for n in draw.integers(1, 50, 600)]
    seen, given, batches, most = 0, 0, 0, 0

    def sizes(ids: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        nonlocal seen, batches
        seen, batches = seen + int(keep.sum()), batches + 1
        return keep.sum(1, keepdim=True).expand(ids.shape)

    found = []
    for out in read_whole(sizes, rows, longest=60, overlap=6, device=torch.device("cpu"), budget=256):
        found.append(len(out))
        given += len(out)
        most = max(most, seen - given)
        assert (out == len(out)).all()
    assert found == [len(ids) for ids in rows]
    assert most <= (AHEAD + 1) * 256
    assert batches < 1.3 * sum(found) / 256  # proteins still go together with others of their length


def test_the_window_is_what_the_model_can_place() -> None:
    assert window_of(masked(position=Learned(30))) == (30, 15)
    with pytest.raises(ValueError, match="the model can place 30"):
        window_of(masked(position=Learned(30)), 40)
    with pytest.raises(ValueError, match="windows of 0 tokens are too short"):
        window_of(masked(), 0)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "wt.fasta").write_text(f">wt\n{WILD}\n")
    # a first column without a name, as tables with an index have
    (tmp_path / "v.csv").write_text(",mutant,measured\n0,K2R,1.5\n1,W6F,\n2,K2del,0\n")
    (tmp_path / "many.fasta").write_text(f">long\n{WILD * 3}\n>short\nMKV\n>mid\n{WILD}\n")
    return tmp_path


def test_score_adds_columns_and_keeps_the_order(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = folder(files / "m", masked())
    assert main(["score", model, str(files / "wt.fasta"), str(files / "v.csv"), "--method", "all"]) == 0
    said = capsys.readouterr()
    rows = [line.split(",") for line in said.out.splitlines()]
    assert rows[0][:3] == ["", "mutant", "measured"]
    assert set(rows[0][3:]) == set(MASKED)
    assert [row[:3] for row in rows[1:]] == [["0", "K2R", "1.5"], ["1", "W6F", ""], ["2", "K2del", "0"]]
    column = rows[0].index("masked-marginals")
    expected = score(masked(), Wildtype(WILD), [parse("K2R"), parse("W6F")], "masked-marginals")
    assert [float(row[column]) for row in rows[1:3]] == pytest.approx(expected, abs=1e-5)
    assert rows[3][column] == ""
    assert "1 of 3 variants insert or delete" in said.err
    assert main(["score", model, str(files / "wt.fasta"), str(files / "v.csv"), "--out", str(files / "o.csv")]) == 0
    assert main(["score", model, str(files / "wt.fasta"), str(files / "v.csv"), "--out", str(files / "o.csv")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_score_says_how_well_it_ranks_what_was_measured(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from scipy import stats

    model, variants = folder(files / "m", masked()), ["K2R", "W6F", "D7E", "E8D", "G9A", "K2del"]
    measured = [0.3, 1.5, -2.0, 0.9, None, 5.0]
    rows = (f"{v},{'' if m is None else m}" for v, m in zip(variants, measured, strict=True))
    (files / "x.csv").write_text("mutant,activity\n" + "\n".join(rows) + "\n")
    given = ["score", model, str(files / "wt.fasta"), str(files / "x.csv"), "--measured", "activity"]
    assert main(given) == 0
    said = capsys.readouterr()
    scores = [float(line.split(",")[2]) for line in said.out.splitlines()[1:5]]
    right = stats.spearmanr(scores, measured[:4]).statistic
    assert f"masked-marginals: Spearman {right:.3f} with activity, 4 variants" in said.err
    assert agreement([None, 1.0], [1.0, None]) == (0.0, 0)


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        ("mutant,a\nK2R,1\nK2R,high\n", ["--measured", "a"], "v.csv, line 3: 'high' was measured, expected a number"),
        ("mutant,a\nK2R,1\n", ["--measured", "b"], "no column 'b'"),
        ("mutant\nK2R\nK3R\n", [], "v.csv, line 3: K3R: residue 3 is V, not K; of 2 residues that the variants name"),
        ("mutant\nK2R\nNaN\n", [], "v.csv, line 3: 'NaN' is a missing value"),
        ("mutant\nK2R\nnonsense1\n", [], "line 3: 'nonsense1' is no variant"),
        ("what\nK2R\n", [], "no column mutant or variant"),
        ("mutant,masked-marginals\nK2R,1\n", [], "has a column 'masked-marginals' already"),
        ("mutant,x,x\nK2R,1,2\n", [], "line 1: the column 'x' stands twice"),
        ("mutant\nK2R\n", ["--column", "mutants"], "no column 'mutants'; did you mean 'mutant'?"),
        ("mutant\nK2R\n", ["--method", "masked-marginal"], "did you mean 'masked-marginals'?"),
        ("mutant\nK2R\n", ["--offset", "0"], "line 2: K2R: residue 2 is V, not K"),
        ("mutant\nK2R\n", ["--record", "other"], "no record 'other'"),
    ],
)
def test_what_is_wrong_is_one_line(
    files: Path, capsys: pytest.CaptureFixture[str], table: str, options: list[str], said: str
) -> None:
    (files / "v.csv").write_text(table)
    model = folder(files / "m", masked())
    assert main(["score", model, str(files / "wt.fasta"), str(files / "v.csv"), *options]) == 2
    assert said in one_line(capsys, 2)


def test_positions_from_nought_are_found_and_said(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "v.csv").write_bytes(b"mutant\r\nK1R\r\nW5F\r\n")
    assert main(["score", folder(files / "m", masked()), str(files / "wt.fasta"), str(files / "v.csv")]) == 0
    said = capsys.readouterr()
    assert "positions count from 0" in said.err
    value = float(said.out.splitlines()[1].split(",")[1])
    assert value == pytest.approx(score(masked(), Wildtype(WILD), [parse("K2R")], "masked-marginals")[0], abs=1e-5)


def test_annotate_labels_every_residue(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    net = ResidueModel(STACK, 3).eval()
    model = folder(files / "m", net, classes=["C", "H", "E"])
    assert main(["annotate", model, str(files / "many.fasta"), "--longest", "40"]) == 0
    head, *rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert head == ["name", "position", "residue", "label", "C", "H", "E"]
    assert [row[0] for row in rows] == ["long"] * 60 + ["short"] * 3 + ["mid"] * 20
    assert "".join(row[2] for row in rows) == WILD * 3 + "MKV" + WILD
    with torch.no_grad():
        shares = net(torch.tensor([Residues().frame("MKV")])).softmax(-1)[0, 1:-1]
    for row, right in zip(rows[60:63], shares, strict=True):
        assert [float(x) for x in row[4:]] == pytest.approx(right.tolist(), abs=1e-4)
        assert row[3] == "CHE"[int(right.argmax())]
    assert main(["annotate", model, str(files / "many.fasta"), "--fasta"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[::2] == [">long", ">short", ">mid"]
    assert [len(line) for line in lines[1::2]] == [60, 3, 20]


def test_classify_names_proteins_and_score_gives_values(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each in the order of the input, as the network gives it alone; what a model cannot say is one line."""
    torch.manual_seed(0)
    classes, value = SequenceModel(STACK, 3).eval(), SequenceModel(STACK, 1).eval()
    value.scale_to(100.0, 20.0)
    places = folder(files / "c", classes, classes=["cytosol", "membrane", "nucleus"])
    measured = folder(files / "v", value)
    assert main(["classify", places, str(files / "many.fasta"), "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["input"] for row in found] == ["long", "short", "mid"]
    for row, sequence in zip(found, [WILD * 3, "MKV", WILD], strict=True):
        with torch.no_grad():
            shares = classes(torch.tensor([Residues().frame(sequence)])).softmax(-1)[0].tolist()
        named = dict(zip(["cytosol", "membrane", "nucleus"], shares, strict=True))
        assert row["classes"] == pytest.approx(named, abs=1e-5)
    variants = [parse("K2R"), parse("W6F"), parse("K2R"), parse("K2del")]
    made = [Wildtype(WILD).apply(variant) for variant in variants]
    (files / "u.csv").write_text("mutant\nK2R\nW6F\nK2R\nK2del\n")
    assert main(["score", measured, str(files / "wt.fasta"), str(files / "u.csv")]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head == "mutant,predicted"
    with torch.no_grad():
        expected = [float(value(torch.tensor([Residues().frame(sequence)]))) for sequence in made]
    assert [float(row.split(",")[1]) for row in rows] == pytest.approx(expected, abs=1e-3)
    given = [str(files / "wt.fasta"), str(files / "u.csv")]
    assert "gives no masked-marginals; it gives predicted" in one_line(
        capsys, main(["score", measured, *given, "--method", "masked-marginals"])
    )
    assert "ask it with zoo classify" in one_line(capsys, main(["score", places, *given]))
    assert "ask it with zoo score" in one_line(capsys, main(["classify", measured, str(files / "many.fasta")]))


def test_embed_writes_residues_and_their_means(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = masked()
    model = folder(files / "m", net)
    assert main(["embed", model, str(files / "many.fasta"), "--out", str(files / "e.npz")]) == 0
    held = np.load(files / "e.npz")
    assert held["names"].tolist() == ["long", "short", "mid"]
    assert held["offsets"].tolist() == [0, 60, 63, 83]
    with torch.no_grad():
        states = net.trunk(torch.tensor([Residues().frame("MKV")]))[0][1:-1].numpy()
    np.testing.assert_allclose(held["residues"][60:63], states, atol=1e-5)
    np.testing.assert_allclose(held["pooled"][1], states.mean(0), atol=1e-5)
    assert main(["embed", model, str(files / "many.fasta"), "--out", str(files / "e.npz")]) == 2
    assert main(["embed", model, str(files / "many.fasta"), "--out", str(files / "e.txt")]) == 2
    assert "ends in .npz" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--pooled"]])
def test_embed_holds_the_residues_of_one_protein_at_a_time(
    files: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    alive: list[weakref.ref] = []
    most = 0

    def made(_, rows: list[list[int]], **options: object) -> Iterator[torch.Tensor]:
        nonlocal most
        for ids in rows:
            vectors = np.full((len(ids), 4), len(ids), dtype=np.float32)
            alive.append(weakref.ref(vectors))
            yield torch.from_numpy(vectors)
            del vectors
            most = max(most, sum(one() is not None for one in alive))

    monkeypatch.setattr("zoo.protein.reading.read_whole", made)
    (files / "x.fasta").write_text("".join(f">p{i}\nMK{'V' * i}\n" for i in range(30)))
    model = folder(files / "m", masked())
    assert main(["embed", model, str(files / "x.fasta"), "--out", str(files / "e.npz"), *more]) == 0
    assert most <= 2
    held = np.load(files / "e.npz")
    assert held["pooled"].tolist() == [[i + 4.0] * 4 for i in range(30)]
    if not more:
        assert all((held["residues"][held["offsets"][i] : held["offsets"][i + 1]] == i + 4).all() for i in range(30))
        assert (held["residues"].dtype, len(held["residues"])) == (np.float32, held["offsets"][-1])


@pytest.mark.parametrize("verb", ["embed", "annotate"])
def test_a_disk_that_is_full_is_one_line_and_leaves_nothing(
    files: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    net, more = {"embed": (masked(), {}), "annotate": (ResidueModel(STACK, 3), {"classes": ["C", "H", "E"]})}[verb]
    model = folder(files / "m", net.eval(), **more)
    (files / "x.fasta").write_text("".join(f">p{i}\n{WILD}\n" for i in range(60)))
    before = sorted(files.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # no file may become longer
    try:
        code = main([verb, model, str(files / "x.fasta"), "--out", str(files / "out.npz")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"zoo {verb}: {files / 'out.npz'}: File too large\n" == one_line(capsys, code)
    assert sorted(files.iterdir()) == before


def test_contacts_lists_draws_and_refuses(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = masked()
    model = folder(files / "m", net)
    maps = ["--maps", str(files / "maps")]
    assert main(["contacts", model, str(files / "wt.fasta"), "--top", "5", *maps]) == 0
    said = capsys.readouterr()
    rows = [line.split("\t") for line in said.out.splitlines()]
    assert len(rows) == 6
    for name, first, second, letters, _ in rows[1:]:
        assert name == "wt"
        assert int(second) - int(first) >= 6
        assert letters == WILD[int(first) - 1] + WILD[int(second) - 1]
    assert [float(r[4]) for r in rows[1:]] == sorted((float(r[4]) for r in rows[1:]), reverse=True)
    assert "was not fitted: by the categorical Jacobian" in said.err
    assert (files / "maps" / "wt.png").read_bytes().startswith(b"\x89PNG")
    net.contacts.weight.normal_()
    fitted = folder(files / "f", net)
    assert main(["contacts", fitted, str(files / "wt.fasta"), "--top", "5"]) == 0
    said = capsys.readouterr()
    assert all(0 <= float(line.split("\t")[4]) <= 1 for line in said.out.splitlines()[1:])
    (files / "huge.fasta").write_text(f">ok\nMKV\n>huge\n{'MKVLAWDE' * 5000}\n")
    assert main(["contacts", model, str(files / "huge.fasta")]) == 2
    assert "record 'huge' (line 3): 40,000 residues; a map is their square" in capsys.readouterr().err
    assert main(["contacts", folder(files / "c", causal()), str(files / "wt.fasta")]) == 2
    assert "contacts need a masked one" in capsys.readouterr().err


def test_what_cannot_be_written_is_said_before_the_model_opens(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wild, table = str(files / "wt.fasta"), str(files / "v.csv")
    monkeypatch.chdir(files)
    for verb in (["score", "m", wild, table], ["annotate", "m", wild], ["contacts", "m", wild, "--fit", table]):
        assert "--out no/o.npz: no folder no\n" in one_line(capsys, main([*verb, "--out", "no/o.npz"]))
        assert "--out v.csv exists already" in one_line(capsys, main([*verb, "--out", "v.csv"]))
    assert "--out no/o.npz: no folder no\n" in one_line(capsys, main(["embed", "m", wild, "--out", "no/o.npz"]))
    assert "give --fit CHAINS.npz too" in one_line(capsys, main(["contacts", "m", wild, "--out", "o"]))


def test_every_map_has_a_file_of_its_own(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "x.fasta").write_text(">a/b\nMKVLAW\n>a_b\nMKVLAWD\n>a_b-2\nMKV\n>b\nMKV\n")
    given = ["contacts", folder(files / "m", masked()), str(files / "x.fasta"), "--maps", str(files / "maps")]
    assert main(given) == 0
    names = ["a_b.png", "a_b-2.png", "a_b-2-2.png", "b.png"]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("drawn: ")]
    assert [Path(line.split()[1]).name for line in said] == names
    for name in names[:3]:
        (files / "maps" / name).unlink()
    assert main(["contacts", "none", *given[2:]]) == 2  # before the model opens
    refused = capsys.readouterr()
    assert "maps/b.png exists already" in refused.err
    assert not refused.out


def test_generate_writes_residues_alone(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = folder(files / "c", causal())
    assert main(["generate", model, "--prompt", "MK", "--length", "40", "--temperature", "2"]) == 0
    said = capsys.readouterr().out.strip()
    assert said.startswith("MK")
    assert set(said) <= set("ACDEFGHIKLMNPQRSTVWY")
    assert main(["generate", model, "--length", "5"]) == 0
    assert main(["generate", model, "--prompt", "M1"]) == 2
    assert "--prompt: '1' at residue 2 is a digit" in capsys.readouterr().err
    assert main(["generate", folder(files / "m", masked()), "--prompt", "MK"]) == 2
    assert "looks both ways" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.fasta", ">a\nMKV\n>b\n", "record 'b' (line 3): holds no residues"),
        ("x.fasta", ">a\nMKV\n>a\nMKL\n", "line 3: the name 'a' stands on line 1 already"),
        ("x.fasta", ">a\nMK7\n", "record 'a' (line 1): '7' at residue 3 is a digit"),
        ("x.fasta.gz", ">a\nMKV\n", "x.fasta.gz: not gzip"),
        ("x.csv", "sequence\nMK7\n", "line 2: '7' at residue 3 is a digit"),
        ("none.fasta", None, "none.fasta: no such file"),
    ],
)
def test_a_file_that_is_wrong_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    model = folder(tmp_path / "m", masked())
    for verb in (["contacts"], ["embed", "--out", str(tmp_path / "e.npz")]):
        assert main([verb[0], model, str(tmp_path / name), *verb[1:]]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert said in lines[0]


def test_a_chain_of_forty_thousand_residues_goes_by_windows(tmp_path: Path) -> None:
    (tmp_path / "x.fasta").write_text(f">huge\n{'MKVLAWDE' * 5000}\n>small\nMKV\n")
    model = folder(tmp_path / "m", masked(depth=1))
    given = [model, str(tmp_path / "x.fasta"), "--pooled", "--longest", "2000", "--out", str(tmp_path / "e.npz")]
    assert main(["embed", *given]) == 0
    assert np.load(tmp_path / "e.npz")["pooled"].shape == (2, 24)
