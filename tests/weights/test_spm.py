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
from zoo.text.data import TextPairs
from zoo.text.opening import AnyTokenizer
from zoo.text.spm import SentencePieces

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


@pytest.mark.parametrize("apart", [False, True])
def test_marian_cuts_and_joins_as_theirs(tmp_path: Path, apart: bool) -> None:
    marian(tmp_path / "marian", apart=apart)
    theirs = library("transformers").MarianTokenizer.from_pretrained(tmp_path / "marian")
    ours = zoo.load(tmp_path / "marian").tokenizer
    assert isinstance(ours, SentencePieces)
    for text in [*TEXTS, *([] if apart else [">>de<< the cat", ">>xx<<a cat"])]:
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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path


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


def test_a_marian_is_trained_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On pairs of one's own: targets are cut as the other language, and the run keeps what it needs of the source."""
    marian(folder / "marian")
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
    assert ours.join(["the ", " dog", ""], [size + 6, size + 5]) == hole
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
