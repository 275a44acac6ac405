"""Published encoder-decoders as what a training begins with: their loss, their tokens and what they write."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.test_bad_input import one_line
from tests.test_traps import QUIET
from tests.weights.test_published_tokens import BERT, SMALL, bart, bert, gpt2, published, t5
from zoo.check.references import library
from zoo.cli import main
from zoo.text.corpus import SpanCorpus
from zoo.text.data import TextPairs
from zoo.weights.load import load

STILL = {"class_path": "AdamW", "init_args": {"lr": 1e-30, "weight_decay": 0.0}}
PREFIX = "say it again: "
T5 = {"d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 1, "num_heads": 3}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """T5, with more rows than tokens as it is published, and BART, small; and pairs of texts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    words = ["the cat", "a mat", "the end", "cat", "the the cat", "at", "a cat at the mat"]
    rows = [f"{a} {b}\t{b} {a}" for a in words for b in words]
    (tmp_path / "pairs.tsv").write_text("\n".join(rows) + "\n")
    tokens = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1, "dropout_rate": 0.0}
    published(tmp_path / "t5", t5(), "T5Config", "T5ForConditionalGeneration", room=11, **T5, **tokens)
    heads = {"encoder_attention_heads": 3, "decoder_attention_heads": 3, "dropout": 0.0, "forced_bos_token_id": None}
    heads |= {"forced_eos_token_id": None, "max_position_embeddings": 40}  # the first is a habit of its generate
    published(tmp_path / "bart", bart(), "BartConfig", "BartForConditionalGeneration", **SMALL, **heads)
    heads["decoder_start_token_id"] = 0
    published(tmp_path / "opened otherwise", bart(), "BartConfig", "BartForConditionalGeneration", **SMALL, **heads)
    gated = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    published(tmp_path / "v1.1", t5(), "T5Config", "T5ForConditionalGeneration", **T5, **tokens, **gated)
    return tmp_path


def fit(folder: Path, run: str, *more: Any, model: str = "Translation", data: Any = None, **settings: Any) -> int:
    pairs = {"tsv": str(folder / "pairs.tsv"), "held_out": 6, "prefix": PREFIX, "max_length": 40}
    own = {
        "model": {"class_path": model, "init_args": {"optimizer": STILL} | settings},
        "data": data or {"class_path": "TextPairs", "init_args": pairs},
        "trainer": {"max_steps": 1, "accelerator": "cpu", "num_sanity_val_steps": 0},
    }
    (folder / f"{run}.yaml").write_text(yaml.safe_dump(own))
    given = ["--config", folder / f"{run}.yaml", "--run", folder / run, *more]
    return main(["fit", *map(str, given), *QUIET])


def loss_of(theirs: Any, tokens: Any, pairs: list[tuple[str, str]]) -> float:
    """Nats a target token, as transformers counts them: pair by pair, over the labels that its tokenizer gives."""
    total = count = 0.0
    for source, target in pairs:
        labels = tokens(target, return_tensors="pt").input_ids
        with torch.no_grad():
            found = theirs(**tokens(PREFIX + source, return_tensors="pt"), labels=labels)
        total, count = total + found.loss.item() * labels.numel(), count + labels.numel()
    return total / count


@pytest.mark.parametrize("name", ["t5", "v1.1", "bart", "opened otherwise"])
def test_pairs_go_on_from_published_models(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """The same loss, the same texts written, and back again in the form that it came from; no need of the source."""
    transformers = library("transformers")
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder / name).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder / name)
    assert fit(folder, "run", "--init-from", folder / name, length=12, beams=1) == 0
    assert load(folder / "run").config["prefix"] == PREFIX
    (folder / name).rename(folder / "moved")
    capsys.readouterr()
    assert main(["test", str(folder / "run"), *QUIET]) == 0
    found = json.loads(next((folder / "run").glob("test-*.json")).read_text())["nll"]
    pairs = TextPairs(tsv=folder / "pairs.tsv", held_out=6, vocab_size=300).pairs("test")
    assert found == pytest.approx(loss_of(theirs, tokens, pairs), abs=2e-5)
    text = pairs[0][0]
    made = theirs.generate(
        **tokens(PREFIX + text, return_tensors="pt"), max_new_tokens=12, num_beams=1, do_sample=False
    )
    capsys.readouterr()
    given = ["--beams", "1", "--max-length", "12", "--device", "cpu"]
    assert main(["translate", str(folder / "run"), text, *given]) == 0
    assert capsys.readouterr().out.rstrip("\n") == tokens.decode(made[0], skip_special_tokens=True)
    assert main(["translate", str(folder / "run"), text, "--prefix", "", *given]) == 0
    out = folder / "out"
    assert main(["export", str(folder / "run"), str(out), "--to", "hf", "--like", str(folder / "moved")]) == 0
    assert f"{PREFIX!r} stands before every text" in capsys.readouterr().err
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(out)
    assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), again.parameters(), strict=True))
    assert transformers.AutoTokenizer.from_pretrained(out)(text).input_ids == tokens(text).input_ids


def test_what_was_tuned_stops_where_it_did(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At any of several ends, in greedy writing and in a search, and again in transformers' own."""
    transformers = library("transformers")
    ids = torch.arange(3, 27).view(8, 3)
    (free,) = zip(*load(folder / "t5").model.generate(ids, length=9), strict=True)
    ends = [1, next(token for token in free[0].tokens[2:] if token > 1)]
    for name in ("config.json", "generation_config.json"):
        about = json.loads((folder / "t5" / name).read_text())
        (folder / "t5" / name).write_text(json.dumps(about | {"eos_token_id": ends}))
    assert fit(folder, "run", "--init-from", folder / "t5") == 0
    like = ["export", str(folder / "run"), str(folder / "back"), "--to", "hf", "--like", str(folder / "t5")]
    assert main(like) == 0
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(folder / "back").eval()
    assert theirs.generation_config.eos_token_id == ends
    model = load(folder / "run").model
    for beams in (1, 4):
        options = {"num_beams": beams, "max_new_tokens": 9, "do_sample": False, "early_stopping": "never"}
        written = theirs.generate(ids, **(options if beams > 1 else options | {"early_stopping": False})).tolist()
        found = [row[0].tokens for row in model.generate(ids, length=9, beams=beams)]
        assert found == [[t for t in row[1:] if t not in (0, *ends)] for row in written]
        assert found != [row.tokens for row in free]


def test_dropped_spans_are_marked_by_published_sentinels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """T5's own objective goes on with T5's own sentinels, unknown tokens left where they are."""
    (folder / "text.txt").write_text("the cat sat on 7 mats. a cat and a hat.\n" * 60)
    given = {"path": str(folder / "text.txt"), "length": 16, "batch": 2, "documents": "lines"}
    data: dict[str, Any] = {"class_path": "SpanCorpus", "init_args": given}
    assert fit(folder, "run", "--init-from", folder / "t5", model="SpanWriting", data=data) == 0
    theirs = library("transformers").T5ForConditionalGeneration.from_pretrained(folder / "t5").eval()
    held, tokens = SpanCorpus(**given, tokenizer=folder / "t5"), t5()
    capsys.readouterr()
    assert main(["test", str(folder / "run"), *QUIET]) == 0
    found = float(capsys.readouterr().out.split("nll: ")[1].split()[0])
    total, count, seen = 0.0, 0, set[int]()
    for batch in held.test_dataloader():
        for row in (batch.labels[0][batch.keep[0]].tolist(), batch.source[0][batch.source_keep[0]].tolist()):
            assert row[-1] == tokens.eos_token_id
            assert row.count(tokens.eos_token_id) == 1  # those between documents are gone
        seen |= set(batch.source.flatten().tolist())
        labels = batch.labels.masked_fill(~batch.keep, -100)
        with torch.no_grad():
            loss = theirs(input_ids=batch.source, attention_mask=batch.source_keep.long(), labels=labels).loss.item()
        total, count = total + loss * int(batch.keep.sum()), count + int(batch.keep.sum())
    assert {tokens.convert_tokens_to_ids("<extra_id_0>"), tokens.unk_token_id} <= seen
    assert found == pytest.approx(total / count, abs=2e-4)


def test_what_cannot_be_taken_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No sentinels; no end; letters that are kept apart; more tokens than positions; a model of another kind."""
    (folder / "text.txt").write_text("the cat sat on the mat. a cat and a hat.\n" * 60)
    spans = {"class_path": "SpanCorpus", "init_args": {"path": str(folder / "text.txt"), "length": 16}}
    more = ("--init-from", folder / "bart")
    assert "no sentinels" in one_line(capsys, fit(folder, "a", *more, model="SpanWriting", data=spans))
    gpt2().save_pretrained(folder / "gpt2")
    assert "ends no text" in one_line(capsys, fit(folder, "b", *more, "--data.tokenizer", folder / "gpt2"))
    assert "leave data.lowercase unset" in one_line(capsys, fit(folder, "c", *more, "--data.lowercase", "true"))
    assert "positions for 40 tokens: give --data.max_length 40" in one_line(
        capsys, fit(folder, "d", *more, "--data.max_length", 41)
    )
    published(folder / "bert", bert(), "BertConfig", "BertForMaskedLM", **BERT)
    assert "bert is a MaskedLM, which has no such stack" in one_line(
        capsys, fit(folder, "e", "--init-from", folder / "bert")
    )
    assert fit(folder, "f", *more, "--data.max_length", 5) == 2
    assert "prefix included" in capsys.readouterr().err


def test_what_the_network_knows_is_not_asked_of_files_beside_the_tokens(folder: Path) -> None:
    """The start and the room of what a training begins with, whatever lies beside the tokenizer that is given."""
    (folder / "alone").mkdir()
    shutil.copy(folder / "t5" / "tokenizer.json", folder / "alone")
    assert fit(folder, "run", "--init-from", folder / "t5", "--data.tokenizer", folder / "alone") == 0
    settings = load(folder / "run").config["settings"]
    assert (settings["start"], settings["end"], settings["pad"], settings["vocab_size"]) == (0, 1, 0, len(t5()) + 11)


def test_a_run_that_is_gone_on_with_gives_its_prefix(folder: Path) -> None:
    assert fit(folder, "first", "--init-from", folder / "t5") == 0
    pairs = {"tsv": str(folder / "pairs.tsv"), "held_out": 6}
    data = {"class_path": "TextPairs", "init_args": pairs}
    assert fit(folder, "second", "--init-from", folder / "first", data=data) == 0
    assert load(folder / "second").config["prefix"] == PREFIX


def test_held_out_pairs_that_are_longer_are_cut(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their references stay whole; an end stays an end."""
    data = TextPairs(
        tsv=folder / "pairs.tsv", held_out=6, prefix=PREFIX, tokenizer=folder / "t5", max_length=len(PREFIX) + 2
    )
    batches = list(data.test_dataloader())
    assert "texts (test) are longer than max_length" in capsys.readouterr().err
    rows = [row[keep].tolist() for b in batches for row, keep in zip(b.source, b.source_keep, strict=True)]
    assert max(map(len, rows)) <= len(PREFIX) + 2
    assert {row[-1] for row in rows} == {1}
    assert data.references("test") == [target for _, target in data.pairs("test")]
