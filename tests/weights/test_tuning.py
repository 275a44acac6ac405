"""Published text models as what a training begins with: their settings, their weights and their tokens are taken."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.test_bad_input import one_line
from tests.test_traps import QUIET
from tests.weights.test_published_tokens import bart, bert, gpt2, llama, published, t5
from zoo.check.references import library
from zoo.cli import main
from zoo.text.classification import TextClassification
from zoo.text.corpus import Corpus
from zoo.text.labelled import LabelledTable
from zoo.text.opening import AnyTokenizer
from zoo.text.published import PublishedTokenizer
from zoo.text.tokens import Tokenizer
from zoo.weights.folders import alike
from zoo.weights.load import load

STILL = {"class_path": "AdamW", "init_args": {"lr": 1e-30, "weight_decay": 0.0}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """BERT and GPT-2 as transformers saves them, small, with their tokenizers; a table of two classes, and a text."""
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "data"))
    torch.manual_seed(0)
    transformers = library("transformers")
    common = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    tokens = bert()
    config = transformers.BertConfig(vocab_size=len(tokens), max_position_embeddings=256, **common)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    tokens.save_pretrained(tmp_path / "bert")
    tokens = gpt2()
    config = transformers.GPT2Config(vocab_size=len(tokens), n_positions=256, n_embd=16, n_layer=2, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    tokens.save_pretrained(tmp_path / "gpt2")
    rows = [f"{'pet' if i % 2 else 'farm'},the {'cat' if i % 2 else 'cow'} number {i} sat" for i in range(80)]
    (tmp_path / "table.csv").write_text("\n".join(["label,text", *rows]))
    (tmp_path / "text.txt").write_text("\n".join(f"the cat sat on the mat number {i}." for i in range(200)))
    return tmp_path


def fit(folder: Path, name: str, model: dict[str, Any], data: dict[str, Any], *options: object) -> int:
    """Two steps that change nothing, of settings that say nothing of the network and of its tokens."""
    model["init_args"] = {"optimizer": STILL} | model.get("init_args", {})
    plain = {"model": model, "data": data, "trainer": {"accelerator": "cpu", "max_steps": 2}}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(plain))
    given = ["--config", folder / f"{name}.yaml", "--run", folder / name, *QUIET, *options]
    return main(["fit", *map(str, given)])


def table(folder: Path, **more: object) -> dict[str, Any]:
    return {"class_path": "LabelledTable", "init_args": {"path": str(folder / "table.csv"), **more}}


def test_a_classifier_begins_as_bert_and_reads_its_tokens(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transformers = library("transformers")
    model: dict[str, Any] = {"class_path": "TextClassification"}
    assert fit(folder, "tuned", model, table(folder), "--init-from", folder / "bert") == 0
    said = capsys.readouterr().err
    assert "trunk (29 tensors); new: head" in said
    assert f"as in {folder / 'bert'}: model stack, types, pool, head_bias, embed_scale, init; data tokenizer" in said
    settings = load(folder / "tuned").config["settings"]
    assert (settings["stack"]["norm_order"], settings["types"], settings["vocab_size"]) == ("post", 2, len(bert()))
    # what transformers' own BERT makes of a text by its own tokenizer, under our pool and head
    theirs = transformers.BertModel.from_pretrained(folder / "bert", add_pooling_layer=False).eval()
    ours, text = load(folder / "tuned"), "the cat sat"
    with torch.no_grad():
        states = theirs(**bert()(text, return_tensors="pt")).last_hidden_state
        expected = ours.model.head(states[:, 0])
    assert main(["classify", str(folder / "tuned"), "--json", text]) == 0
    found = json.loads(capsys.readouterr().out)["classes"]
    assert [found[name] for name in ("farm", "pet")] == pytest.approx(expected.softmax(-1)[0].tolist(), abs=1e-5)


def test_a_classifier_begins_as_gpt2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The state of the last token, as transformers has it; nothing of it has a token that hides another."""
    transformers = library("transformers")
    model: dict[str, Any] = {"class_path": "TextClassification", "init_args": {"pool": "Last"}}
    assert fit(folder, "tuned", model, table(folder), "--init-from", folder / "gpt2") == 0
    assert "taken from" in (said := capsys.readouterr().err)
    assert "trunk" in said
    theirs = transformers.GPT2Model.from_pretrained(folder / "gpt2").eval()
    texts, tokens = ["the cat sat", "a mat"], gpt2()
    with torch.no_grad():
        states = [theirs(**tokens(text, return_tensors="pt")).last_hidden_state[0, -1] for text in texts]
        expected = load(folder / "tuned").model.head(torch.stack(states)).softmax(-1)
    assert main(["classify", str(folder / "tuned"), "--json", *texts]) == 0
    found = [json.loads(line)["classes"] for line in capsys.readouterr().out.splitlines()]
    torch.testing.assert_close(torch.tensor([[row["farm"], row["pet"]] for row in found]), expected, atol=1e-5, rtol=0)
    model["init_args"]["word_dropout"] = 0.1
    assert "none that hides" in one_line(capsys, fit(folder, "b", model, table(folder), "--init-from", folder / "gpt2"))
    model["init_args"] = {"pool": "First"}
    assert "sees itself alone" in one_line(
        capsys, fit(folder, "c", model, table(folder), "--init-from", folder / "gpt2")
    )


def test_what_is_said_lies_over_what_is_taken(folder: Path) -> None:
    model: dict[str, Any] = {"class_path": "TextClassification", "init_args": {"types": 2, "pool": "Max"}}
    options = ["--init-from", folder / "bert", "--model.stack.dropout", 0.25]
    assert fit(folder, "said", model, table(folder), *options) == 0
    settings = load(folder / "said").config["settings"]
    assert (settings["pool"]["class_path"], settings["stack"]["dropout"]) == ("Max", 0.25)
    assert settings["stack"]["norm_order"] == "post"


def test_a_run_of_ours_gives_its_network_and_tokens_too(folder: Path) -> None:
    small = {"dim": 16, "depth": 1, "heads": 2, "position": "ALiBi", "norm": "RMSNorm"}
    model = {"class_path": "TextClassification", "init_args": {"stack": small, "embed_scale": True}}
    assert fit(folder, "first", model, table(folder, vocab_size=300)) == 0
    last = folder / "first" / "checkpoints" / "last.ckpt"
    for name, source in {"second": folder / "first", "third": last}.items():
        assert fit(folder, name, {"class_path": "TextClassification"}, table(folder), "--init-from", source) == 0
        assert load(folder / name).config == load(folder / "first").config


def test_language_models_go_on_from_published_ones(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The loss that transformers' own GPT-2 has on the windows that ours is tested on."""
    transformers = library("transformers")
    data = {"class_path": "Corpus", "init_args": {"path": str(folder / "text.txt"), "length": 32, "batch": 2}}
    assert fit(folder, "gpt", {"class_path": "LanguageModel"}, data, "--init-from", folder / "gpt2") == 0
    assert fit(folder, "mlm", {"class_path": "MaskedLanguageModel"}, data, "--init-from", folder / "bert") == 0
    capsys.readouterr()
    assert "LanguageModel predicts nothing" in one_line(capsys, main(["predict", str(folder / "gpt"), *QUIET]))
    assert main(["test", str(folder / "gpt"), *QUIET]) == 0
    found = float(capsys.readouterr().out.split("nll: ")[1].split()[0])
    held = Corpus(folder / "text.txt", length=32, batch=2, tokenizer=folder / "gpt2")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(folder / "gpt2").eval()
    total = count = 0.0
    for batch in held.test_dataloader():
        with torch.no_grad():
            logits = theirs(batch.ids).logits
        counted = batch.labels.flatten() >= 0
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1)[counted], batch.labels.flatten()[counted])
        total, count = total + losses.item() * counted.sum().item(), count + counted.sum().item()
    assert found == pytest.approx(total / count, abs=2e-4)
    given = ["export", str(folder / "gpt"), str(folder / "back"), "--to", "hf", "--like", str(folder / "gpt2")]
    assert main(given) == 0  # a running text has no ends: those of the model stay
    assert "it acts in generating" not in capsys.readouterr().err
    assert load(folder / "gpt").model.end == theirs.config.eos_token_id
    again = transformers.GPT2LMHeadModel.from_pretrained(folder / "back").state_dict()
    assert again.keys() == theirs.state_dict().keys()
    text = gpt2()((folder / "text.txt").read_text()).input_ids
    assert held.part("train")[0:1000].tolist() == text[:1000]


@pytest.mark.parametrize("documents", ["running", "lines"])
def test_what_was_tuned_stops_where_it_did(folder: Path, capsys: pytest.CaptureFixture[str], documents: str) -> None:
    """At any of several ends, whatever ends the data's documents, also where a run goes on from that run."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    published(folder / "llama", llama(), "LlamaConfig", "LlamaForCausalLM", **sizes)
    free = load(folder / "llama").model
    prompts = torch.arange(4, 28).view(8, 3)
    free.end, free.ends = None, ()
    rows = free.generate(prompts, length=9).tolist()
    never = next(token for token in range(3, 268) if not any(token in row for row in rows))
    ends = [never, rows[0][3], rows[1][3]]
    for name in ("config.json", "generation_config.json"):
        about = json.loads((folder / "llama" / name).read_text())
        (folder / "llama" / name).write_text(json.dumps(about | {"eos_token_id": ends}))
    before = load(folder / "llama").model.generate(prompts, length=9)
    more = {"path": str(folder / "text.txt"), "length": 32, "batch": 2, "documents": documents}
    data = {"class_path": "Corpus", "init_args": more}
    for name, source in {"first": folder / "llama", "second": folder / "first"}.items():
        assert fit(folder, name, {"class_path": "LanguageModel"}, data, "--init-from", source) == 0
        found = load(folder / name).model
        assert found.ends == tuple(ends)
        assert found.end == (never if documents == "running" else llama().eos_token_id)
        after = found.generate(prompts, length=9)
        stops = {*ends, found.end}
        for row, same in zip(after.tolist(), before.tolist(), strict=True):
            upto = next((at + 1 for at, token in enumerate(row) if token in stops), 9)
            assert row[:upto] == same[:upto]
            assert set(row[upto:]) <= {found.end}
        assert any(row[3] in ends and row[-1] == found.end for row in after.tolist())
    capsys.readouterr()
    like = ["export", str(folder / "second"), str(folder / "back"), "--to", "hf", "--like", str(folder / "llama")]
    assert main(like) == 0
    assert ("end was 2" in capsys.readouterr().err) == (documents == "lines")
    assert json.loads((folder / "back" / "config.json").read_text())["eos_token_id"] == ends


def test_documents_of_published_tokens_stand_between_their_own(folder: Path) -> None:
    data = Corpus(folder / "text.txt", documents="lines", length=32, batch=2, tokenizer=folder / "bert")
    ids, tokens = data.part("train"), bert()
    end = ids[0:40].tolist().index(tokens.sep_token_id) + 1
    assert ids[0:end].tolist() == tokens("the cat sat on the mat number 0.").input_ids


def test_tokens_of_a_run_are_published_ones_again(folder: Path) -> None:
    theirs = AnyTokenizer.load(folder / "bert" / "tokenizer.json")
    (folder / "kept").mkdir()
    theirs.save(folder / "kept")
    ours = AnyTokenizer.load(folder / "kept" / "tokenizer.json")
    assert isinstance(ours, PublishedTokenizer)
    assert (ours.mask, ours.start, ours.end, ours.pad) == (theirs.mask, theirs.start, theirs.end, theirs.pad)
    first, last = ours.ordinary
    assert (first, last) == (5, ours.vocab_size)  # after [PAD] [UNK] [CLS] [SEP] [MASK]
    assert ours.encode("the cat") == theirs.encode("the cat")


def test_what_cannot_be_taken_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to take a network from; a model of other tokens; a model that writes, for one that reads."""
    said = one_line(capsys, fit(folder, "a", {"class_path": "TextClassification"}, table(folder)))
    assert "stack" in said
    assert "--init-from" in said
    bart().save_pretrained(folder / "bart")
    own = table(folder, tokenizer=str(folder / "bart"))
    assert "other tokens" in one_line(
        capsys, fit(folder, "b", {"class_path": "TextClassification"}, own, "--init-from", folder / "bert")
    )
    written = fit(folder, "c", {"class_path": "MaskedLanguageModel"}, table(folder), "--init-from", folder / "gpt2")
    assert "no token for mask" in one_line(capsys, written)
    pairs = {"class_path": "SpanCorpus", "init_args": {"path": str(folder / "text.txt"), "length": 32}}
    pairs["init_args"]["tokenizer"] = str(folder / "bert")
    stack = {"dim": 16, "depth": 1, "heads": 2}
    spans = {"class_path": "SpanWriting", "init_args": {"encoder": stack, "decoder": stack | {"causal": True}}}
    assert "no sentinels" in one_line(capsys, fit(folder, "d", spans, pairs))


def test_what_was_tuned_goes_back_to_the_library(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """transformers opens what is written, and gives the same classes; what its class cannot say is refused."""
    transformers = library("transformers")
    model: dict[str, Any] = {"class_path": "TextClassification", "init_args": {"pool": "Pooler"}}
    assert fit(folder, "run", model, table(folder), "--init-from", folder / "bert") == 0
    out = folder / "out"
    given = ["export", str(folder / "run"), str(out), "--to", "hf"]
    capsys.readouterr()
    assert "--like names a model" in one_line(capsys, main(given))
    assert main([*given, "--like", str(folder / "bert")]) == 0
    theirs = transformers.BertForSequenceClassification.from_pretrained(out).eval()
    tokens, text = transformers.AutoTokenizer.from_pretrained(out), "the cat sat"
    assert theirs.config.id2label == {0: "farm", 1: "pet"}
    with torch.no_grad():
        expected = theirs(**tokens(text, return_tensors="pt")).logits.softmax(-1)[0].tolist()
    capsys.readouterr()
    for source in (folder / "run", out):
        assert main(["classify", str(source), "--json", text]) == 0
        found = json.loads(capsys.readouterr().out)["classes"]
        assert [found["farm"], found["pet"]] == pytest.approx(expected, abs=1e-5)
    assert fit(folder, "mean", {"class_path": "TextClassification"}, table(folder), "--init-from", folder / "bert") == 0
    given = ["export", str(folder / "mean"), str(folder / "x"), "--to", "hf", "--like"]
    capsys.readouterr()
    assert "pool" in one_line(capsys, main([*given, str(folder / "bert")]))
    assert "cannot say this model" in one_line(capsys, main([*given, str(folder / "gpt2")]))
    shape = {"d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 1, "num_heads": 3}
    published(folder / "t5", t5(), "T5Config", "T5ForConditionalGeneration", **shape)
    assert "is a TextClassifier" in one_line(capsys, main([*given, str(folder / "t5")]))
    assert not (folder / "x").exists()


def test_pairs_are_trained_on_as_bert_was(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its segments, cut as its library cuts them; what was trained so is asked for pairs, also by its library."""
    rows = [
        f"{'yes' if i % 2 else 'no'},the {'cat ' * (i % 7)} {i // 4},at last {'end ' * (i % 5)}" for i in range(120)
    ]
    (folder / "pairs.csv").write_text("\n".join(["label,one,two", *rows]))
    data = table(folder, text="one", text_pair="two", path=str(folder / "pairs.csv"))
    model: dict[str, Any] = {"class_path": "TextClassification", "init_args": {"pool": "Pooler"}}
    assert fit(folder, "run", model, data, "--init-from", folder / "bert") == 0
    assert main(["test", str(folder / "run"), *QUIET]) == 0
    assert main(["export", str(folder / "run"), str(folder / "out"), "--to", "hf", "--like", str(folder / "bert")]) == 0
    theirs = library("transformers").BertForSequenceClassification.from_pretrained(folder / "out").eval()
    tokens = bert()
    ours = LabelledTable(folder / "pairs.csv", text="one", text_pair="two", tokenizer=folder / "bert", max_length=12)
    task = TextClassification(
        load(folder / "bert").model.settings["stack"], len(tokens), 2, tokens.mask_token_id, (5, 9)
    )
    task.network, count, cut, apart = load(folder / "run").model, 0, 0, 0
    for network, table_of_segments, head in (
        (theirs, theirs.bert.embeddings.token_type_embeddings, theirs.classifier),
        (task.network, task.network.trunk.segments.embedding, task.network.head),
    ):
        torch.manual_seed(0)
        with torch.no_grad():  # so that a segment shows in what the classifier says
            table_of_segments.weight.copy_(3 * torch.randn_like(table_of_segments.weight))
            head.weight.copy_(10 * torch.randn_like(head.weight))
        network.eval()
    every = tokens([text for text, _ in ours.texts("train")], padding=True, return_tensors="pt")
    with torch.no_grad():  # and that both classes are found
        middle = theirs(**every).logits.median(0).values
        theirs.classifier.bias.sub_(middle)
        task.network.head.bias.sub_(middle)
    monkeypatch.setattr(task, "score", lambda batch, split: None)  # there is no trainer that it could be told
    for batch in ours.train_dataloader():
        given = [ours.texts("train")[number] for number in batch.index.tolist()]
        pairs = [text for text, _ in given]
        made = tokens(pairs, truncation="longest_first", max_length=12, padding=True, return_tensors="pt")
        assert torch.equal(made.input_ids * batch.keep, batch.ids * batch.keep)
        assert torch.equal(made.token_type_ids * batch.keep, batch.types * batch.keep)
        with torch.no_grad():
            logits = theirs(**made).logits
            right = torch.nn.functional.cross_entropy(logits, batch.labels, reduction="sum")
            torch.testing.assert_close(task.eval().loss(batch).nll, right, rtol=1e-4, atol=1e-4)
            task.test_step(batch, 0)
            assert [task.found[number][1] for number in batch.index.tolist()] == logits.argmax(-1).tolist()
            apart += int((logits.argmax(-1) != theirs(made.input_ids, made.attention_mask).logits.argmax(-1)).sum())
        count += len(given)
        cut += sum(len(tokens(*pair).input_ids) > 12 for pair in pairs)
    assert 0 < cut < count
    assert apart  # else segments would make no difference
    theirs = library("transformers").BertForSequenceClassification.from_pretrained(folder / "out").eval()
    capsys.readouterr()
    assert main(["classify", str(folder / "run"), "--json", "--pair", "the cat", "at last"]) == 0
    found = json.loads(capsys.readouterr().out)["classes"]
    with torch.no_grad():
        right = theirs(**tokens("the cat", "at last", return_tensors="pt")).logits.softmax(-1)[0].tolist()
    assert [found["no"], found["yes"]] == pytest.approx(right, abs=1e-5)


def test_a_classifier_by_gpt2_goes_back_to_the_library(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the class whose head reads the last token and adds no bias; with a bias there is none that it could be."""
    transformers = library("transformers")
    model: dict[str, Any] = {"class_path": "TextClassification", "init_args": {"pool": "Last"}}
    assert fit(folder, "run", model, table(folder), "--init-from", folder / "gpt2") == 0
    like = ["--to", "hf", "--like", str(folder / "gpt2")]
    assert main(["export", str(folder / "run"), str(folder / "out"), *like]) == 0
    theirs = transformers.GPT2ForSequenceClassification.from_pretrained(folder / "out").eval()
    tokens, texts = transformers.AutoTokenizer.from_pretrained(folder / "out"), ["the cat sat", "a mat"]
    with torch.no_grad():
        expected = [theirs(**tokens(text, return_tensors="pt")).logits.softmax(-1)[0].tolist() for text in texts]
        theirs(**tokens(["a mat", "a cat"], return_tensors="pt"))  # a batch: it is told what padding is
    capsys.readouterr()
    for source in ("run", "out"):
        assert main(["classify", str(folder / source), "--json", *texts]) == 0
        found = [json.loads(line)["classes"] for line in capsys.readouterr().out.splitlines()]
        for row, right in zip(found, expected, strict=True):
            assert [row["farm"], row["pet"]] == pytest.approx(right, abs=1e-5)
    assert theirs.config.pad_token_id == theirs.config.eos_token_id  # GPT-2 has no padding of its own
    said = load(folder / "run")
    padded = PublishedTokenizer(said.tokenizer.bpe, said.tokenizer.names | {"pad": "t"}, folder)
    named = alike(replace(said, tokenizer=padded), load(folder / "gpt2"), folder).origin
    assert named is not None
    assert named.config["pad_token_id"] == padded.pad != theirs.config.eos_token_id
    several = load(folder / "gpt2")
    assert several.origin is not None
    several.origin.config["eos_token_id"] = [0, 3]  # of several ends the first
    named = alike(said, several, folder).origin
    assert named is not None
    assert named.config["pad_token_id"] == 0
    model["init_args"]["head_bias"] = True
    assert fit(folder, "biased", model, table(folder), "--init-from", folder / "gpt2") == 0
    capsys.readouterr()
    said = one_line(capsys, main(["export", str(folder / "biased"), str(folder / "x"), *like]))
    assert "head_bias" in said


def test_a_class_that_comes_last_takes_what_is_left_unset(folder: Path) -> None:
    """Another data class on the command line or in an overlay, as the shipped file says it; the run needs no source."""
    shipped = Path(__file__).parents[2] / "configs" / "text" / "tune_text.yaml"
    overlay = folder / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"data": table(folder), "trainer": {"accelerator": "cpu"}}))
    own = ["--data", "LabelledTable", "--data.path", str(folder / "table.csv")]
    for name, more in {"typed": own, "laid": ["--config", str(overlay)]}.items():
        given = ["--config", str(shipped), *more, "--init-from", str(folder / "bert"), "--trainer.max_steps", "2"]
        assert main(["fit", *given, "--run", str(folder / name), *QUIET]) == 0
        found = load(folder / name)
        assert isinstance(found.tokenizer, PublishedTokenizer)
        assert found.config["settings"]["stack"]["norm_order"] == "post"
    out, source = folder / "out", folder / "bert"
    assert main(["export", str(folder / "typed"), str(out), "--to", "hf", "--like", str(source)]) == 0
    source.rename(folder / "moved")
    assert main(["test", str(folder / "typed"), *QUIET]) == 0
    again = ["fit", "--run", str(folder / "typed"), "--resume", "last", "--trainer.max_steps", "3", *QUIET]
    assert main(again) == 0
    assert main([*again, "--init-from", str(folder / "moved")]) == 2


def test_a_head_of_other_classes_is_new(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model: dict[str, Any] = {"class_path": "TextClassification"}
    assert fit(folder, "first", model, table(folder), "--init-from", folder / "bert") == 0
    text = (folder / "table.csv").read_text()
    (folder / "table.csv").write_text(text.replace("pet,", "tame,"))
    capsys.readouterr()
    assert fit(folder, "second", model, table(folder), "--init-from", folder / "first") == 0
    assert "new: head" in capsys.readouterr().err


@pytest.mark.parametrize("model", [[1, 2], {"class_path": 5}, {"class_path": "TextClassification", "init_args": 3}])
def test_settings_that_are_none_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str], model: Any) -> None:
    (folder / "bad.yaml").write_text(yaml.safe_dump({"model": model, "data": table(folder)}))
    given = ["--config", folder / "bad.yaml", "--run", folder / "bad", "--init-from", folder / "bert"]
    one_line(capsys, main(["fit", *map(str, given)]))
    assert not (folder / "bad").exists()


def test_a_run_of_other_tokens_in_the_same_folder_is_our_own_again(folder: Path) -> None:
    (folder / "kept").mkdir()
    AnyTokenizer.load(folder / "bert" / "tokenizer.json").save(folder / "kept")
    Tokenizer.train(["a cat", "a mat"], 300).save(folder / "kept")
    assert not isinstance(AnyTokenizer.load(folder / "kept" / "tokenizer.json"), PublishedTokenizer)


def test_a_folder_that_holds_a_model_is_no_place_for_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in (folder / "bert").iterdir()}
    assert "nothing is overwritten" in one_line(
        capsys, fit(folder, "bert", {"class_path": "TextClassification"}, table(folder), "--init-from", folder / "gpt2")
    )
    assert {path.name: path.read_bytes() for path in (folder / "bert").iterdir()} == before


@pytest.mark.parametrize("text", ["[1, 2]", "model: 3", "data: {class_path: Nobody}", "a: : b", "model:"])
def test_a_run_whose_settings_are_broken_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    small = {"dim": 16, "depth": 1, "heads": 2}
    model = {"class_path": "TextClassification", "init_args": {"stack": small}}
    assert fit(folder, "run", model, table(folder, vocab_size=300)) == 0
    (folder / "run" / "config.yaml").write_text(text)
    capsys.readouterr()
    one_line(capsys, main(["test", str(folder / "run"), *QUIET]))
    one_line(capsys, main(["fit", "--run", str(folder / "run"), "--resume", "last", *QUIET]))
