"""From the command line to a translation: train, score, translate, predict; what cannot be is said in one line."""

import io
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import zoo
from tests.test_traps import QUIET, settings
from zoo.cli import main
from zoo.core import Learned, StackConfig
from zoo.core.decode import Sampling
from zoo.errors import UserError
from zoo.text.data import Numbers, collate
from zoo.text.model import shifted_right
from zoo.text.task import Translation
from zoo.text.translate import translate, translations
from zoo.train.start import check_reach


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A translator of small numbers, trained for some seconds: it is right about some."""
    import yaml

    folder = tmp_path_factory.mktemp("translation")
    plain = settings()
    plain["data"]["init_args"] = {
        "train": 600, "val": 30, "test": 40, "limit": 2000, "tokens_per_batch": 600, "vocab_size": 300,
    }  # fmt: skip
    for side in ("encoder", "decoder"):
        plain["model"]["init_args"][side] |= {"dim": 32, "dropout": 0.0}
    plain["model"]["init_args"]["optimizer"]["init_args"]["lr"] = 0.01
    plain["trainer"] |= {"max_epochs": 12, "check_val_every_n_epoch": 6}
    plain["checkpoint"] = {"monitor": "val/bleu", "mode": "max"}
    (folder / "c.yaml").write_text(yaml.safe_dump(plain))
    assert main(["fit", "--config", str(folder / "c.yaml"), "--run", str(folder / "run"), *QUIET]) == 0
    return folder / "run"


def test_test_scores_with_both_metrics_and_their_signatures(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", str(run)]) == 0
    out = capsys.readouterr().out
    assert "bleu_signature: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in out
    assert "chrf_signature: nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:" in out
    (path,) = run.glob("test-*.json")
    result = json.loads(path.read_text())
    assert result["sentences"] == 40
    assert 0 <= result["exact"] <= 1
    assert result["bleu"] > 20  # of a chance translator: below 2
    assert result["nll"] > 0


def test_predict_writes_a_line_for_every_pair(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(run)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 40


def test_validate_says_the_scores(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(run)]) == 0
    assert "val/bleu" in capsys.readouterr().out


def test_load_and_translate_in_any_order_and_batch(run: Path) -> None:
    loaded = zoo.load(run)
    texts = ["two hundred", "", "one thousand one hundred fifty-five", "six", "  ", "ninety-nine"]
    once = translate(loaded.model, loaded.tokenizer, texts, beams=2)
    assert [row[0][1] == "" for row in once] == [False, True, False, False, True, False]
    assert [r[0][1] for r in translate(loaded.model, loaded.tokenizer, texts, beams=2, batch=1)] == [
        r[0][1] for r in once
    ]
    back = translate(loaded.model, loaded.tokenizer, texts[::-1], beams=2)
    assert [r[0][1] for r in back[::-1]] == [r[0][1] for r in once]


def test_translate_verb_takes_texts_or_lines(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["translate", str(run), "six", "two hundred"]) == 0
    given = capsys.readouterr().out

    class Stdin:
        buffer = io.BytesIO(b"six\r\ntwo hundred\n")

    monkeypatch.setattr("sys.stdin", Stdin)
    assert main(["translate", str(run)]) == 0
    assert capsys.readouterr().out == given
    assert main(["translate", str(run), "six", "--nbest", "3"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 3
    scores = [float(score) for score, _ in rows]
    assert scores == sorted(scores, reverse=True)


def test_translations_come_as_they_are_made(run: Path) -> None:
    """In the order of the texts, which are read as they are needed: the same as all at once."""
    loaded = zoo.load(run)
    texts = ["two hundred", "", "one thousand one hundred fifty-five", "six", "  ", "ninety-nine"] * 9
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            for text in texts:
                read += 1
                yield text

    options: dict[str, Any] = {"beams": 1, "batch": 4, "length": 12}
    made = translations(loaded.model, loaded.tokenizer, endless(), **options)
    found = [next(made)]
    assert read == 4  # a batch
    while len(found) < len(texts):
        found.append(next(made))
        assert read <= 3 * len(found) + 4  # windows grow with what is done
    assert found == translate(loaded.model, loaded.tokenizer, texts, **options)


def test_texts_before_one_that_cannot_be_read_are_translated(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = zoo.load(run)
    monkeypatch.setattr(loaded.model.encoder.position, "longest", 8)
    texts = ["six", "", "ten", "one thousand " * 9, "two"]
    made = translations(loaded.model, loaded.tokenizer, texts, beams=1, batch=16, length=12)
    found = [next(made) for _ in range(3)]
    with pytest.raises(UserError, match="text 4"):
        next(made)
    assert found == translate(loaded.model, loaded.tokenizer, texts[:3], beams=1, batch=16, length=12)


def test_what_reads_a_part_of_the_translations_ends_them_quietly(run: Path) -> None:
    """And what was read comes in full, though there are far more texts."""
    command = f"timeout 100 {shlex.quote(sys.executable)} -m zoo translate {shlex.quote(str(run))} --beams 1"
    script = f"yes 'two hundred' | head -n 300000 | {command} --max-length 9 | head -n 50; echo ${{PIPESTATUS[2]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    *lines, code = done.stdout.splitlines()
    assert len(lines) == 50
    assert len({*lines}) == 1
    assert (code, done.stderr) == ("0", "")


def test_drawn_translations_are_seeded_and_many(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def drawn(seed: int) -> list[str]:
        options = ["--temperature", "2", "--top-k", "30", "--seed", str(seed), "--nbest", "4", "--max-length", "20"]
        assert main(["translate", str(run), "six", "one thousand two", *options]) == 0
        return capsys.readouterr().out.splitlines()

    assert len(drawn(1)) == 8
    assert drawn(1) == drawn(1) != drawn(2)
    assert len(set(drawn(1))) > 4
    assert not any("\t" in line for line in drawn(1))  # what is drawn has no scores
    once = ["translate", str(run), "six", "two hundred", "--temperature"]
    assert main([*once, "0"]) == main(["translate", str(run), "six", "two hundred", "--beams", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == lines[2:]


def test_what_is_drawn_of_a_text_hangs_on_no_batch(run: Path) -> None:
    """Equal texts are drawn apart, wherever they stand, and a text alike whatever stands beside it."""
    loaded, texts = zoo.load(run), ["six", "two hundred", "six", "one thousand two", "six"]

    def drawn(batch: int) -> list[list[str]]:
        found = translate(
            loaded.model, loaded.tokenizer, texts, nbest=2, batch=batch, length=20, sampling=Sampling(temperature=3.0)
        )
        return [[text for _, text in row] for row in found]

    together = drawn(5)
    assert len({text for row in together for text in row}) > 7
    assert drawn(1) == drawn(2) == together
    options = {"nbest": 2, "length": 20, "sampling": Sampling(temperature=3.0)}
    streamed = translations(loaded.model, loaded.tokenizer, texts, batch=2, **options)  # of several windows
    assert [[text for _, text in row] for row in streamed] == together


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_attention_is_drawn_for_every_sentence(run: Path, tmp_path: Path, ending: str) -> None:
    assert main(["translate", str(run), "six", "two hundred", "--attention", str(tmp_path / f"look.{ending}")]) == 0
    begins = {"png": b"\x89PNG", "svg": b"<?xml"}[ending]
    assert [p.read_bytes()[: len(begins)] for p in sorted(tmp_path.iterdir())] == [begins] * 2


def test_the_picture_shows_the_maps_of_what_was_written(run: Path) -> None:
    from zoo.core.record import record
    from zoo.text.attention import cross_attention

    loaded = zoo.load(run)
    looks = cross_attention(loaded.model, loaded.tokenizer, "one thousand two")
    source = torch.tensor([loaded.tokenizer.closed(loaded.tokenizer.encode("one thousand two"))])
    with record(loaded.model, which="cross") as steps:  # of one layer, one map for each token that is written
        loaded.model.generate(source, length=128)
    torch.testing.assert_close(looks.weights, torch.cat([step.weights[0].mean(0) for step in steps]))
    assert looks.weights.shape == (len(looks.written), len(looks.read))
    torch.testing.assert_close(looks.weights.sum(-1), torch.ones(len(looks.written)))
    assert looks.error < 1e-5
    written = translate(loaded.model, loaded.tokenizer, ["one thousand two"], beams=1)[0][0][1]
    assert "".join(looks.written[:-1]).replace("·", "") == written.replace(" ", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--attention", "picture.xyz"], "picture.xyz: cannot draw '.xyz'; .png, .svg and .pdf are known"),
        (["--attention", "p.png", "--layer", "7"], "layer 7 does not exist: the model has 1 cross attentions"),
        (["--top-p", "2"], "top_p (2.0) must be in (0, 1]"),
        (["--device", "gpuu"], "gpuu"),
        (["--beams", "0"], "--beams must be at least 1, got 0"),
        (["--prefix", "a\udcff"], "--prefix: not UTF-8"),
        (["--nbest", "5", "--beams", "2"], "--nbest (5) cannot exceed --beams (2)"),
        (["--length-penalty", "700"], "length_penalty (700.0) is too much for 128 tokens: 128 ** 700.0 must be below"),
        (["--length-penalty", "nan"], "length_penalty (nan) is too much for 128 tokens"),
        (["--beam", "2"], "unknown option --beam; did you mean '--beams'?"),
        (["--checkpoint", "none.ckpt"], "none.ckpt"),
    ],
)
def test_what_cannot_be_is_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["translate", str(run), "six", *options]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_folder_without_a_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("translate", "test", "validate", "predict"):
        assert main([verb, str(tmp_path / "none")]) == 2
        assert "none" in capsys.readouterr().err


def test_the_teacher_forced_loss_counts_real_tokens_alone(run: Path) -> None:
    """Loss of a padded batch = mean over its pairs' own tokens."""
    loaded = zoo.load(run)
    tokens = loaded.tokenizer
    texts = [("six", "seis"), ("two hundred", "doscientos")]
    pairs = [[tokens.closed(tokens.encode(text)) for text in pair] for pair in texts]
    task = Translation(loaded.model.encoder.config, loaded.model.decoder.config, tokens.vocab_size)
    task.network = loaded.model
    together = task.loss(collate([(0, *pairs[0]), (1, *pairs[1])]))
    alone = [task.loss(collate([(0, *pair)])) for pair in pairs]
    assert int(together.tokens) == sum(len(t) for _, t in pairs)
    torch.testing.assert_close(together.nll, sum(one.nll for one in alone))


def test_two_readings_of_a_batch_are_held_to_agree() -> None:
    """Each pair twice, in two draws of dropout: the loss of both, and how far apart they are. Only training does so."""
    torch.manual_seed(0)
    stack = StackConfig(dim=16, depth=1, heads=2, dropout=0.3)
    task = Translation(stack, stack.replace(causal=True, cross=True), 20, consistency=5.0)
    batch = collate([(0, [3, 4, 5, 2], [6, 7, 2]), (1, [8, 2], [9, 10, 11, 12, 2])])
    once = task.eval().loss(batch)
    assert once.tokens == 8
    task.train()
    torch.manual_seed(1)
    told = task.loss(batch)
    torch.manual_seed(1)
    source, keep = torch.cat([batch.source] * 2), torch.cat([batch.source_keep] * 2)
    target = shifted_right(torch.cat([batch.labels] * 2), 1)
    states, _ = task.network.hidden(source, target, keep, torch.cat([batch.keep] * 2))
    logits = task.network.head(states)
    assert told.tokens == len(logits) == 16
    labels = batch.labels[batch.keep].repeat(2)
    p, q = logits.log_softmax(-1).chunk(2)
    apart = sum(F.kl_div(a, b, reduction="sum", log_target=True) for a, b in ((p, q), (q, p)))
    assert apart > 0.1
    torch.testing.assert_close(told.loss, F.cross_entropy(logits, labels, reduction="sum") + 5 * apart / 2)


def test_texts_are_no_longer_than_either_side_can_place() -> None:
    sides = [StackConfig(dim=8, depth=1, heads=2, position=Learned(length)) for length in (16, 9)]
    task = Translation(sides[0], sides[1].replace(causal=True, cross=True), 300)
    check_reach(task, Numbers(train=20, val=2, test=2, limit=100, vocab_size=300, max_length=9))
    with pytest.raises(UserError, match=r"data.max_length is 10, the model has positions for 9 tokens: give .* 9"):
        check_reach(task, Numbers(train=20, val=2, test=2, limit=100, vocab_size=300, max_length=10))


def test_a_length_penalty_beyond_numbers_is_refused_as_the_task_is_made() -> None:
    stack = StackConfig(dim=16, depth=1, heads=2)
    with pytest.raises(ValueError, match=r"length_penalty \(20.0\) is too much for 96 tokens"):
        Translation(stack, stack.replace(causal=True, cross=True), 20, length_penalty=20.0)
