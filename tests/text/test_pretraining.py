"""From texts to a masked language model and a span writer, from there to a classifier, each asked through the verbs."""

import io
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml

from tests.test_bad_input import one_line
from tests.test_traps import QUIET
from zoo.cli import main
from zoo.core import StackConfig
from zoo.data.corruption import fill_spans
from zoo.text.classification import TextClassification
from zoo.text.fill import fill
from zoo.text.labelled import LabelledBatch
from zoo.text.masked import MaskedLanguageModel
from zoo.text.tokens import Tokenizer
from zoo.train.start import Source, begin_with
from zoo.weights.load import load

STACK = {"dim": 32, "depth": 1, "heads": 2, "position": "Rotary"}
FAST = {"class_path": "AdamW", "init_args": {"lr": 0.005}}
ANIMALS = {"cat": "meows", "dog": "barks", "cow": "moos", "duck": "quacks"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences of which the animal tells the noise, as lines and as a table of two classes."""
    folder = tmp_path_factory.mktemp("pretraining")
    lines = [f"the {animal} in the house {noise}" for animal, noise in ANIMALS.items()] * 200
    (folder / "text.txt").write_text("\n".join(lines))
    table = [
        f"{'pet' if animal in ('cat', 'dog') else 'farm'},{i} {animal} here" for i in range(40) for animal in ANIMALS
    ]
    (folder / "table.csv").write_text("\n".join(["label,text", *table]))
    return folder


def fit(folder: Path, name: str, model: dict, data: dict, *options: object, epochs: int = 12) -> int:
    plain = {"model": model, "data": data, "trainer": {"accelerator": "cpu", "max_epochs": epochs}}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(plain))
    given = ["--config", folder / f"{name}.yaml", "--run", folder / name, *QUIET, *options]
    return main(["fit", *map(str, given)])


def masked(folder: Path, name: str = "masked", **changes: object) -> int:
    model = {"class_path": "MaskedLanguageModel", "init_args": {"stack": STACK, "optimizer": FAST, "rate": 0.3}}
    text = {"path": str(folder / "text.txt"), "documents": "lines", "vocab_size": 300, "length": 60, "batch": 4}
    return fit(folder, name, model, {"class_path": "Corpus", "init_args": text | changes}, epochs=24)


def classifier(folder: Path, name: str, *options: object, **data: object) -> int:
    model = {"class_path": "TextClassification", "init_args": {"stack": STACK, "optimizer": FAST, "word_dropout": 0.1}}
    table = {"path": str(folder / "table.csv"), "vocab_size": 300, "tokens_per_batch": 200} | data
    return fit(folder, name, model, {"class_path": "LabelledTable", "init_args": table}, *options, epochs=8)


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    assert masked(folder) == 0
    return folder / "masked"


@pytest.fixture(scope="module")
def tuned(folder: Path, trained: Path) -> Path:
    last = trained / "checkpoints" / "last.ckpt"
    assert classifier(folder, "tuned", "--init-from", last, tokenizer=str(trained)) == 0
    return folder / "tuned"


def test_a_masked_language_model_fills_what_was_hidden(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", str(trained), *QUIET]) == 0
    said = dict(line.split(": ") for line in capsys.readouterr().out.strip().splitlines())
    assert float(said["nll"]) < 0.7
    assert main(["fill", str(trained), "the [MASK] in the house moos", "[MASK] dog [MASK] the house barks"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "the cow in the house moos"
    assert said[1].startswith("  1: 'cow' 0.")
    assert said[2] == "the dog in the house barks"
    assert main(["fill", str(trained), "--json", "--top", "2", "the duck in the house [MASK]"]) == 0
    (gap,) = json.loads(capsys.readouterr().out)["gaps"]
    assert gap[0]["text"] == " quacks"
    assert len(gap) == 2
    assert gap[0]["share"] > gap[1]["share"]


def test_smoothing_that_leaves_nothing_of_a_class_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert classifier(folder, "smooth", "--model.label_smoothing", 1.5) == 2
    assert "label_smoothing (1.5) must be in [0, 1)" in capsys.readouterr().err.splitlines()[-1]
    assert not (folder / "smooth").exists()


def test_validation_always_hides_the_same_and_training_does_not(folder: Path) -> None:
    from zoo.text.corpus import Corpus

    data = Corpus(folder / "text.txt", documents="lines", vocab_size=300, length=60, batch=4)
    task = MaskedLanguageModel(StackConfig(dim=16, depth=1, heads=2), data.vocab_size, data.mask, data.ordinary)
    batch = next(iter(data.val_dataloader()))
    losses = {mode: [float(task.train(mode).loss(batch).nll) for _ in range(2)] for mode in (True, False)}
    assert losses[False][0] == losses[False][1]
    assert losses[True][0] != losses[True][1]
    out = task.loss(batch)
    lengths = batch.keep.sum(-1) - 1 - (batch.ids == Tokenizer.end).sum(-1)  # start and end are never hidden
    assert int(out.tokens) == sum(max(round(0.15 * int(n)), 1) for n in lengths if n)


def test_a_classifier_begins_with_the_trunk_and_says_so(
    tuned: Path, trained: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = trained / "checkpoints" / "last.ckpt"
    assert classifier(folder, "again", "--init-from", last, "--trainer.max_steps", "1", tokenizer=str(trained)) == 0
    assert f"taken from {last}: trunk (15 tensors); new: head" in capsys.readouterr().err
    before = torch.load(last, weights_only=True)["state_dict"]
    after = torch.load(folder / "again" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    name = "network.trunk.stack.blocks.0.ffn.branch.up.weight"
    assert (before[name] - after[name]).abs().max() < 0.02  # one step away
    assert json.loads((tuned / "config.json").read_text())["classes"] == ["farm", "pet"]
    assert main(["test", str(tuned), *QUIET]) == 0
    assert "accuracy: 1.0" in capsys.readouterr().out


def test_classes_are_shown_by_their_names(
    tuned: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["classify", str(tuned), "7 cow here", "3 dog here"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0].split()[0] for row in rows] == ["farm", "pet"]
    assert [row[-1] for row in rows] == ["7 cow here", "3 dog here"]
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": io.BytesIO(b"7 cow here\n")}))
    assert main(["classify", str(tuned), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["class"] == "farm"
    assert sum(said["classes"].values()) == pytest.approx(1, abs=1e-5)


def test_weights_that_mean_other_tokens_are_refused(
    trained: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = trained / "checkpoints" / "last.ckpt"
    assert classifier(folder, "apart", "--trainer.max_steps", "1") == 0
    capsys.readouterr()
    said = one_line(capsys, classifier(folder, "other", "--init-from", last, tokenizer=str(folder / "apart")))
    assert f"was trained on other tokens: take its own with --data.tokenizer {trained}" in said
    wide = ["--model.stack.dim", "64"]
    code = classifier(folder, "other", "--init-from", last, *wide, tokenizer=str(trained))
    assert "its trunk is not this model's ('network.trunk.embedding.weight': (" in one_line(capsys, code)
    assert not (folder / "other").exists()


def test_a_folder_of_weights_is_begun_with_where_its_tokens_are_these(
    trained: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = folder / "kept"
    assert main(["import", str(trained), str(kept)]) == 0
    begin = ["--init-from", kept, "--trainer.max_steps", "1"]
    assert classifier(folder, "third", *begin, tokenizer=str(trained)) == 0
    assert f"taken from {kept}: trunk (15 tensors); new: head" in capsys.readouterr().err
    for name in ("tokenizer.json", "SHA256SUMS"):
        (kept / name).unlink()
    said = one_line(capsys, classifier(folder, "fourth", *begin, tokenizer=str(trained)))
    assert "says of no tokens what they are: it has no tokenizer.json" in said


def test_what_fill_and_classify_cannot_do_is_one_line(
    trained: Path, tuned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no [MASK] in 'the cat'" in one_line(capsys, main(["fill", str(trained), "the cat"]))
    assert "TextClassifier, which does not fill gaps" in one_line(capsys, main(["fill", str(tuned), "a [MASK]"]))
    assert "MaskedLM, which does not classify" in one_line(capsys, main(["classify", str(trained), "a"]))
    assert "--top must be at least 1" in one_line(capsys, main(["classify", str(tuned), "a", "--top", "0"]))
    for text in ("", " "):
        assert "text 2: empty, there is" in one_line(capsys, main(["classify", str(tuned), "--batch", "1", "a", text]))
    assert "MaskedLM, which does not go on" in one_line(capsys, main(["generate", str(trained), "--prompt", "a"]))


def test_a_span_writer_fills_gaps_of_any_length(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    decoder = STACK | {"causal": True, "cross": True}
    model = {"class_path": "SpanWriting", "init_args": {"encoder": STACK, "decoder": decoder, "optimizer": FAST}}
    text = {"path": str(folder / "text.txt"), "documents": "lines", "vocab_size": 300, "length": 60, "batch": 4}
    data = {"class_path": "SpanCorpus", "init_args": text | {"density": 0.3, "mean": 2.0, "sentinels": 20}}
    assert fit(folder, "spans", model, data, epochs=3) == 0
    capsys.readouterr()
    assert main(["test", str(folder / "spans"), *QUIET]) == 0
    said = dict(line.split(": ") for line in capsys.readouterr().out.strip().splitlines())
    assert float(said["nll"]) < 4.5 < math.log(318)
    loaded = load(folder / "spans")
    text, tokens = "the [MASK] in the [MASK] moos", loaded.tokenizer
    gaps = fill(loaded.model, tokens, text, top=3)
    source = [*tokens.join(text.split("[MASK]"), tokens.sentinels[:2])[0], tokens.end]
    (beam,) = loaded.model.generate(torch.tensor([source]), length=60, beams=3, nbest=3)
    for number, hypothesis in enumerate(beam):
        kept, _ = tokens.join(["the", " in the", " moos"], tokens.sentinels[:2])
        whole = tokens.decode(fill_spans(kept, hypothesis.tokens, tokens.sentinels))
        assert whole == f"the{gaps[0][number].text} in the{gaps[1][number].text} moos"
        assert gaps[0][number].share == pytest.approx(math.exp(hypothesis.log_prob))
    assert main(["fill", str(folder / "spans"), text, "--top", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    gaps = "[MASK] a " * 21
    assert "can write 20 spans, not 21" in one_line(capsys, main(["fill", str(folder / "spans"), gaps]))


@pytest.mark.parametrize("names", [("cat", "dog"), ("dog", "cat"), ("cow", "duck")], ids=str)
def test_a_head_goes_on_with_its_own_classes_alone(names: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """As many of other names, or the same in another order, are another head."""
    before, now = (TextClassification(StackConfig.from_plain(STACK), 50, 2, mask=3, ordinary=(4, 50)) for _ in range(2))
    own = now.network.head.weight.clone()
    source = Source(Path("m"), before.state_dict(), {}, None, ("cat", "dog"), "TextClassifier")
    begin_with(now, source, names)
    assert torch.equal(now.network.trunk.embedding.weight, before.network.trunk.embedding.weight)
    same = names == source.classes
    assert torch.equal(now.network.head.weight, before.network.head.weight if same else own)
    assert ("new: head" in capsys.readouterr().err) != same


def test_word_dropout_hides_words_in_training_and_never_what_stands_around_them() -> None:
    task = TextClassification(StackConfig.from_plain(STACK), 50, 3, mask=3, ordinary=(4, 50), word_dropout=0.5)
    ids = torch.randint(4, 50, (8, 40)).index_fill(1, torch.tensor([0]), 1).index_fill(1, torch.tensor([39]), 2)
    batch = LabelledBatch(ids, torch.ones(8, 40, dtype=torch.bool), torch.zeros(8, dtype=torch.long), torch.arange(8))
    read: list[torch.Tensor] = []
    task.network.trunk.embedding.register_forward_pre_hook(lambda module, given: read.append(given[0].view(8, 40)))
    for training in (True, False):
        task.train(training).loss(batch)
    hidden = read[0] == 3
    assert 0.4 < hidden[:, 1:-1].float().mean() < 0.6
    assert torch.equal(read[0], ids.masked_fill(hidden, 3))
    assert not hidden[:, [0, -1]].any()
    assert torch.equal(read[1], ids)


def test_two_readings_of_a_text_are_held_to_agree() -> None:
    """Each text twice, in two draws of hidden words: the loss of both, and how far apart they are."""
    torch.manual_seed(0)
    given = {"mask": 3, "ordinary": (4, 50), "word_dropout": 0.5, "dropout": 0.3}
    task = TextClassification(StackConfig.from_plain(STACK), 50, 3, consistency=4.0, **given)
    for weight in task.network.head.parameters():
        torch.nn.init.normal_(weight)
    ids = torch.randint(4, 50, (5, 12))
    batch = LabelledBatch(ids, torch.ones_like(ids, dtype=torch.bool), torch.tensor([0, 2, 1, 1, 0]), torch.arange(5))
    states: list[torch.Tensor] = []
    task.network.dropout.register_forward_hook(lambda module, given, out: states.append(out))
    told = task.loss(batch)
    logits = task.network.head(states[0])
    p, q = logits.log_softmax(-1).chunk(2)
    apart = sum(F.kl_div(a, b, reduction="sum", log_target=True) for a, b in ((p, q), (q, p)))
    assert apart > 0.1
    assert told.tokens == len(logits) == 10
    expected = F.cross_entropy(logits, batch.labels.repeat(2), reduction="sum") + 4 * apart / 2
    torch.testing.assert_close(told.loss, expected)
    once = task.eval().loss(batch)
    assert once.tokens == 5
    torch.testing.assert_close(once.loss, F.cross_entropy(task.network(batch.ids), batch.labels, reduction="sum"))


def test_a_classifier_is_drawn_by_the_scheme_it_is_given() -> None:
    stack = StackConfig.from_plain(STACK)
    drawn = {}
    for scheme in ("normal", "xavier"):
        torch.manual_seed(1)
        task = TextClassification(stack, 50, 3, mask=3, ordinary=(4, 50), init=scheme)
        assert task.describe()["settings"]["init"] == scheme
        drawn[scheme] = task.network.head.weight
    bound = math.sqrt(6 / (32 + 3))  # Glorot & Bengio 2010, of a map from 32 channels to 3 classes
    assert 0.5 * bound < drawn["xavier"].abs().max() <= bound
    assert drawn["normal"].abs().max() < 0.25 * bound
