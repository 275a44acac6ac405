"""Folders whose tokens are SentencePiece models, as Marian and the first T5 lie on the hub, beside those libraries."""

import io
import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo
from tests.test_bad_input import one_line
from tests.test_traps import QUIET
from zoo import cli
from zoo.check.references import library
from zoo.core import StackConfig
from zoo.text.data import TextPairs
from zoo.text.model import Seq2Seq
from zoo.text.opening import AnyTokenizer
from zoo.text.published import PublishedTokenizer
from zoo.text.spm import SentencePieces
from zoo.text.tokens import Tokenizer

ENGLISH = ["the cat sat on the mat", "a dog sees the cat", "the dog and the cat", "a man on a mat", "the end of a dog"]
GERMAN = ["die Katze saß auf der Matte", "ein Hund sieht die Katze", "der Hund und die Katze", "das Ende vom Hund"]
# spaces, a letter that only the other language has, one that neither has, special tokens by name, a code in mid-text
TEXTS = [*ENGLISH, "", "  the   cat ", "a ß dog", "the ☃☃ cat", "Thé ﬁn", "\u2581 cat"]
TEXTS += ["the </s> cat", "a <unk> >>de<< dog"]


def trained(texts: list[str], size: int, **more: Any) -> bytes:
    """A SentencePiece model of these texts."""
    from sentencepiece import SentencePieceTrainer

    out = io.BytesIO()
    more |= {"vocab_size": size, "hard_vocab_limit": False, "minloglevel": 2}
    SentencePieceTrainer.train(sentence_iterator=iter(texts * 20), model_writer=out, **more)
    return out.getvalue()


def marian(folder: Path, *, apart: bool = False, code: str = ">>de<<") -> Any:
    """Random weights and the files of OPUS-MT: two models, and a table of both's pieces in an order of its own."""
    from sentencepiece import SentencePieceProcessor

    hf = library("transformers")
    folder.mkdir()
    sides = {"source.spm": trained(ENGLISH, 60), "target.spm": trained(GERMAN, 70)}
    pieces = {}
    for name, model in sides.items():
        (folder / name).write_bytes(model)
        read = SentencePieceProcessor(model_proto=model)
        pieces[name] = [read.id_to_piece(i) for i in range(3, read.get_piece_size())]
    both = {*pieces["source.spm"], *pieces["target.spm"]}
    both -= {max(pieces["source.spm"], key=len)}  # as where the table was counted in other texts than the model
    order = ["</s>", "<unk>", *sorted(both), code, "<pad>"]
    table = {piece: i for i, piece in enumerate(order)}
    (folder / "vocab.json").write_text(json.dumps(table))
    targets = len(table)
    if apart:
        own = {piece: i for i, piece in enumerate(["</s>", "<unk>", *pieces["target.spm"], "<pad>"])}
        (folder / "target_vocab.json").write_text(json.dumps(own))
        targets = len(own)
    said = {"source_lang": "en", "target_lang": "de", "separate_vocabs": apart}
    (folder / "tokenizer_config.json").write_text(json.dumps(said | {"tokenizer_class": "MarianTokenizer"}))
    torch.manual_seed(3)
    heads = {"encoder_attention_heads": 3, "decoder_attention_heads": 3, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40}
    pad = targets - 1
    config = hf.MarianConfig(
        vocab_size=len(table), decoder_vocab_size=targets, d_model=24, encoder_layers=1, decoder_layers=1, **heads,
        pad_token_id=pad, decoder_start_token_id=pad, eos_token_id=0, forced_eos_token_id=None,
        share_encoder_decoder_embeddings=not apart, scale_embedding=True, activation_function="swish",
    )  # fmt: skip
    theirs = hf.MarianMTModel(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        theirs.final_logits_bias[0, pad] = 4.0  # nothing holds the score of padding down
    theirs.save_pretrained(folder)
    return theirs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path


@pytest.mark.parametrize("apart", [False, True])
def test_marian_cuts_and_joins_as_theirs(tmp_path: Path, apart: bool) -> None:
    marian(tmp_path / "marian", apart=apart)
    theirs = library("transformers").MarianTokenizer.from_pretrained(tmp_path / "marian")
    ours = zoo.load(tmp_path / "marian").tokenizer
    assert isinstance(ours, SentencePieces)
    for text in [*TEXTS, *([] if apart else [">>de<< the cat", ">>xx<<a cat", ">>\n<< cat", ">><< cat"])]:
        assert ours.encode(text) == theirs(text).input_ids, text
    for text in [*GERMAN, "der ☃ Hund", *TEXTS]:
        ids = theirs(text_target=text).input_ids
        assert ours.encode_targets([text]) == [ids], text
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True), text
    assert (ours.pad, ours.end, ours.has("start")) == (theirs.pad_token_id if not apart else ours.pad, 0, False)
    mixed = ours.encode("the cat sat")
    assert mixed != ours.encode_targets(["the cat sat"])[0]  # else one model would do
    assert ours.ends
    assert ours.decode([10**6, 0]) == ""


@pytest.mark.parametrize("apart", [False, True])
def test_a_picture_names_what_was_read_in_its_own_language(tmp_path: Path, apart: bool) -> None:
    from zoo.text.attention import cross_attention

    marian(tmp_path / "marian", apart=apart)
    loaded = zoo.load(tmp_path / "marian")
    text, tokens = "the cat sat on the mat", loaded.tokenizer
    looks = cross_attention(loaded.model, tokens, text, length=4)
    names = [tokens.read[i] for i in tokens.encode(text)[:-1]]
    pieces = [(name not in tokens.marks and name.replace("\u2581", "")) or "·" for name in names]
    assert sum(map(len, pieces)) > 12
    assert looks.read == [*pieces, "end"]


def test_tokens_that_the_folder_calls_special(tmp_path: Path) -> None:
    """Wherever they stand in a text, they are themselves; and a second table counts where the folder says so alone."""
    marian(tmp_path / "marian")
    path = tmp_path / "marian" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"additional_special_tokens": [">>de<<"]}))
    (tmp_path / "marian" / "target_vocab.json").write_text('{"</s>": 0, "<unk>": 1, "a": 2}')
    theirs = library("transformers").MarianTokenizer.from_pretrained(tmp_path / "marian")
    ours = zoo.load(tmp_path / "marian").tokenizer
    for text in (">>de<< the cat", "the >>de<< cat"):
        ids = theirs(text).input_ids
        assert ours.encode(text) == ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.encode_targets(GERMAN) == theirs(text_target=GERMAN).input_ids


def test_what_the_hub_says_of_an_opus_mt(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A config.json as they lie there, by memory, with keys that no code reads today; its numbers are small ones."""
    marian(folder / "marian")
    path = folder / "marian" / "config.json"
    said = json.loads(path.read_text())
    pad = said["pad_token_id"]
    old = {"_num_labels": 3, "activation_dropout": 0.0, "add_bias_logits": False, "add_final_layer_norm": False}
    old |= {"bad_words_ids": [[pad]], "bos_token_id": 0, "classif_dropout": 0.0, "extra_pos_embeddings": pad + 1}
    old |= {"force_bos_token_to_be_generated": False, "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}
    old |= {"label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}, "max_length": 512, "model_type": "marian"}
    old |= {"normalize_before": False, "normalize_embedding": False, "num_beams": 6, "num_hidden_layers": 6}
    old |= {"static_position_embeddings": True, "transformers_version": "4.22.0.dev0", "forced_eos_token_id": 0}
    keep = ["d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads"]
    keep += ["encoder_ffn_dim", "decoder_ffn_dim", "vocab_size", "pad_token_id", "decoder_start_token_id"]
    keep += ["eos_token_id", "scale_embedding", "activation_function", "is_encoder_decoder", "architectures"]
    expected = written(folder / "marian", ENGLISH)
    path.write_text(json.dumps({name: said[name] for name in keep} | old))
    (folder / "marian" / "generation_config.json").unlink()
    assert cli.main(["translate", "marian", *ENGLISH, "--beams", "1", "--max-length", "8"]) == 0
    assert capsys.readouterr().out.splitlines() == expected


def test_one_tokenizer_stands_in_a_folder(folder: Path) -> None:
    """What was saved last is what is opened, whatever another training had left there."""
    marian(folder / "marian")
    t5(folder / "t5")
    own, published = Tokenizer.train(ENGLISH, 300), PublishedTokenizer(Tokenizer.train(GERMAN, 300).bpe, {}, folder)
    (folder / "run").mkdir()
    made = [
        own,
        AnyTokenizer.load(folder / "marian" / "source.spm"),
        published,
        AnyTokenizer.load(folder / "t5" / "spiece.model"),
    ]
    for before, after in product(made, repeat=2):
        before.save(folder / "run")
        after.save(folder / "run")
        found = AnyTokenizer.load(AnyTokenizer.find(folder / "run") or "")
        assert (type(found), found.to_json()) == (type(after), after.to_json())


def written(folder: Path, texts: list[str], *, pads: bool = False) -> list[str]:
    """What transformers writes, greedily and without padding."""
    hf = library("transformers")
    model, tokens = (kind.from_pretrained(folder) for kind in (hf.MarianMTModel, hf.MarianTokenizer))
    pad = model.config.pad_token_id
    rows = [tokens(text, return_tensors="pt").input_ids for text in texts]
    barred = None if pads else [[pad]]
    found = [model.generate(row, num_beams=1, max_new_tokens=8, do_sample=False, bad_words_ids=barred) for row in rows]
    if pads:
        assert any(pad in row[0, 1:].tolist() for row in found)
    return [tokens.decode(row[0, 1:], skip_special_tokens=True) for row in found]


@pytest.mark.parametrize("apart", [False, True])
def test_a_folder_of_marian_translates(folder: Path, capsys: pytest.CaptureFixture[str], apart: bool) -> None:
    """As theirs; padding is never written, though it scores best; what was imported needs nothing else."""
    marian(folder / "marian", apart=apart)
    expected = written(folder / "marian", ENGLISH)
    assert len({*expected}) > 1
    written(folder / "marian", ENGLISH, pads=True)  # sees that the best is padding somewhere
    options = ["--beams", "1", "--max-length", "8"]
    assert cli.main(["translate", "marian", *ENGLISH, *options]) == 0
    out = capsys.readouterr()
    assert out.out.splitlines() == expected
    assert "bad_words" not in out.err
    assert cli.main(["import", "marian", "kept"]) == 0
    shutil.rmtree("marian")
    assert cli.main(["translate", "kept", *ENGLISH, *options]) == 0
    assert capsys.readouterr().out.splitlines() == expected
    assert cli.main(["export", "kept", "back", "--to", "hf"]) == 0
    assert written(folder / "back", ENGLISH) == expected


@pytest.mark.parametrize("apart", [False, True])
def test_a_marian_is_trained_on(folder: Path, capsys: pytest.CaptureFixture[str], apart: bool) -> None:
    """On pairs of one's own: targets are cut as the other language, and the run keeps what it needs of the source."""
    marian(folder / "marian", apart=apart)
    both = product(zip(ENGLISH[:4], GERMAN, strict=True), repeat=2)
    rows = [f"{a} and {b}\t{c} und {d}" for (a, c), (b, d) in both]
    Path("pairs.tsv").write_text("\n".join(rows) + "\n")
    own = ["--data", "TextPairs", "--data.tsv", "pairs.tsv", "--data.held_out", "4", "--model", "Translation"]
    steps = ["--trainer.max_steps", "2", "--trainer.accelerator", "cpu", "--model.length", "8"]
    assert cli.main(["fit", "--run", "run", *own, *steps, "--init-from", "marian", *QUIET]) == 0
    Path("marian").rename("moved")
    assert cli.main(["test", "run", *QUIET]) == 0
    ours = zoo.load(folder / "run")
    assert isinstance(ours.tokenizer, SentencePieces)
    assert ours.model.unwritten == (ours.model.pad,)
    theirs = library("transformers").MarianTokenizer.from_pretrained(folder / "moved")
    data = TextPairs(tsv=Path("pairs.tsv"), held_out=4, tokenizer=folder / "run")
    batch = next(iter(data.val_dataloader()))
    pairs = data.pairs("val")
    for row, ids, keep in zip(batch.index.tolist(), batch.labels, batch.keep, strict=True):
        assert ids[keep].tolist() == theirs(text_target=pairs[row][1]).input_ids
    capsys.readouterr()
    assert cli.main(["translate", "run", *ENGLISH, "--beams", "1", "--max-length", "8"]) == 0
    mine = capsys.readouterr().out.splitlines()
    assert cli.main(["export", "run", "back", "--to", "hf", "--like", "moved"]) == 0
    assert written(folder / "back", ENGLISH) == mine


def t5(folder: Path, **said: Any) -> None:
    hf = library("transformers")
    folder.mkdir()
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    (folder / "spiece.model").write_bytes(trained(ENGLISH, 60, **ids))
    (folder / "tokenizer_config.json").write_text(json.dumps({"extra_ids": 7} | said))
    torch.manual_seed(1)
    shape = {"d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 1, "num_heads": 3, "vocab_size": 80}
    hf.T5ForConditionalGeneration(hf.T5Config(**shape, decoder_start_token_id=0)).save_pretrained(folder)


def test_the_pieces_of_t5(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the library cuts them; sentinels come after them, the first last, and stand for themselves in a text."""
    from sentencepiece import SentencePieceProcessor

    t5(folder / "t5")
    model = SentencePieceProcessor(model_file=str(folder / "t5" / "spiece.model"))
    size = model.get_piece_size()
    pieces = [(model.id_to_piece(i), model.get_score(i)) for i in range(size)]
    sentinels = [f"<extra_id_{i}>" for i in range(7)]
    theirs = library("transformers").T5Tokenizer(vocab=pieces + [(name, 0.0) for name in sentinels[::-1]], extra_ids=7)
    ours = zoo.load(folder / "t5").tokenizer
    for text in ENGLISH:
        assert ours.encode(text) == [*model.encode(text), 1] == theirs(text).input_ids
        assert ours.encode_targets([text]) == [ours.encode(text)]
        assert ours.decode(ours.encode(text)) == text
    assert ours.encode("the ☃") == [*model.encode("the ☃"), 1]
    assert ours.vocab_size == len(theirs) == size + 7
    assert ours.sentinels == [*range(size + 6, size - 1, -1)] == theirs.convert_tokens_to_ids(sentinels)
    hole = [*model.encode("the"), size + 6, *model.encode("dog"), size + 5, 1]
    assert ours.encode("the <extra_id_0> dog<extra_id_1>") == hole
    assert ours.join(["the ", " dog", ""], [size + 6, size + 5]) == (hole, [hole.index(size + 6), hole.index(size + 5)])
    assert ours.ordinary == (3, size)
    ours.save(folder)
    again = AnyTokenizer.load(AnyTokenizer.find(folder) or "")
    assert (again.to_json(), again.sentinels) == (ours.to_json(), ours.sentinels)
    assert cli.main(["translate", "t5", "the cat", "--max-length", "4"]) == 0
    capsys.readouterr()


def test_what_is_no_sentencepiece_is_said_in_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def translated(name: str) -> str:
        return one_line(capsys, cli.main(["translate", name, "the cat"]))

    marian(folder / "marian")
    t5(folder / "t5")
    keep = {path.name: path.read_bytes() for path in (folder / "marian").iterdir()}
    for name, content, said in [
        ("source.spm", b"not one", "no model of SentencePiece"),
        ("source.spm", b"", "no model of SentencePiece"),
        ("source.spm", None, "holds no tokenizer.json or source.spm or spiece.model"),
        ("tokenizer_config.json", b'{"eos_token": ["</s>"]}', "eos_token is ['</s>'], the name of a token is needed"),
        ("tokenizer_config.json", b'{"eos_token": {"content": 5}}', "the name of a token is needed"),
        ("target.spm", None, "No such file"),
        ("vocab.json", b"[1", "not JSON"),
        ("vocab.json", b'{"a": "b"}', "expected tokens by their names"),
        ("vocab.json", b'{"a": 0}', "lack one of </s>, <unk>"),
    ]:
        path = folder / "marian" / name
        path.unlink() if content is None else path.write_bytes(content)
        line = translated("marian")
        assert said in line
        assert "marian" in line
        path.write_bytes(keep[name])
    for many in ('"many"', "1000000000", "-1", "true"):
        (folder / "t5" / "tokenizer_config.json").write_text(f'{{"extra_ids": {many}}}')
        assert "extra_ids" in translated("t5")
    (folder / "t5" / "tokenizer_config.json").unlink()  # a hundred sentinels then, for which this model has no rows
    assert "this model knows 80 tokens" in one_line(capsys, cli.main(["translate", "t5", "the <extra_id_0> cat"]))
    assert "this model knows 80 tokens" in one_line(capsys, cli.main(["fill", "t5", "the [MASK] cat"]))
    assert "text 2: not UTF-8" in one_line(capsys, cli.main(["translate", "marian", "a", "the \udcff cat"]))


@pytest.mark.parametrize("tokens", [(100_000,), (-1,), (2,)])
def test_what_is_never_written_must_be_a_token_and_not_the_end(tokens: tuple[int, ...]) -> None:
    stack = StackConfig(dim=8, depth=1, heads=1)
    with pytest.raises(ValueError, match="unwritten holds"):
        Seq2Seq(stack, stack.replace(causal=True, cross=True), 10, unwritten=tokens)
