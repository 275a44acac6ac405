"""Folders that are not what they should be: one line, exit code 2, no code run, no folder left behind."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from tests.weights.test_folders import named, shard
from zoo import cli
from zoo.weights.files import sha256


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The files of a published folder of each family, written once."""
    found = {}
    for name in (
        "gpt2/three heads",
        "bert/three heads",
        "t5/v1.0: relu, tied, scaled",
        "marian/unscaled, gelu",
        "bart/three heads",
        "llama/long stretch, tied",
        "vit/three heads",
        "timm/vit",
        "esm2/token dropout",
        "musicgen/four codebooks",
    ):
        folder = tmp_path_factory.mktemp("published")
        named(name).save(named(name).model(), folder)
        found[name.partition("/")[0]] = {path.name: path.read_bytes() for path in folder.iterdir()}
    return found


@pytest.fixture
def folder(kept: dict[str, dict[str, bytes]], tmp_path: Path) -> Path:
    return put(kept["gpt2"], tmp_path / "m")


def put(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def change(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps(config))


def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said on opening it: in one line, and nothing is left behind."""
    out = folder.parent / "out"
    capsys.readouterr()
    assert cli.main(["import", str(folder), str(out)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert said.startswith("zoo import: ")
    assert not [p for p in folder.parent.iterdir() if p.name.startswith("out")]
    return said


# -- weights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 4, 8, 100, 3000, -1])
def test_weights_that_are_cut_off(folder: Path, size: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert "model.safetensors: not weights that can be opened" in refused(folder, capsys)


def test_weights_with_a_header_of_lies(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "model.safetensors"
    for header in (b"[]", b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,99]}}', b"\xff" * 20, b'{"a":1}'):
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
        assert "not weights that can be opened" in refused(folder, capsys)
    path.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    assert "not weights that can be opened" in refused(folder, capsys)


def test_one_bit_of_a_folder_that_zoo_wrote(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["import"], ["export", "--to", "hf"]):
        own = folder.parent / f"own {verb[0]}"
        assert cli.main([*verb, str(folder), str(own)]) == 0
        path = own / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-7] ^= 1
        path.write_bytes(bytes(content))
        assert "model.safetensors: damaged, its SHA-256 is not the one of SHA256SUMS" in refused(own, capsys)
        path.unlink()
        assert "model.safetensors: missing; SHA256SUMS names it" in refused(own, capsys)
        (own / "SHA256SUMS").write_text("no sums")
        assert "not a list of SHA-256 sums" in refused(own, capsys)


def test_one_bit_of_the_hubs_cache(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There a file is a link to one that is named by its sum."""
    path = folder / "model.safetensors"
    blob = folder.parent / sha256(path)
    path.rename(blob)
    path.symlink_to(blob)
    assert cli.main(["import", str(folder), str(folder.parent / "good")]) == 0
    content = bytearray(blob.read_bytes())
    content[-7] ^= 1
    blob.write_bytes(bytes(content))
    assert "model.safetensors: damaged" in refused(folder, capsys)


def test_tensors_that_do_not_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "model.safetensors"
    good = load_file(path)
    name = "transformer.h.0.attn.c_attn.weight"
    save_file(good | {name: torch.ones(72, 24)}, path)
    assert f"{name!r} has shape (72, 24), config.json says (24, 72)" in refused(folder, capsys)
    save_file({n: t for n, t in good.items() if n != name}, path)
    assert f"lacks {name!r}" in refused(folder, capsys)
    save_file(good | {"transformer.h.9.ln_1.weight": torch.ones(24)}, path)
    assert "holds 'transformer.h.9.ln_1.weight', which a model of this config.json has not" in refused(folder, capsys)
    save_file(good | {name: good[name].to(torch.int32)}, path)
    assert f"{name!r} holds int32" in refused(folder, capsys)
    save_file(good | {"lm_head.weight": torch.ones(30, 24)}, path)
    assert "'transformer.wte.weight' and 'lm_head.weight' differ, but config.json says that they are one" in refused(
        folder, capsys
    )


def test_shards(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard(folder)
    index, second = folder / "model.safetensors.index.json", folder / "model-00002-of-00002.safetensors"
    plain, content = json.loads(index.read_text()), second.read_bytes()
    second.unlink()
    assert f"{second.name}: this shard is missing; {index.name} names it" in refused(folder, capsys)
    save_file({"a": torch.ones(1)}, second)
    assert f"{second.name}: lacks" in refused(folder, capsys)
    second.write_bytes(content[:200])
    assert f"{second.name}: not weights that can be opened" in refused(folder, capsys)
    second.write_bytes(content)
    for outside in ("../secret.safetensors", "/etc/passwd", ""):
        index.write_text(json.dumps({"weight_map": plain["weight_map"] | {"a": outside}}))
        assert "is not a file of this folder" in refused(folder, capsys)
    for broken in ("", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}'):
        index.write_text(broken)
        assert index.name in refused(folder, capsys)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "model.pt"])
def test_a_pickle_runs_no_code(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Trap(folder / "ran")))
    said = refused(folder, capsys)
    assert ("not weights that can be opened" if "safetensors" in name else f"{name}: a pickle, which could run") in said
    assert not (folder / "ran").exists()


def test_no_weights_at_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model.safetensors").unlink()
    assert "holds no model.safetensors" in refused(folder, capsys)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_embd": 48}, "has shape (32, 24), config.json says (32, 48)"),
        ({"n_layer": 3}, "lacks 'transformer.h.2.ln_1.weight'"),
        ({"n_layer": 1}, "holds 'transformer.h.1.attn.c_attn.bias', which a model of this config.json has not"),
        ({"n_layer": 10**9}, "1000000000 blocks, but the weights are 28 tensors"),
        ({"n_head": 5}, "heads (5) must divide dim (24)"),
        ({"vocab_size": 10**12}, "'transformer.wte.weight' has shape (30, 24), config.json says (1000000000000, 24)"),
        ({"vocab_size": 10**30}, "config.json: "),
        ({"vocab_size": -1}, "config.json: "),
        ({"n_positions": 0}, "config.json"),
        ({"n_embd": "wide"}, "n_embd 'wide' is not supported: a whole number is needed"),
        ({"n_embd": True}, "n_embd True is not supported"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon nan is not supported: a number is needed"),
        ({"resid_pdrop": 1.5}, "dropout (1.5) must be in [0, 1)"),
        ({"architectures": ["GPT3LMHeadModel"]}, "unknown architecture 'GPT3LMHeadModel'; did you mean 'GPT2LMHead"),
        ({"architectures": ["os.system"]}, "unknown architecture 'os.system'"),
        ({"architectures": ["GPT3LMHeadModel", "os.system"]}, "unknown architecture ['GPT3LMHeadModel', 'os.system']"),
        ({"architectures": ["os.system", "BertForMaskedLM"]}, "unknown setting activation_function"),
        ({"architectures": 7}, "unknown architecture 7"),
        ({"architectures": []}, "names neither a kind of model nor an architecture"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "unknown setting auto_map {'AutoModel': 'evil.Model'}"),
        ({"eos_token_id": "end"}, "eos_token_id 'end' is not supported"),
        ({"kind": "chat"}, "unknown setting kind 'chat'"),
        ({"kind": "CausalLM", "settings": {}}, "unknown setting kind 'CausalLM'"),
    ],
)
def test_settings_that_do_not_fit(
    folder: Path, values: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder, **values)
    assert message in refused(folder, capsys)


@pytest.mark.parametrize("content", ["", "[]", "null", '{"a": ', "[" * 100_000, '"GPT2LMHeadModel"'])
def test_settings_that_are_none(folder: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "config.json").write_text(content)
    assert "config.json: " in refused(folder, capsys)


# For each family values that would change what is computed and that zoo has not: refused by name, never ignored.
UNSUPPORTED = [
    ("gpt2", "activation_function", "mish"),
    ("gpt2", "add_cross_attention", True),
    ("gpt2", "pruned_heads", {"0": [1]}),
    ("gpt2", "is_encoder_decoder", True),
    ("bert", "position_embedding_type", "relative_key"),
    ("bert", "hidden_act", "gelu_10"),
    ("bert", "is_decoder", True),
    ("bert", "problem_type", "multi_label_classification"),
    ("t5", "feed_forward_proj", "gated-mish"),
    ("t5", "feed_forward_proj", "twice-relu"),
    ("t5", "dense_act_fn", "mish"),
    ("t5", "is_encoder_decoder", False),
    ("t5", "tie_encoder_decoder", True),
    ("marian", "normalize_before", True),
    ("marian", "normalize_embedding", True),
    ("marian", "static_position_embeddings", False),
    ("bart", "normalize_embedding", False),
    ("bart", "add_final_layer_norm", True),
    ("llama", "rope_parameters", {"rope_type": "yarn", "factor": 2.0}),
    ("llama", "rope_parameters", {"rope_type": "default", "partial_rotary_factor": 0.5}),
    ("llama", "rope_parameters", {"rope_type": "linear", "factor": 0.0}),
    ("llama", "rope_scaling", [1]),
    ("llama", "sliding_window", 128),
    ("llama", "num_attention_heads", 0),
    ("llama", "rope_interleaved", True),
    ("vit", "hidden_act", "quick_gelu"),
    ("vit", "image_size", 33),
    ("vit", "id2label", 5),
    ("vit", "id2label", "cat"),
    ("timm", "architecture", "vit_base_patch16_clip_224"),
    ("timm", "architecture", "resnet50"),
    ("timm", "model_args", {"global_pool": "max"}),
    ("timm", "model_args", {"img_size": [32, 48]}),
    ("timm", "model_args", {"pos_embed": "rope"}),
    ("timm", "model_args", {"block_fn": "ParallelScalingBlock"}),
    ("esm2", "position_embedding_type", "absolute"),
    ("esm2", "emb_layer_norm_before", True),
    ("esm2", "is_folding_model", True),
    ("esm2", "mask_token_id", 3),
    ("musicgen", "pad_token_id", 3),
    ("musicgen", "activation_function", "selu"),
]


@pytest.mark.parametrize(("family", "key", "value"), UNSUPPORTED)
def test_what_zoo_has_not_is_refused_by_name(
    family: str,
    key: str,
    value: Any,
    kept: dict[str, dict[str, bytes]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = put(kept[family], tmp_path / "m")
    change(folder, **{key: value})
    said = refused(folder, capsys)
    named = {key: value} if key == "pruned_heads" or not isinstance(value, dict) else value
    # by its name and value, in the way of the table or in that of the setting that it becomes
    assert any(f"{k} {v!r}" in said or f"{k} ({v})" in said for k, v in named.items())


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5", "marian", "bart", "llama", "vit", "timm", "esm2", "musicgen"])
def test_an_unknown_key_is_refused_by_name(
    family: str, kept: dict[str, dict[str, bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = put(kept[family], tmp_path / "m")
    for value in ("sparse", False):  # that something is off says that it may be on, and where it is not said, is
        change(folder, new_kind_of_attention=value)
        assert f"unknown setting new_kind_of_attention {value!r}" in refused(folder, capsys)


def test_settings_of_training_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder, embd_pdrop=0.3)
    assert cli.main(["import", str(folder), str(folder.parent / "o")]) == 0
    assert "embd_pdrop 0.3 acts in training alone" in capsys.readouterr().err
    (folder / "generation_config.json").write_text('{"no_repeat_ngram_size": 3, "min_length": 0}')
    assert cli.main(["import", str(folder), str(folder.parent / "p")]) == 0
    said = capsys.readouterr().err
    assert "generation_config.json: no_repeat_ngram_size 3 ignored: a default of its generate" in said
    assert "min_length" not in said


def test_every_habit_is_told_by_name(
    folder: Path, kept: dict[str, dict[str, bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of generation_config.json: what is not known to change nothing, of an imported folder too."""
    beside = folder / "generation_config.json"
    still = {"eos_token_id": 2, "pad_token_id": 0, "use_cache": True, "transformers_version": "5", "top_p": 1.0}
    still |= {"temperature": 0.6, "top_k": 50, "do_sample": False, "num_beams": 1, "guidance_scale": None}
    still |= {"early_stopping": False, "begin_suppress_tokens": [], "sequence_bias": {}, "_from_model_config": True}
    beside.write_text(json.dumps(still))
    zoo.load(folder)
    assert capsys.readouterr().err == ""
    acts: dict[str, object] = {"do_sample": True, "top_p": 0.9, "begin_suppress_tokens": [220], "new_habit": "x"}
    acts |= {"sequence_bias": {"1": -1.0}, "exponential_decay_length_penalty": [15, 1.6], "max_new_tokens": 9}
    acts |= {"forced_eos_token_id": 2, "guidance_scale": 3.0, "num_beam_groups": 2, "diversity_penalty": 0.5}
    acts |= {"encoder_repetition_penalty": 1.1, "early_stopping": True, "suppress_tokens": [*range(100)]}
    beside.write_text(json.dumps(still | acts))
    assert cli.main(["import", str(folder), str(tmp_path / "o")]) == 0
    capsys.readouterr()
    for opened in (folder, tmp_path / "o"):
        zoo.load(opened)
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith(f"{opened}/generation_config.json: ")
        for name, value in (acts | {"temperature": 0.6, "top_k": 50}).items():
            assert f"{name} {value!r}"[:40] in said
        assert not any(f" {name} " in said for name in still.keys() - acts.keys() - {"temperature", "top_k"})
        assert len(said) < 800  # a list of a hundred tokens is cut
    bart = put(kept["bart"], tmp_path / "bart")
    said = json.loads((bart / "generation_config.json").read_text())
    (bart / "generation_config.json").write_text(json.dumps(said | {"decoder_start_token_id": 7}))
    zoo.load(bart)
    assert "decoder_start_token_id 7" in capsys.readouterr().err


def test_keys_of_tools_that_compute_nothing(kept: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    folder = put(kept["llama"], tmp_path / "m")
    before = zoo.load(folder)
    change(folder, unsloth_fixed=True, unsloth_version="2025.1", **{"transformers.js_config": {"dtype": "q4"}})
    assert zoo.load(folder).config == before.config


def test_how_a_published_model_writes_is_read_where_its_library_reads_it(
    kept: dict[str, dict[str, bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In generation_config.json alone where there is one; what is not taken on is one line, also other ends of a folder
    that was imported before they were."""
    folder = put(kept["bart"], tmp_path / "m")
    habits = {"length_penalty": 2.0, "num_beams": 4, "max_length": 142, "early_stopping": True}
    change(folder, eos_token_id=[2, 7], **habits)
    (folder / "generation_config.json").unlink()
    found = zoo.load(folder).model
    assert (found.end, found.ends) == (2, (2, 7))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    told = "length_penalty 2.0, num_beams 4, early_stopping True, max_length 142, forced_eos_token_id 2"
    assert f"config.json: {told} ignored: defaults of its generate" in said[0]
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 2], "num_beams": 1, "max_length": 20}')
    found = zoo.load(folder).model
    assert (found.end, found.ends) == (5, (5, 2))
    assert not capsys.readouterr().err
    for verb in (["import", str(folder), str(tmp_path / "o")], ["export", str(tmp_path / "o"), str(tmp_path / "back")]):
        assert cli.main([*verb, *(["--to", "hf"] if verb[0] == "export" else [])]) == 0
    assert zoo.load(tmp_path / "back").model.ends == (5, 2)
    older = json.loads((tmp_path / "o" / "config.json").read_text())
    del older["settings"]["ends"]
    (tmp_path / "o" / "config.json").write_text(json.dumps(older))
    (tmp_path / "o" / "SHA256SUMS").unlink()
    capsys.readouterr()
    assert zoo.load(tmp_path / "o").model.end == 5
    said = capsys.readouterr().err
    assert said == f"{tmp_path}/o/generation_config.json: eos_token_id [5, 2]: only 5 ends a text here\n"
    again = ["export", str(tmp_path / "o"), str(tmp_path / "again"), "--to", "hf"]
    assert cli.main(again) == 0
    assert "ends was [] and is written as [5, 2]: it acts in generating" in capsys.readouterr().err
    older["settings"]["ends"] = [2]  # as folders say it that were imported when the first was not among them
    (tmp_path / "o" / "config.json").write_text(json.dumps(older))
    assert cli.main([*again[:-3], *again[-2:], str(tmp_path / "third")]) == 0
    assert "ends was" not in capsys.readouterr().err
    assert cli.main(["diff", str(tmp_path / "o"), str(tmp_path / "back")]) == 0
    assert "ends" not in capsys.readouterr().out
    (folder / "generation_config.json").write_text('{"eos_token_id": [-1, 99999, 2]}')  # what has no row ends nothing
    found = zoo.load(folder).model
    assert (found.end, found.ends) == (2, (2,))
    assert "eos_token_id [-1, 99999, 2]: only 2 ends a text here" in capsys.readouterr().err
    (folder / "generation_config.json").write_text('{"eos_token_id": "end"}')
    capsys.readouterr()
    assert "generation_config.json: eos_token_id 'end' is not supported" in refused(folder, capsys)


# -- what lies beside, and where ---------------------------------------------------------------------------------------


def test_a_tokenizer_that_is_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tokenizer.json").write_text("{}")
    assert "tokenizer.json: not a tokenizer" in refused(folder, capsys)


def test_a_mistyped_run_beside_others_is_no_hub_name(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: Any, **__: Any) -> None:
        pytest.fail("the hub was asked for a folder of the user's")

    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
    (folder.parent / "runs" / "mnist" / "checkpoints").mkdir(parents=True)
    monkeypatch.chdir(folder.parent)
    assert cli.main(["import", "runs/mnits", "out"]) == 2
    assert capsys.readouterr().err == "zoo import: runs/mnits: no such folder; did you mean 'mnist'?\n"


def test_a_folder_of_published_models_may_be_called_as_one_of_the_hub(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = folder.parent / "somebody" / "gpt2"
    there.parent.mkdir()
    folder.rename(there)
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **_: there if name == "somebody/gpt3" else None
    )
    monkeypatch.chdir(there.parent.parent)
    assert cli.main(["import", "somebody/gpt3", "out"]) == 0


def test_a_model_of_the_hub_that_is_a_pickle_alone(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is not fetched, so that nothing of it lies in the cache."""
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: folder)
    assert cli.main(["import", "somebody/gpt3", str(folder.parent / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("zoo import: somebody/gpt3: the hub holds no weights of it as safetensors; pickles (")
    assert said.count("\n") == 1


def test_published_weights_have_no_checkpoints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["generate", str(folder)], ["export", str(folder), str(folder.parent / "out"), "--to", "hf"]):
        assert cli.main([*given, "--checkpoint", "last"]) == 2
        said = "published weights, of which there are no checkpoints: leave --checkpoint unset"
        assert capsys.readouterr().err == f"zoo {given[0]}: {folder}: {said}\n"


def test_a_hub_name_without_a_hub(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("nobody/no-such-model-here", "nomodel"):
        assert cli.main(["import", name, str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"{name}: no such folder, and" in said
    assert not (tmp_path / "out").exists()
