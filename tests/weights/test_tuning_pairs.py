"""Published encoder-decoders as what a training begins with: their loss, their tokens and what they write."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.test_bad_input import one_line
from tests.test_traps import QUIET
from tests.weights.test_published_tokens import SMALL, bart, bert, published, t5
from zoo.check.references import library
from zoo.cli import main
from zoo.text.data import TextPairs
from zoo.text.published import AnyTokenizer
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
    heads["forced_eos_token_id"] = None  # of its generate, no part of the model
    published(tmp_path / "bart", bart(), "BartConfig", "BartForConditionalGeneration", **SMALL, **heads)
    return tmp_path


def fit(folder: Path, run: str, *more: Any, model: str = "Translation", data: Any = None, **settings: Any) -> int:
    pairs = {"tsv": str(folder / "pairs.tsv"), "held_out": 6, "prefix": PREFIX}
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


@pytest.mark.parametrize("name", ["t5", "bart"])
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
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(out)
    assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), again.parameters(), strict=True))
    assert transformers.AutoTokenizer.from_pretrained(out)(text).input_ids == tokens(text).input_ids


def test_a_table_with_more_rows_than_tokens(folder: Path) -> None:
    """They take part in what a model writes; no token of the text is one of them."""
    tokens = AnyTokenizer.load(folder / "t5" / "tokenizer.json")
    assert (tokens.vocab_size, tokens.opening, tokens.end, tokens.pad) == (len(t5()) + 11, 0, 1, 0)
    assert tokens.ordinary[1] <= len(t5())
    assert AnyTokenizer.load(folder / "bart" / "tokenizer.json").opening == 2  # its config.json, not its <s>


def test_dropped_spans_are_marked_by_published_sentinels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """T5's own objective goes on with T5's own sentinels; a tokenizer without any is refused."""
    (folder / "text.txt").write_text("the cat sat on the mat. a cat and a hat.\n" * 60)
    given = {"path": str(folder / "text.txt"), "length": 16, "batch": 2, "documents": "lines"}
    data: dict[str, Any] = {"class_path": "SpanCorpus", "init_args": given}
    assert fit(folder, "run", "--init-from", folder / "t5", model="SpanWriting", data=data) == 0
    theirs = library("transformers").T5ForConditionalGeneration.from_pretrained(folder / "t5").eval()
    from zoo.text.corpus import SpanCorpus

    held, tokens = SpanCorpus(**given, tokenizer=folder / "t5"), t5()
    batch = next(iter(held.test_dataloader()))
    assert tokens.convert_tokens_to_ids("<extra_id_0>") in batch.source[0].tolist()
    assert batch.labels[0][batch.target_keep[0]][-1] == tokens.eos_token_id
    assert (batch.target[:, 0] == 0).all()
    capsys.readouterr()
    assert main(["test", str(folder / "run"), *QUIET]) == 0
    found = float(capsys.readouterr().out.split("nll: ")[1].split()[0])
    total = count = 0.0
    for batch in held.test_dataloader():
        labels = batch.labels.masked_fill(~batch.target_keep, -100)
        with torch.no_grad():
            loss = theirs(input_ids=batch.source, attention_mask=batch.source_keep.long(), labels=labels).loss.item()
        total, count = total + loss * int(batch.target_keep.sum()), count + int(batch.target_keep.sum())
    assert found == pytest.approx(total / count, abs=2e-4)
    capsys.readouterr()
    for name, said in {"bart": "no sentinels", "bert": "to begin with"}.items():
        bert().save_pretrained(folder / "bert")
        data["init_args"] = given | {"tokenizer": str(folder / name)}
        source = "t5" if name == "bart" else "bart"
        more = ("--init-from", folder / source)
        status = fit(folder, f"not {name}", *more, model="SpanWriting", data=data)
        assert status == 2, said
        one_line(capsys, status)
