"""Tokenizers of published folders beside the library's own, and the verbs on such folders."""

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch

import zoo
from zoo import cli
from zoo.check.references import library

TEXTS = ["the cat sat", "Then, at last: the  end!", "naïve café 3.5 ☃", "a [MASK] b <mask> c </s> d"]
WORDS = [*"abcdefghijklmnopqrstuvwxyz.,:!35[]", "the", "cat", "sat", "##s", "##e", "##t", "##h", "##n", "end", "last"]


def byte_level(first: tuple[str, ...]) -> dict[str, int]:
    names = [*first, *sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()), "th", "the", "Ġt", "Ġth", "Ġthe", "at"]
    return {name: i for i, name in enumerate(names)}


MERGES = [("t", "h"), ("th", "e"), ("Ġ", "t"), ("Ġt", "h"), ("Ġth", "e"), ("a", "t")]


def gpt2() -> Any:
    return library("transformers").GPT2Tokenizer(vocab=byte_level(("<|endoftext|>",)), merges=MERGES)


def bart() -> Any:
    first = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    return library("transformers").BartTokenizer(vocab=byte_level(first), merges=MERGES)


def bert() -> Any:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    return library("transformers").BertTokenizer(vocab={name: i for i, name in enumerate(names)})


def t5() -> Any:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(c, -4.0) for c in "abcdefghijklmnopqrstuvwxyz.,"] + [("▁the", -3.0), ("▁cat", -3.5), ("at", -3.2)]
    return library("transformers").T5Tokenizer(vocab=pieces, extra_ids=5)


def llama() -> Any:
    vocab = {
        "<unk>": 0,
        "<s>": 1,
        "</s>": 2,
        "▁": 3,
        "t": 4,
        "h": 5,
        "e": 6,
        "th": 7,
        "the": 8,
        "▁the": 9,
        "c": 10,
        "a": 11,
    }
    vocab |= {f"<0x{i:02X}>": 12 + i for i in range(256)}
    merges = [("t", "h"), ("th", "e"), ("▁", "the")]
    return library("transformers").LlamaTokenizer(vocab=vocab, merges=merges, add_bos_token=True)


MAKERS = {"gpt2": gpt2, "bart": bart, "bert": bert, "t5": t5, "llama": llama}


@pytest.mark.parametrize("name", MAKERS)
def test_encode_and_decode_as_theirs(name: str, tmp_path: Path) -> None:
    from zoo.text.published import PublishedTokenizer

    theirs = MAKERS[name]()
    theirs.save_pretrained(tmp_path)
    ours = PublishedTokenizer.load(tmp_path / "tokenizer.json")
    for text in TEXTS:
        ids = theirs(text).input_ids
        assert ours.encode(text) == ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.encode_batch(TEXTS) == theirs(TEXTS).input_ids
    assert ours.vocab_size == len(theirs)
    end = theirs.sep_token_id if theirs.eos_token_id is None else theirs.eos_token_id
    for role, other in {"end": end, "mask": theirs.mask_token_id}.items():
        if other is None:
            with pytest.raises(ValueError, match=f"has no token for {role}"):
                getattr(ours, role)
        else:
            assert getattr(ours, role) == other


@pytest.mark.parametrize("name", ["gpt2", "bart", "bert"])
def test_what_special_tokens_are_for_where_no_file_says_it(name: str, tmp_path: Path) -> None:
    """As the oldest folders of a hub lie there: a tokenizer.json, and a file that says how long texts may be."""
    from zoo.text.published import PublishedTokenizer

    theirs = MAKERS[name]()
    theirs.save_pretrained(tmp_path)
    said = PublishedTokenizer.load(tmp_path / "tokenizer.json").names
    (tmp_path / "special_tokens_map.json").unlink(missing_ok=True)
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 1024}')
    found = PublishedTokenizer.load(tmp_path / "tokenizer.json").names
    assert found == {role: said[role] for role in found}
    assert found.keys() >= said.keys() - {"pad"}  # GPT-2 has no padding of its own
    assert found


IM = {"content": "<|im_end|>", "special": True, "lstrip": False, "rstrip": False, "normalized": False}
IM |= {"single_word": False}


@pytest.mark.parametrize(
    ("name", "said", "beside"),
    [
        ("bert", {"do_lower_case": False}, {}),
        ("bert", {"do_lower_case": True}, {}),
        ("bert", {"do_lower_case": False, "tokenizer_class": "PreTrainedTokenizerFast"}, {}),
        ("gpt2", {"add_prefix_space": True}, {}),
        ("gpt2", {"added_tokens_decoder": {"{}": IM | {"special": False}}}, {}),
        ("bert", {}, {"<|im_end|>": "{}"}),
        ("llama", {"added_tokens_decoder": {"{}": IM}}, {}),
        ("llama", {}, {"<|im_end|>": "{}"}),
    ],
)
def test_what_lies_beside_a_tokenizer_counts_as_for_theirs(
    name: str, said: dict[str, Any], beside: dict[str, Any], tmp_path: Path
) -> None:
    """Tokens that its file has not, lower case and the space before a text, where that says otherwise."""
    from zoo.text.published import PublishedTokenizer

    made = MAKERS[name]()
    made.save_pretrained(tmp_path)
    plain = PublishedTokenizer.load(tmp_path / "tokenizer.json")
    path = tmp_path / "tokenizer_config.json"
    about = json.dumps(json.loads(path.read_text()) | said).replace("{}", str(len(made)))
    path.write_text(about)
    if beside:
        (tmp_path / "added_tokens.json").write_text(json.dumps(beside).replace('"{}"', str(len(made))))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": name}))
    theirs = library("transformers").AutoTokenizer.from_pretrained(tmp_path)
    ours = PublishedTokenizer.load(tmp_path / "tokenizer.json")
    texts = ["the cat<|im_end|>sat", "The Cat", "the cat <|im_end|>"]
    assert [ours.encode(text) for text in texts] == theirs(texts).input_ids
    changed = [ours.encode(text) != plain.encode(text) for text in texts]
    assert any(changed) == ("PreTrainedTokenizerFast" not in about and said != {"do_lower_case": True})
    assert ours.vocab_size == len(theirs)
    (tmp_path / "kept").mkdir()
    ours.save(tmp_path / "kept")
    assert PublishedTokenizer.load(tmp_path / "kept" / "tokenizer.json").encode_batch(texts) == ours.encode_batch(texts)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"added_tokens_decoder": {"900": IM}}, "'<|im_end|>' should be token 900, by its tokenizer.json it is 268"),
        ({"added_tokens_decoder": {"x": IM}}, "its added tokens are not ids and tokens"),
        ({"added_tokens_decoder": {"9": "a"}}, "its added tokens are not ids and tokens"),
        ({"added_tokens_decoder": [1]}, "its added tokens are not ids and tokens"),
        ({"add_prefix_space": False}, "add_prefix_space is False, which its tokenizer.json contradicts"),
    ],
)
def test_what_cannot_be_reconciled_is_said(said: dict[str, Any], message: str, tmp_path: Path) -> None:
    from zoo.text.published import PublishedTokenizer

    llama().save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | said))
    with pytest.raises(ValueError, match=re.escape(message)):
        PublishedTokenizer.load(tmp_path / "tokenizer.json")


def published(folder: Path, tokenizer: Any, config: str, model: str, seed: int = 1, room: int = 0, **kw: Any) -> Any:
    """A model of random weights, with `room` for more tokens, and its tokenizer in one folder."""
    hf = library("transformers")
    torch.manual_seed(seed)
    theirs = getattr(hf, model)(getattr(hf, config)(vocab_size=len(tokenizer) + room, **kw)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    theirs.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return theirs


SMALL = {"d_model": 24, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40}
BERT = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 40}


def test_generate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = gpt2()
    theirs = published(
        tmp_path / "m",
        tokenizer,
        "GPT2Config",
        "GPT2LMHeadModel",
        seed=7,
        n_embd=24,
        n_layer=1,
        n_head=3,
        n_positions=32,
    )
    prompt = tokenizer("the cat", return_tensors="pt").input_ids
    # their end is beyond this vocabulary, so both write on
    written = theirs.generate(prompt, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)
    given = ["generate", str(tmp_path / "m"), "--prompt", "the cat", "--length", "8", "--temperature", "0"]
    assert cli.main(given) == 0
    # with this seed random weights happen to write whole characters
    assert capsys.readouterr().out == tokenizer.decode(written[0], skip_special_tokens=True) + "\n"
    assert cli.main([*given[:5], "40"]) == 2  # more than the table of positions has rows
    out, said = capsys.readouterr()
    assert out == ""
    assert "the model can place 32" in said
    assert said.count("\n") == 1


def test_generate_keeps_the_space_between_a_prompt_and_what_follows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SentencePiece's decoder takes the space away from a text that begins with one."""
    tokenizer = llama()
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 3}
    theirs = published(tmp_path / "m", tokenizer, "LlamaConfig", "LlamaForCausalLM", **sizes)
    with torch.no_grad():
        theirs.lm_head.weight[[0, 1, 2, *range(12, 268)]] = 0.0  # letters alone, no bytes
    theirs.save_pretrained(tmp_path / "m")
    spaced = 0
    for prompt in ("the", "a cat", "sat on", "mat"):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        written = theirs.generate(ids, max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0)
        given = ["generate", str(tmp_path / "m"), "--prompt", prompt, "--length", "6", "--temperature", "0"]
        assert cli.main(given) == 0
        wanted = tokenizer.decode(written[0], skip_special_tokens=True)
        assert capsys.readouterr().out == wanted + "\n"
        spaced += wanted[len(prompt)] == " "
    assert spaced


def test_translate_with_beams(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """BART's encoder wants a start before its text: the folder's tokenizer says so."""
    tokenizer = bart()
    heads = {"encoder_attention_heads": 3, "decoder_attention_heads": 3, "max_position_embeddings": 32}
    theirs = published(tmp_path / "m", tokenizer, "BartConfig", "BartForConditionalGeneration", **SMALL, **heads)
    source = tokenizer("the cat sat", return_tensors="pt").input_ids
    options = {"num_beams": 3, "early_stopping": "never", "max_new_tokens": 9, "forced_eos_token_id": None}
    written = theirs.generate(source, **options)
    assert cli.main(["translate", str(tmp_path / "m"), "the cat sat", "--beams", "3", "--max-length", "9"]) == 0
    assert capsys.readouterr().out == tokenizer.decode(written[0], skip_special_tokens=True) + "\n"


def test_fill_and_classify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = bert()
    theirs = published(tmp_path / "m", tokenizer, "BertConfig", "BertForMaskedLM", **BERT)
    ids = tokenizer("the [MASK] sat", return_tensors="pt").input_ids
    with torch.no_grad():
        share, best = theirs(ids).logits[ids == 4][0].softmax(-1).max(-1)
    assert cli.main(["fill", str(tmp_path / "m"), "the [MASK] sat", "--top", "1"]) == 0
    said = capsys.readouterr().out
    assert tokenizer.decode([best]) in said
    assert f"{float(share):.3f}"[:4] in said
    theirs = published(
        tmp_path / "c", tokenizer, "BertConfig", "BertForSequenceClassification", **BERT, id2label={0: "bad", 1: "good"}
    )
    with torch.no_grad():
        number = int(theirs(tokenizer("the cat", return_tensors="pt").input_ids).logits.argmax())
    assert cli.main(["classify", str(tmp_path / "c"), "the cat"]) == 0
    assert capsys.readouterr().out.startswith(theirs.config.id2label[number])


def test_spans_by_sentinels(tmp_path: Path) -> None:
    """T5's tokens of dropped spans have ids of their own, and no end is added twice."""
    tokenizer = t5()
    tokenizer.save_pretrained(tmp_path)
    from zoo.text.published import PublishedTokenizer

    ours = PublishedTokenizer.load(tmp_path / "tokenizer.json")
    gap = tokenizer.convert_tokens_to_ids("<extra_id_0>")
    assert ours.sentinels[:2] == [gap, tokenizer.convert_tokens_to_ids("<extra_id_1>")]
    whole = tokenizer("the <extra_id_0> cat").input_ids
    assert ours.join(["the ", " cat"], [gap]) == (whole, [whole.index(gap)])
    assert ours.closed(whole) == whole
    with pytest.raises(ValueError, match="<extra_id_0> in a text is a gap to this model: leave it out"):
        ours.join(["the <extra_id_0> ", " cat"], [gap])


def test_an_imported_folder_keeps_its_tokenizer(tmp_path: Path) -> None:
    tokenizer = bert()
    published(tmp_path / "m", tokenizer, "BertConfig", "BertForMaskedLM", **BERT)
    assert cli.main(["import", str(tmp_path / "m"), str(tmp_path / "o")]) == 0
    assert zoo.load(tmp_path / "o").tokenizer.encode("the cat") == tokenizer("the cat").input_ids
    assert cli.main(["export", str(tmp_path / "o"), str(tmp_path / "back"), "--to", "hf"]) == 0
    again = library("transformers").AutoTokenizer.from_pretrained(tmp_path / "back")
    assert again("the cat").input_ids == tokenizer("the cat").input_ids


def test_no_code_of_the_library_is_needed(tmp_path: Path) -> None:
    """A published folder opens without transformers."""
    import subprocess

    published(tmp_path / "m", bert(), "BertConfig", "BertForMaskedLM", **BERT)
    code = f"import sys, zoo; zoo.load({str(tmp_path / 'm')!r}).tokenizer.encode('a'); "
    code += "print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_class_of_two_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the library gives it a pair: BERT's second segment, and the padding of a batch, make a difference."""
    tokenizer = bert()
    theirs = published(tmp_path / "m", tokenizer, "BertConfig", "BertForSequenceClassification", num_labels=3, **BERT)
    pairs = [("the cat sat", "the end"), ("a", "last of the cats at the end"), ("the end", "the cat sat")]
    with torch.no_grad():
        rows = [theirs(**tokenizer(*pair, return_tensors="pt")).logits.softmax(-1)[0].tolist() for pair in pairs]
        ids = tokenizer(*pairs[0], return_tensors="pt").input_ids
        assert theirs(ids).logits.softmax(-1)[0].tolist() != pytest.approx(rows[0], abs=1e-3)  # of one segment
    given = ["classify", str(tmp_path / "m"), "--json", "--pair"]
    assert cli.main([*given, *(text for pair in pairs for text in pair)]) == 0
    typed = capsys.readouterr().out
    found = [json.loads(line) for line in typed.splitlines()]
    names = [f"LABEL_{number}" for number in range(3)]
    assert [row["input"] for row in found] == [list(pair) for pair in pairs]
    for row, right in zip(found, rows, strict=True):
        assert [row["classes"][name] for name in names] == pytest.approx(right, abs=1e-5)
    lines = "".join(f"{one}\t{two}\n" for one, two in pairs).encode()
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": io.BytesIO(lines)}))
    assert cli.main(given) == 0
    assert capsys.readouterr().out == typed
    assert cli.main([*given[:2], "--pair", *pairs[0]]) == 0
    assert capsys.readouterr().out.split("\t")[-2:] == ["the cat sat", "the end\n"]
    assert cli.main([*given, "a"]) == 2
    assert capsys.readouterr().err == "zoo classify: --pair: 1 texts, a pair has two\n"
    assert cli.main([*given, "a", " "]) == 2
    assert "text 1: empty" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": io.BytesIO(b"a\tb\nthe cat\n")}))
    assert cli.main(given) == 2
    assert "standard input, line 2: 1 columns, a pair has 2" in capsys.readouterr().err


def test_an_empty_text_has_no_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = {"n_embd": 24, "n_layer": 1, "n_head": 3, "pad_token_id": 0}
    published(tmp_path / "g", gpt2(), "GPT2Config", "GPT2ForSequenceClassification", **shape)
    published(tmp_path / "b", bert(), "BertConfig", "BertForSequenceClassification", **BERT)
    for model in "gb":
        for text in ("", " "):
            assert cli.main(["classify", str(tmp_path / model), text]) == 2
            assert capsys.readouterr().err == "zoo classify: text 1: empty, there is nothing to tell its class by\n"


@pytest.mark.parametrize("kind", ["Bert", "GPT2", "Llama"])
def test_a_head_of_one_output_is_no_classifier(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A softmax of one number would say 1 whatever the text."""
    hf = library("transformers")
    shape = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 40}
    shape = {"n_embd": 24, "n_layer": 1, "n_head": 3} if kind == "GPT2" else shape
    model = getattr(hf, f"{kind}ForSequenceClassification")
    model(getattr(hf, f"{kind}Config")(**shape, vocab_size=40, num_labels=1)).save_pretrained(tmp_path)
    assert cli.main(["classify", str(tmp_path), "a text"]) == 2
    said = capsys.readouterr().err
    assert "a head of 1 output gives a value, and no class" in said
    assert said.count("\n") == 1
