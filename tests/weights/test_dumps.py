"""Settings as earlier versions of transformers wrote them out, every key that they knew: they open, with its logits.

`dumps.json`: what 4.40.2 writes for the references, by family: what it writes for all of them alike (`common`), and the
rest.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from tests.weights.test_folders import named, same_tensors
from zoo import cli
from zoo.check import parity
from zoo.check.references import Reference, library
from zoo.weights.folders import alike, write_published

WRITTEN = json.loads((Path(__file__).parent / "dumps.json").read_text())
REFERENCES = {
    "gpt2": "gpt2/three heads",
    "bert": "bert/three heads",
    "t5": "t5/v1.0: relu, tied, scaled",
    "marian": "marian/scaled embeddings, swish",
    "bart": "bart/three heads",
    "llama": "llama/grouped heads",
    "vit": "vit/three heads",
    "deit": "deit/two heads",
    "esm2": "esm2/token dropout",
    "musicgen": "musicgen/within the whole, projected states",
}


def dump(family: str) -> dict[str, Any]:
    """The whole of a config.json."""
    common, own = WRITTEN["common"], WRITTEN[family]
    inner = {name: common | value for name, value in own.items() if name in ("decoder", "text_encoder")}
    return own | inner if inner else common | own


def logits(reference: Reference, folder: Path, config: dict[str, Any]) -> float:
    """How far ours lie from the reference's, opened with these settings."""
    theirs = reference.model()
    reference.save(theirs, folder)
    (folder / "config.json").write_text(json.dumps(config))
    side = parity.Side(reference, theirs, zoo.load(folder))
    return max(parity.logits(side, padding) for padding in side.compared.sides)


@pytest.mark.parametrize("family", REFERENCES)
def test_every_key_written_out(family: str, tmp_path: Path) -> None:
    assert logits(named(REFERENCES[family]), tmp_path, dump(family)) < 1e-5


# What published files of each family say besides, which their code has never read, or not for many years.
OLD: list[tuple[str, dict[str, Any]]] = [
    ("gpt2", {"n_ctx": 32, "n_special": 0, "predict_special_tokens": True}),
    ("gpt2", {"output_past": True, "num_labels": 1, "_num_labels": 1, "id2label": {"0": "LABEL_0"}}),
    ("bert", {"gradient_checkpointing": False, "directionality": "bidi", "pooler_type": "first_token_transform"}),
    ("bert", {"output_past": True, "xla_device": True, "architectures": ["Somebodys", "BertForMaskedLM"]}),
    ("t5", {"n_positions": 512, "output_past": True, "task_specific_params": {"summarization": {"num_beams": 4}}}),
    ("marian", {"add_bias_logits": False, "normalize_before": False, "num_labels": 3, "gradient_checkpointing": False}),
    ("bart", {"classif_dropout": 0.0, "normalize_embedding": True, "output_past": True, "num_labels": 3}),
    ("llama", {"rope_interleaved": False, "is_llama_config": True, "head_dim": None}),
    ("vit", {"num_labels": 2, "some_key_of_the_day": None}),
]


@pytest.mark.parametrize(
    ("family", "more"), OLD, ids=lambda value: value if isinstance(value, str) else "+".join(value)
)
def test_keys_of_old_that_nothing_reads(family: str, more: dict[str, Any], tmp_path: Path) -> None:
    assert logits(named(REFERENCES[family]), tmp_path, dump(family) | more) < 1e-5


@pytest.mark.parametrize("more", [{"dense_act_fn": "silu"}, {"dense_act_fn": "gelu", "is_gated_act": True}, {}])
def test_what_t5_says_twice_is_what_it_says_last(more: dict[str, Any], tmp_path: Path) -> None:
    """Of two names for its feed-forward the library goes by the second where they disagree."""
    reference = named("t5/gated silu, short decoder, eps 1e-3")
    reference.save(reference.model(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"feed_forward_proj": "gated-gelu"} | more
    config = {name: value for name, value in config.items() if name in more or name not in SECOND}
    (tmp_path / "config.json").write_text(json.dumps(config))
    theirs = library("transformers").T5ForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert theirs.config.dense_act_fn == more.get("dense_act_fn", "gelu_new")
    side = parity.Side(reference, theirs, zoo.load(tmp_path))
    assert max(parity.logits(side, padding) for padding in side.compared.sides) < 1e-5


SECOND = ("dense_act_fn", "is_gated_act")


def test_a_bart_without_its_head(tmp_path: Path) -> None:
    """As the base model was published: the head is the table, and scores have no bias."""
    hf = library("transformers")
    whole = named("bart/three heads").model()
    with torch.no_grad():
        whole.final_logits_bias.zero_()
    whole.model.save_pretrained(tmp_path / "m")
    assert "shared.weight" in load_file(tmp_path / "m" / "model.safetensors")
    config = dump("bart") | {"architectures": ["BartModel"]}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    theirs = hf.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "m").eval()
    ours = zoo.load(tmp_path / "m")
    side = parity.Side(named("bart/three heads"), theirs, ours)
    assert max(parity.logits(side, padding) for padding in side.compared.sides) < 1e-5
    assert cli.main(["import", str(tmp_path / "m"), str(tmp_path / "o")]) == 0
    assert cli.main(["export", str(tmp_path / "o"), str(tmp_path / "back"), "--to", "hf"]) == 0
    same_tensors(tmp_path / "m", tmp_path / "back")


def test_a_bert_with_both_of_its_heads(tmp_path: Path) -> None:
    """The head that says whether one sentence follows another is kept, also where a trained model goes back."""
    hf = library("transformers")
    torch.manual_seed(0)
    theirs = hf.BertForPreTraining(named("bert/three heads").model().config).eval()
    theirs.save_pretrained(tmp_path / "m")
    ids = torch.randint(3, 30, (2, 7))
    loaded = zoo.load(tmp_path / "m")
    assert loaded.config["kind"] == "MaskedLM"
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(ids), theirs(ids).prediction_logits, rtol=1e-5, atol=1e-5)
    write_published(alike(loaded, zoo.load(tmp_path / "m"), tmp_path / "m"), tmp_path / "back", tmp_path / "m")
    again, missing = hf.BertForPreTraining.from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not missing["missing_keys"]
    with torch.no_grad():
        assert torch.equal(again.eval()(ids).seq_relationship_logits, theirs(ids).seq_relationship_logits)


def test_a_head_that_is_missing_is_missing(tmp_path: Path) -> None:
    """Without a head only a tied one can be known."""
    whole = named("bart/three heads").model()
    whole.model.save_pretrained(tmp_path)
    config = dump("bart") | {"architectures": ["BartModel"], "tie_word_embeddings": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"lacks 'lm_head\.weight'"):
        zoo.load(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(tensors | {"somebodys.weight": torch.ones(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    with pytest.raises(ValueError, match=r"holds 'somebodys\.weight'"):
        zoo.load(tmp_path)
