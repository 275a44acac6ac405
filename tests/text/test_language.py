"""Language models: windows in an order that (seed, epoch) decides, every token once; the model, its loss, its text."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml

import zoo
from tests.test_traps import QUIET
from zoo.cli import main
from zoo.core import ALiBi, Learned, Rotary, Skewed, StackConfig
from zoo.core.decode import Sampling
from zoo.data.files import read_text
from zoo.errors import UserError
from zoo.text import CausalLM
from zoo.text.corpus import Corpus, WindowSampler
from zoo.text.language import LanguageModel
from zoo.text.opening import AnyTokenizer
from zoo.text.tokens import Tokenizer

STACK = StackConfig(dim=16, depth=2, heads=2, causal=True, position=Rotary())


def model(**changes: object) -> CausalLM:
    torch.manual_seed(0)
    return CausalLM(STACK.replace(**changes), 30, tied=False).eval()


@pytest.mark.parametrize(("tokens", "length", "batch"), [(1000, 16, 4), (200, 64, 3), (70, 64, 1)])
def test_windows_lie_in_the_text_and_do_not_overlap(tokens: int, length: int, batch: int) -> None:
    sampler = WindowSampler(tokens, length, batch, seed=1)
    for epoch in range(5):
        begins = sorted(b for part in sampler.batches(epoch) for b in part)
        assert len(sampler.batches(epoch)) == len(sampler)
        assert begins[0] >= 0
        assert begins[-1] + length < tokens
        assert all(b - a >= length for a, b in pairwise(begins))
    if tokens == 1000:
        assert sampler.batches(0) != sampler.batches(1)
        assert sampler.batches(0) == WindowSampler(tokens, length, batch, seed=1).batches(0)
        sampler.skip = 3
        assert list(sampler) == [[(0, begin) for begin in part] for part in sampler.batches(0)[3:]]
        halves = [WindowSampler(tokens, length, batch, seed=1, rank=r, world=2).batches(0) for r in (0, 1)]
        assert [b for pair in zip(*halves, strict=True) for b in pair] == sampler.batches(0)[: 2 * len(halves[0])]


def corpus(tmp_path: Path, **settings: object) -> Corpus:
    path = tmp_path / "text.txt"
    path.write_text("to be, or not to be: that is the question.\n" * 40)
    return Corpus(path, **({"tokens": "characters", "length": 30, "batch": 4} | settings))


def test_validation_predicts_every_token_once(tmp_path: Path) -> None:
    data = corpus(tmp_path)
    ids = data.part("val")[:].tolist()
    labels = torch.cat([batch.labels.flatten() for batch in data.val_dataloader()])
    assert labels[labels >= 0].tolist() == ids[1:]


def test_labels_are_the_tokens_after(tmp_path: Path) -> None:
    data = corpus(tmp_path)
    for batch in data.train_dataloader():
        assert torch.equal(batch.ids[:, 1:], batch.labels[:, :-1])
        assert batch.ids.shape == (4, 30)


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name in "bac":
        (tmp_path / f"{name}.txt").write_text(name * 50)
    data = Corpus(tmp_path, tokens="characters", length=4, batch=1)
    assert data.tokenizer.decode(data.part("train")[:].tolist()).startswith("a" * 50 + "\n" + "b" * 50)
    with pytest.raises(UserError, match=r"no \.txt file here"):
        Corpus(_empty(tmp_path))


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_too_little_text_is_said(tmp_path: Path) -> None:
    data = corpus(tmp_path, length=500)
    with pytest.raises(UserError, match="the val part has 172 tokens: too few for one window of length 500"):
        data.val_dataloader()


@pytest.mark.parametrize("tokens", ["characters", "bpe"])
def test_every_text_of_the_corpus_comes_back(tmp_path: Path, tokens: str) -> None:
    data = corpus(tmp_path, tokens=tokens, vocab_size=270)
    found = [data.tokenizer.decode(data.part(split)[:].tolist()) for split in ("train", "val")]
    assert "".join(found) == read_text(tmp_path / "text.txt")
    assert len(found[1]) == 172


def test_a_character_without_a_token_is_named() -> None:
    tokens = Tokenizer.characters("abc \n")
    assert tokens.decode(tokens.encode("cab\nb")) == "cab\nb"
    with pytest.raises(UserError, match="knows no 'x', 'ä'"):
        tokens.encode("aäx")


def test_logits_at_padding_are_zero_and_rows_are_independent() -> None:
    net, ids = model(), torch.randint(4, 30, (2, 5))
    keep = torch.tensor([[True] * 5, [False, False, True, True, True]])
    logits = net(ids, keep)
    assert logits[~keep].abs().sum() == 0
    torch.testing.assert_close(logits[1:, 2:], net(ids[1:, 2:]))


@pytest.mark.parametrize("position", [Rotary(), Learned(40), ALiBi()], ids=lambda p: type(p).__name__)
def test_what_is_written_is_what_one_pass_prefers(position) -> None:
    """Greedy text from the cache, in a batch of prompts padded on the left, is the argmax of the model without one."""
    net = model(position=position)
    prompts = torch.randint(4, 30, (3, 6))
    keep = torch.tensor([[True] * 6, [False] * 2 + [True] * 4, [False] * 5 + [True]])
    written = net.generate(prompts, keep, length=8)
    for row in range(3):
        whole = torch.cat((prompts[row][keep[row]], written[row]))[None]
        best = net(whole[:, :-1]).argmax(-1)[0, -8:]
        assert best.tolist() == written[row].tolist()


def test_what_is_written_can_be_trained_on() -> None:
    """It is written without gradients, and handed out as tensors that a loss may keep."""
    net = model().train()
    prompts = torch.randint(4, 30, (2, 3))
    written = net.generate(prompts, length=5)
    assert not any(tokens.is_inference() for tokens in net.stream(prompts, length=2))
    net(torch.cat((prompts, written), 1)).sum().backward()
    assert net.embedding.weight.grad is not None
    inside = [torch.is_inference_mode_enabled() for _ in net.stream(prompts, length=2)]
    assert inside == [False, False]  # what asks for tokens is not put into the mode they are written in


def test_a_constraint_and_a_seed_are_kept() -> None:
    net, prompt = model(), torch.tensor([[5, 6]])

    def even(tokens: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores.masked_fill(torch.arange(30) % 2 == 1, float("-inf"))

    sampling = Sampling(seed=3)
    drawn = net.generate(prompt, length=30, sampling=sampling, constraint=even)
    assert (drawn % 2 == 0).all()
    assert torch.equal(drawn, net.generate(prompt, length=30, sampling=sampling, constraint=even))
    assert not torch.equal(drawn, net.generate(prompt, length=30, sampling=Sampling(seed=4), constraint=even))


def test_what_is_written_last_needs_no_place_and_padding_takes_none() -> None:
    net = model(position=Learned(8))
    prompt = torch.tensor([[5, 6, 7, 8, 9]])
    assert net.generate(prompt, length=4).shape == (1, 4)
    padded, keep = torch.cat((torch.zeros(1, 9, dtype=torch.long), prompt), 1), torch.arange(14).unsqueeze(0) >= 9
    assert torch.equal(net.generate(padded, keep, length=4), net.generate(prompt, length=4))
    assert net.generate(prompt, length=0).shape == (1, 0)
    with pytest.raises(UserError, match="5 tokens of prompt and 5 to write: the model can place 8"):
        model(position=Skewed(4, absolute=Learned(8))).generate(prompt, length=5)


def test_more_than_the_model_can_place_is_said() -> None:
    with pytest.raises(UserError, match="2 tokens of prompt and 10 to write: the model can place 8"):
        model(position=Learned(8)).generate(torch.tensor([[5, 6]]), length=10)


def test_stacks_that_do_not_fit_are_refused() -> None:
    for wrong in ({"causal": False}, {"cross": True}):
        with pytest.raises(ValueError, match="set causal, and leave cross unset"):
            CausalLM(STACK.replace(**wrong), 30)


def test_from_a_text_to_a_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Train on one sentence again and again: the model goes on with it."""
    data = corpus(tmp_path)
    plain = {
        "model": {
            "class_path": "LanguageModel",
            "init_args": {
                "stack": {"dim": 32, "depth": 2, "heads": 2, "causal": True, "position": "Rotary"},
                "optimizer": {"class_path": "AdamW", "init_args": {"lr": 0.01}},
            },
        },
        "data": {
            "class_path": "Corpus",
            "init_args": {"path": str(tmp_path / "text.txt"), "tokens": "characters", "length": 60, "batch": 4},
        },
        "trainer": {"accelerator": "cpu", "max_epochs": 100},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(plain))
    run = str(tmp_path / "run")
    assert main(["fit", "--config", str(tmp_path / "c.yaml"), "--run", run, *QUIET]) == 0
    capsys.readouterr()
    assert main(["test", run]) == 0
    said = dict(line.split(": ") for line in capsys.readouterr().out.strip().splitlines())
    assert float(said["nll"]) < 0.1 < math.log(data.vocab_size)
    assert float(said["perplexity"]) == pytest.approx(math.exp(float(said["nll"])))
    assert float(said["bits_per_byte"]) == pytest.approx(float(said["nll"]) / math.log(2))  # a byte a character
    assert main(["generate", run, "--prompt", "to be, or", "--length", "20", "--temperature", "0"]) == 0
    assert capsys.readouterr().out.startswith("to be, or not to be: that is")
    assert zoo.load(run).config["kind"] == "CausalLM"
    assert main(["generate", run, "--prompt", "ä"]) == 2
    assert "knows no 'ä'" in capsys.readouterr().err
    assert main(["translate", run, "a"]) == 2
    assert "CausalLM, which does not translate" in capsys.readouterr().err


@pytest.mark.parametrize("documents", ["running", "lines"])
@pytest.mark.parametrize("tokens", ["characters", "bpe", "words"])
def test_bits_a_byte_are_those_of_the_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tokens: str, documents: str
) -> None:
    """Of a model to which all tokens are alike: what each costs is known, and so are the bytes of the held-out text."""
    path = tmp_path / "text.txt"
    path.write_text("".join(f"naïve café ☃ number {number}\n" for number in range(300)))
    settings: Any = {"tokens": tokens, "documents": documents, "length": 30, "vocab_size": 290, "batch": 4}
    data = Corpus(path, **settings)
    task = LanguageModel(STACK, data.vocab_size, start=data.start, end=data.end, tied=False)
    torch.nn.init.zeros_(task.network.head.weight)
    quiet: Any = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    L.Trainer(accelerator="cpu", default_root_dir=tmp_path, **quiet).test(task, data, verbose=False)
    said = json.loads((tmp_path / "test.json").read_text())
    assert said["nll"] == pytest.approx(math.log(data.vocab_size), rel=1e-5)
    if tokens == "words":  # of which no text comes back
        assert "bits_per_byte" not in said
        return
    ids = data.part("test")[:].tolist()
    text = data.tokenizer.decode(ids)
    assert sum(data.tokenizer.sizes[i] for i in ids) == len(text.encode())
    assert text.replace("\n", "") in path.read_text().replace("\n", "")
    first = len(data.tokenizer.decode(ids[:1]).encode())  # it is read, and not predicted
    predicted = len(ids) - (1 if documents == "running" else ids.count(data.tokenizer.start))
    expected = predicted * math.log2(data.vocab_size) / (len(text.encode()) - first)
    assert said["bits_per_byte"] == pytest.approx(expected, rel=1e-5)


def test_bytes_of_tokens_that_were_published(tmp_path: Path) -> None:
    """Known of bytes that stand for themselves; not where a text is changed before it is cut."""
    from tests.weights.test_published_tokens import bert, gpt2, llama

    for make, known in ((gpt2, True), (bert, False), (llama, False)):
        make().save_pretrained(tmp_path / make.__name__)
        tokens, text = AnyTokenizer.load(tmp_path / make.__name__ / "tokenizer.json"), " The naïve ☃  sat\n"
        assert (tokens.sizes is not None) == known
        if tokens.sizes is not None:
            assert sum(tokens.sizes[i] for i in tokens.pieces([text])[0]) == len(text.encode())
        if make is gpt2:  # tokens that were added without being special are text: runs of spaces, of a code model
            tokens.bpe.add_tokens(["    ", "naïve"])
            assert tokens.sizes is not None
            assert sum(tokens.sizes[i] for i in tokens.pieces([f"    {text}"])[0]) == len(f"    {text}".encode())
    assert Tokenizer.train(["A cat"], 300, lowercase=True).sizes is None


def test_an_empty_prompt_is_not_its_neighbours() -> None:
    with pytest.raises(UserError, match="the prompt is empty"):
        model().generate(torch.tensor([[5, 6], [5, 6]]), torch.tensor([[True, True], [False, False]]), length=2)
    with pytest.raises(UserError, match="the prompt is empty"):
        model().generate(torch.zeros(2, 0, dtype=torch.long), length=2)


def test_an_exported_model_takes_texts_of_any_number_and_length() -> None:
    net = model()
    number, length = torch.export.Dim("number", min=2, max=16), torch.export.Dim("length", min=2, max=8)
    few = torch.randint(0, 30, (2, 5))
    exported = torch.export.export(net, (few,), dynamic_shapes=({0: number, 1: length},))
    for ids in (few, torch.randint(0, 30, (3, 8))):
        torch.testing.assert_close(exported.module()(ids), net(ids), rtol=1e-4, atol=1e-5)
