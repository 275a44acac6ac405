"""Import and export: the same tensors under the same names; other sizes; a folder that is whole or not there."""

import json
import shutil
import weakref
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo import cli
from zoo.check import parity
from zoo.check.references import Reference, library, references
from zoo.core import Learned, Network, Periodic, Position, StackConfig
from zoo.errors import UserError
from zoo.music import MusicLM
from zoo.music.chorale import Chorale
from zoo.protein import ProteinLM
from zoo.protein.tokens import Residues
from zoo.text import CausalLM
from zoo.text.tokens import Tokenizer
from zoo.vision import ViT
from zoo.vision.images import Preprocess
from zoo.vision.patches import LinearPatches
from zoo.weights.families import Held
from zoo.weights.resize import more_rows, resize_image, resize_positions, resize_vocabulary, stretch

REFERENCES = references()


def named(name: str) -> Reference:
    return next(r for r in REFERENCES if str(r) == name)


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    def save(name: str, dtype: torch.dtype = torch.float32) -> Path:
        reference = named(name)
        folder = tmp_path / "published"
        reference.save(reference.model(dtype), folder)
        return folder

    return save


def same_tensors(left: Path, right: Path) -> None:
    a, b = (load_file(folder / "model.safetensors") for folder in (left, right))
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert torch.equal(a[name], b[name]), name


def test_any_of_several_ends_ends_a_text(saved: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As chat models of Llama publish them: through import and export, with the library's own generate beside."""
    transformers = library("transformers")
    folder = saved("llama/grouped heads")
    prompts = torch.arange(3, 27).view(8, 3)
    theirs = transformers.LlamaForCausalLM.from_pretrained(folder).eval()
    free = {"do_sample": False, "max_new_tokens": 12, "pad_token_id": 0}
    rows = theirs.generate(prompts, eos_token_id=None, **free)[:, 3:].tolist()
    tokens = sorted({token for row in rows for token in row})
    stops = {pair: {next((t for t in row if t in pair), None) for row in rows} for pair in combinations(tokens, 2)}
    second, third = next(pair for pair, found in stops.items() if found == {*pair, None})  # one row goes on
    never = next(token for token in range(1, 60) if token not in tokens)
    ends = [never, second, third]
    for name in ("config.json", "generation_config.json"):
        about = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(about | {"eos_token_id": ends}))
    expected = theirs.generate(prompts, eos_token_id=ends, **free)[:, 3:]
    stopped = [next((at for at, token in enumerate(row) if token in ends), None) for row in expected.tolist()]
    assert cli.main(["import", str(folder), str(tmp_path / "b")]) == 0
    for at in (folder, tmp_path / "b"):
        loaded = zoo.load(at)
        assert (loaded.model.end, loaded.model.ends) == (never, (never, second, third))
        found = loaded.model.generate(prompts, length=12)
        for ours, other, stop in zip(found, expected, stopped, strict=True):
            upto = len(ours) if stop is None else stop + 1
            assert torch.equal(ours[:upto], other[:upto])
            assert set(ours[upto:].tolist()) <= {never}
    assert "eos_token_id" not in capsys.readouterr().err
    assert cli.main(["export", str(tmp_path / "b"), str(tmp_path / "c"), "--to", "hf"]) == 0
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "c" / name).read_text()) == json.loads((folder / name).read_text())


@pytest.mark.parametrize("reference", REFERENCES, ids=str)
def test_import_and_export_are_bit_for_bit(reference: Reference, tmp_path: Path) -> None:
    reference.save(reference.model(), tmp_path / "a")
    assert cli.main(["import", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert cli.main(["export", str(tmp_path / "b"), str(tmp_path / "c"), "--to", "hf"]) == 0
    same_tensors(tmp_path / "a", tmp_path / "c")
    assert json.loads((tmp_path / "a" / "config.json").read_text()) == json.loads(
        (tmp_path / "c" / "config.json").read_text()
    )
    one, two = zoo.load(tmp_path / "a").model.state_dict(), zoo.load(tmp_path / "b").model.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_halves_stay_what_they_are(saved: Any, tmp_path: Path) -> None:
    folder = saved("llama/grouped heads", torch.bfloat16)
    assert next(zoo.load(folder).model.parameters()).dtype == torch.bfloat16
    cli.main(["import", str(folder), str(tmp_path / "b")])
    cli.main(["export", str(tmp_path / "b"), str(tmp_path / "c"), "--to", "hf"])
    same_tensors(folder, tmp_path / "c")
    # norms in another type than the rest: the network has the one that holds both, the folder each its own
    tensors = load_file(folder / "model.safetensors")
    save_file({n: t.float() if "norm" in n else t for n, t in tensors.items()}, folder / "model.safetensors")
    assert next(zoo.load(folder).model.parameters()).dtype == torch.float32
    cli.main(["export", str(folder), str(tmp_path / "d"), "--to", "hf"])
    same_tensors(folder, tmp_path / "d")


def test_older_names_and_what_nothing_reads_come_back(saved: Any, tmp_path: Path) -> None:
    """As the first files of GPT-2 and BERT are: no prefix, masks, gamma and beta, a head for sentences."""
    folder = saved("gpt2/three heads")
    expected = zoo.load(folder).model.state_dict()
    tensors = load_file(folder / "model.safetensors")
    older = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file(older | {"h.0.attn.bias": torch.ones(1, 1, 32, 32).tril()}, folder / "model.safetensors")
    assert all(torch.equal(value, expected[name]) for name, value in zoo.load(folder).model.state_dict().items())
    cli.main(["import", str(folder), str(tmp_path / "b")])
    cli.main(["export", str(tmp_path / "b"), str(tmp_path / "c"), "--to", "hf"])
    same_tensors(folder, tmp_path / "c")
    shutil.rmtree(folder)
    folder = saved("bert/three heads")
    tensors = load_file(folder / "model.safetensors")
    older = {n.replace("LayerNorm.weight", "LayerNorm.gamma"): t for n, t in tensors.items()}
    older = {n.replace("LayerNorm.bias", "LayerNorm.beta"): t for n, t in older.items()}
    save_file(older | {"cls.seq_relationship.weight": torch.ones(2, 24)}, folder / "model.safetensors")
    cli.main(["export", str(folder), str(tmp_path / "d"), "--to", "hf"])
    same_tensors(folder, tmp_path / "d")


def test_shards_are_one_model(saved: Any) -> None:
    folder = saved("bart/three heads")
    expected = zoo.load(folder).model.state_dict()
    shard(folder)
    assert all(torch.equal(value, expected[name]) for name, value in zoo.load(folder).model.state_dict().items())


def test_weights_are_put_together_one_after_the_other(saved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored in several pieces stands beside model and file for one tensor at a time, not for all of them."""
    alive, most, joined = weakref.WeakSet[torch.Tensor](), [], Held.join

    def join(row: Held, pieces: Any) -> torch.Tensor:
        whole = joined(row, pieces)
        if not any(whole is piece for piece in pieces):
            alive.add(whole)
        most.append(len(alive))
        return whole

    folder = saved("llama/grouped heads")
    monkeypatch.setattr(Held, "join", join)
    zoo.load(folder)
    assert max(most) in (1, 2)
    assert len(most) > 10


def shard(folder: Path) -> None:
    """Cut a folder's weights in two, with an index."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    halves = dict(zip(files, (names[: len(names) // 2], names[len(names) // 2 :]), strict=True))
    for file, half in halves.items():
        save_file({name: tensors[name] for name in half}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, half in halves.items() for name in half}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()


def test_the_library_opens_what_is_exported(saved: Any, tmp_path: Path) -> None:
    folder = saved("gpt2/three heads")
    cli.main(["export", str(folder), str(tmp_path / "out"), "--to", "hf"])
    theirs = library("transformers").AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    ids = torch.randint(30, (1, 6))
    with torch.no_grad():
        torch.testing.assert_close(zoo.load(folder).model(ids), theirs(ids).logits, rtol=1e-5, atol=1e-5)


def test_a_hub_name(saved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, asked = saved("gpt2/three heads"), []

    def download(name: str, **options: Any) -> str:
        asked.append(name)
        assert "*.safetensors" in options["allow_patterns"]
        assert not [p for p in options["allow_patterns"] if "bin" in p or "py" in p]  # no pickles, no code
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert zoo.load("someone/a-model").model.settings["vocab_size"] == 30
    assert zoo.load("a-model").model.settings["vocab_size"] == 30
    assert asked == ["someone/a-model", "a-model"]
    with pytest.raises(ValueError, match="holds no model"):  # a path is never asked for
        zoo.load(folder.parent / "nothing")
    assert len(asked) == 2


def test_a_folder_of_zoos_own_becomes_another(saved: Any, tmp_path: Path) -> None:
    """Also without an origin: a trained run is written so."""
    cli.main(["import", str(saved("vit/three heads")), str(tmp_path / "b")])
    path = tmp_path / "b" / "config.json"
    config = json.loads(path.read_text())
    del config["origin"]
    path.write_text(json.dumps(config | {"more": 1}))
    (tmp_path / "b" / "preprocess.json").write_text(
        json.dumps({"size": 32, "channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3})
    )
    (tmp_path / "b" / "SHA256SUMS").unlink()
    assert cli.main(["import", str(tmp_path / "b"), str(tmp_path / "c")]) == 0
    same_tensors(tmp_path / "b", tmp_path / "c")
    assert json.loads((tmp_path / "c" / "config.json").read_text()) == config | {"more": 1}
    assert zoo.load(tmp_path / "c").tokenizer.size == 32
    assert "preprocess.json" in (tmp_path / "c" / "SHA256SUMS").read_text()


# -- other sizes -------------------------------------------------------------------------------------------------------


def test_images_of_another_size_as_timm_has_them(tmp_path: Path) -> None:
    """Tokens before the patches keep their places; timm's own resizing is the reference."""
    for name in ("timm/deit, distilled", "timm/deit III, registers, query norms"):
        theirs = named(name).model()
        folder = tmp_path / name.replace("/", " ")
        named(name).save(theirs, folder)
        assert cli.main(["import", str(folder), f"{folder} larger", "--image-size", "48"]) == 0
        theirs.set_input_size(img_size=(48, 48))
        images = torch.randn(2, 3, 48, 48)
        with torch.no_grad():
            ours = zoo.load(f"{folder} larger").model(images)
            torch.testing.assert_close(ours, theirs(images), rtol=1e-4, atol=1e-4)
        assert cli.main(["export", f"{folder} larger", f"{folder} back", "--to", "hf"]) == 0
        assert zoo.load(f"{folder} back").model.settings["image_size"] == 48


def test_a_longer_table_of_positions(saved: Any, tmp_path: Path) -> None:
    model = zoo.load(saved("bart/three heads")).model
    shorter, longer = resize_positions(model, 8), resize_positions(model, 63)
    old, new = model.encoder.position.table.weight, longer.encoder.position.table.weight
    assert new.shape == (65, 24)
    torch.testing.assert_close(new[:2], old[:2])  # the rows before position 0
    torch.testing.assert_close(new[2::2], old[2:])  # every second one stands where one stood
    torch.testing.assert_close(new[3], (old[2] + old[3]) / 2)
    source, target = torch.randint(3, 30, (2, 8)), torch.randint(3, 30, (2, 5))
    torch.testing.assert_close(shorter(source, target), model(source, target), rtol=0, atol=0)
    with pytest.raises(ValueError, match="reaches position 8, the position table has 8 rows"):
        shorter(torch.randint(3, 30, (1, 9)), target[:1])


def test_another_vocabulary(saved: Any, tmp_path: Path) -> None:
    folder = saved("gpt2/untied, relu, unscaled")
    model, ids = zoo.load(folder).model, torch.randint(3, 30, (2, 6))
    larger = resize_vocabulary(model, 40)
    with torch.no_grad():
        torch.testing.assert_close(larger(ids)[..., :30], model(ids), rtol=0, atol=0)
        torch.testing.assert_close(larger(ids)[..., 30:], model(ids).mean(-1, keepdim=True).expand(-1, -1, 10))
    assert resize_vocabulary(model, 20)(ids.clamp(max=19)).shape[-1] == 20
    with pytest.raises(ValueError, match="must be above 2, the id of a token that the model needs"):
        resize_vocabulary(model, 2)
    assert cli.main(["import", str(folder), str(tmp_path / "b"), "--vocabulary", "40", "--positions", "16"]) == 0
    cli.main(["export", str(tmp_path / "b"), str(tmp_path / "c"), "--to", "hf"])
    config = json.loads((tmp_path / "c" / "config.json").read_text())
    assert (config["vocab_size"], config["n_positions"]) == (40, 16)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("bert/three heads", "AutoModelForMaskedLM"),
        ("bert/untied, four heads", "AutoModelForMaskedLM"),
        ("bart/three heads", "AutoModelForSeq2SeqLM"),
        ("bart/untied", "AutoModelForSeq2SeqLM"),
        ("marian/unscaled, gelu", "AutoModelForSeq2SeqLM"),
        ("marian/two vocabularies", "AutoModelForSeq2SeqLM"),
        ("t5/v1.1: gated gelu, untied, unscaled", "AutoModelForSeq2SeqLM"),
        ("llama/grouped heads", "AutoModelForCausalLM"),
    ],
)
def test_its_library_opens_what_has_another_vocabulary(saved: Any, tmp_path: Path, name: str, kind: str) -> None:
    folder = saved(name)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    if "decoder_vocab_size" not in config and name.startswith("marian"):
        path.write_text(json.dumps(config | {"decoder_vocab_size": config["vocab_size"]}))  # as many files have it
    assert cli.main(["import", str(folder), str(tmp_path / "b"), "--vocabulary", "50"]) == 0
    assert cli.main(["export", str(tmp_path / "b"), str(tmp_path / "c"), "--to", "hf"]) == 0
    theirs = getattr(library("transformers"), kind).from_pretrained(tmp_path / "c").eval()
    side = parity.Side(named(name), theirs, zoo.load(tmp_path / "c"))
    assert side.ours.model.settings["vocab_size"] == 50
    assert max(parity.logits(side, padding) for padding in side.compared.sides) < 1e-5


def test_tables_alone() -> None:
    table = torch.randn(5, 3)
    assert torch.equal(stretch(table, 5), table)
    assert torch.equal(stretch(table, 3), table[:3])
    assert torch.equal(more_rows(table, 4), table[:4])
    torch.testing.assert_close(more_rows(table, 7)[5:], table.mean(0).expand(2, 3))


def test_models_without_such_a_size(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = zoo.load(saved("llama/grouped heads")).model
    with pytest.raises(ValueError, match="a CausalLM takes no images"):
        resize_image(model, 64)
    with pytest.raises(ValueError, match="no table of positions"):
        resize_positions(model, 64)


# -- whole or not there ------------------------------------------------------------------------------------------------


def test_nothing_is_overwritten(saved: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = saved("gpt2/three heads"), tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("precious")
    assert cli.main(["import", str(folder), str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["mine"]


def test_a_failure_leaves_no_folder(
    saved: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved("gpt2/three heads")

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zoo.weights.folders.write_tensors", full)
    for verb in (["import"], ["export", "--to", "hf"]):
        assert cli.main([*verb, str(folder), str(tmp_path / "out")]) == 2
        assert "could not be written (No space left on device)" in capsys.readouterr().err
        assert sorted(p.name for p in tmp_path.iterdir()) == ["published"]


def test_settings_that_its_config_cannot_say(saved: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = saved("gpt2/three heads")
    cli.main(["import", str(folder), str(tmp_path / "b")])
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    config["settings"]["stack"]["norm"]["init_args"]["eps"] = 1e-3
    (tmp_path / "b" / "config.json").write_text(json.dumps(config))
    (tmp_path / "b" / "SHA256SUMS").unlink()
    capsys.readouterr()
    assert cli.main(["export", str(tmp_path / "b"), str(tmp_path / "c"), "--to", "hf"]) == 2
    assert "stack.norm.eps is 0.001, its published config.json says 1e-05" in capsys.readouterr().err


SMALL = StackConfig(dim=16, depth=1, heads=2, position=Periodic(4))
IMAGES = Preprocess(8, 1, (0.5,), (0.5,))
MODELS: dict[str, tuple[Any, Any]] = {
    "text": (CausalLM(SMALL.replace(causal=True), 300), Tokenizer.train(["to be or not to be"] * 9, 300)),
    "image": (ViT(SMALL.replace(position=Learned(5)), 3, image_size=8, channels=1, patches=LinearPatches(4)), IMAGES),
    "music": (MusicLM(SMALL.replace(causal=True), Chorale().vocab_size), Chorale()),
    "protein": (ProteinLM(SMALL, Residues.vocab_size), Residues()),
}


@pytest.mark.parametrize("domain", MODELS)
def test_a_model_of_a_notebook_is_saved_and_opened(domain: str, tmp_path: Path) -> None:
    model, tokens = MODELS[domain]
    classes = ["a", "b", "c"] if domain == "image" else []
    zoo.save(model, tmp_path / "model", tokens, classes=classes)
    loaded = zoo.load(tmp_path / "model")
    assert loaded.config.get("classes", []) == classes
    assert loaded.model.to_plain() == model.to_plain()
    assert type(loaded.tokenizer) is type(tokens)
    before = model.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.model.state_dict().items())
    with pytest.raises(UserError, match="model: exists"):
        zoo.save(model, tmp_path / "model")


def test_a_network_of_ones_own_is_opened_by_its_class(tmp_path: Path) -> None:
    """Whatever its tokens are of; without the class an error says so, and nothing takes it for one of zoo's."""

    class Own(Network):
        def __init__(self, tokens: int, position: Position):
            super().__init__()
            self.settings = {"tokens": tokens, "position": position}
            self.table = torch.nn.Embedding(tokens, 4)

    for number, (domain, (_, tokens)) in enumerate(MODELS.items()):
        model = Own(9 + number, Learned(5))
        zoo.save(model, tmp_path / domain, tokens)
        loaded = zoo.load(tmp_path / domain, kind=Own)
        assert torch.equal(loaded.model.table.weight, model.table.weight)
        assert loaded.model.settings == model.settings
        assert type(loaded.tokenizer) is type(tokens)
        for kind in (Network, CausalLM):
            with pytest.raises(UserError, match=r"kind of model 'Own'; .*; a network of your own is .*kind=CLASS\)$"):
                zoo.load(tmp_path / domain, kind=kind)
    zoo.save(model, tmp_path / "without")
    assert zoo.load(tmp_path / "without", kind=Own).tokenizer is None
    zoo.save(MODELS["text"][0], tmp_path / "text model")
    with pytest.raises(UserError, match="holds a CausalLM, expected a Own"):
        zoo.load(tmp_path / "text model", kind=Own)
    model.settings["tokens"] = 3
    zoo.save(model, tmp_path / "other")
    with pytest.raises(UserError, match=r"'table.weight' has shape \(12, 4\), the settings say \(3, 4\)"):
        zoo.load(tmp_path / "other", kind=Own)
    model.settings = {"token": 3}
    zoo.save(model, tmp_path / "wrong")
    with pytest.raises(UserError, match=r"config.json: model: .*'token'"):
        zoo.load(tmp_path / "wrong", kind=Own)


def test_a_network_of_ones_own_is_not_saved_as_one_of_zoos(tmp_path: Path) -> None:
    like = type("CausalLM", (CausalLM,), {})
    with pytest.raises(UserError, match=r"would take this CausalLM for zoo's own: give your class another name"):
        zoo.save(like(SMALL.replace(causal=True), 9), tmp_path / "model")
    assert not (tmp_path / "model").exists()
