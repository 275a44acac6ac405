"""Going on with a text: what stands before it, how much is written, in which pieces it is shown."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import processors

from tests.test_bad_input import one_line
from tests.weights.test_published_tokens import bert, gpt2, llama
from zoo.cli import main
from zoo.core import Learned, Rotary, StackConfig
from zoo.core.decode import Sampling
from zoo.errors import UserError
from zoo.text import CausalLM
from zoo.text.generate import generate, pieces, prompt_of, start_of
from zoo.text.published import PublishedTokenizer
from zoo.text.tokens import Tokenizer
from zoo.weights.folders import write
from zoo.weights.load import Loaded

STACK = StackConfig(dim=16, depth=1, heads=2, causal=True, position=Rotary())
OWN = Tokenizer.train(["the cat sat on the mat, naïve ☃"] * 3, 280)


def model(tokens: Tokenizer, **settings: object) -> CausalLM:
    torch.manual_seed(0)
    stack = STACK.replace(position=settings.pop("position", Rotary()))
    return CausalLM(stack, tokens.vocab_size, tied=False, **settings).eval()  # type: ignore[arg-type]


def opened(made: object, folder: Path) -> PublishedTokenizer:
    made.save_pretrained(folder)  # type: ignore[attr-defined]
    return PublishedTokenizer.load(folder / "tokenizer.json")


def test_a_prompt_begins_once(tmp_path: Path) -> None:
    """A published tokenizer begins a text itself, and a model that was tuned on documents knows by what they begin."""
    tokens = opened(llama(), tmp_path)
    ids = tokens.encode("the")
    assert ids[0] == tokens.start == 1
    assert ids.count(1) == 1
    for start in (1, None):
        assert prompt_of(model(tokens, start=start), tokens, "the") == ids
    # ours, and GPT-2's, begin nothing
    assert prompt_of(model(OWN, start=OWN.start), OWN, "the") == [OWN.start, *OWN.encode("the")]
    assert prompt_of(model(OWN), OWN, "the") == OWN.encode("the")


def test_a_prompt_is_not_ended(tmp_path: Path) -> None:
    """Where a tokenizer ends every text: what follows an end is another text."""
    tokens = opened(llama(), tmp_path)
    around = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    tokens.bpe.post_processor = around
    assert tokens.encode("the")[-1] == tokens.end == 2
    assert prompt_of(model(tokens), tokens, "the") == tokens.encode("the")[:-1]


def test_an_empty_prompt_is_what_texts_begin_with(tmp_path: Path) -> None:
    tokens = opened(gpt2(), tmp_path)
    assert tokens.encode("") == []
    assert prompt_of(model(tokens), tokens, "") == [tokens.start] == [0]
    assert start_of(model(OWN), OWN) is None  # its <s> was never seen in running text
    with pytest.raises(UserError, match="it is empty: give it at least one character"):
        prompt_of(model(OWN), OWN, "")
    assert prompt_of(model(OWN, start=1), OWN, "") == [1]


def test_a_token_beyond_the_table_is_said() -> None:
    short = CausalLM(STACK, 100)
    with pytest.raises(UserError, match=r"comes to token 2\d\d, this model knows 100 tokens"):
        prompt_of(short, OWN, "the")


def test_as_many_as_the_model_can_place() -> None:
    net = model(OWN, position=Learned(20))
    ids = prompt_of(net, OWN, "the cat")
    sampling = Sampling(seed=1)
    assert sum(1 for _ in generate(net, OWN, "the cat", sampling=sampling)) == 20 - len(ids) + 1  # and what is left
    for longer in ({}, {"position": Learned(600)}):
        assert sum(1 for _ in generate(model(OWN, **longer), OWN, "the cat", sampling=sampling)) == 501
    with pytest.raises(UserError, match="the model can place 20"):
        list(generate(net, OWN, "the cat", length=20))
    with pytest.raises(UserError, match="1 to write: the model can place 20"):
        list(generate(net, OWN, "☃☃☃☃☃☃☃ xyzxyz"))


class Counting:
    """A tokenizer that keeps how many tokens it was given to decode."""

    def __init__(self, inner: Tokenizer):
        self.inner, self.vocab_size, self.counts = inner, inner.vocab_size, list[int]()

    def encode(self, text: str) -> list[int]:
        return self.inner.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        self.counts.append(len(ids))
        return self.inner.decode(ids)


@pytest.mark.parametrize("name", ["own", "words", "gpt2", "llama", "bert"])
@pytest.mark.parametrize("seed", range(5))
def test_pieces_are_the_text(name: str, seed: int, tmp_path: Path) -> None:
    """Of any tokens, half characters and special ones among them, and the prompt is decoded once."""
    words = Tokenizer.words(["the cat sat"] * 2, 100)
    made = {"gpt2": gpt2, "llama": llama, "bert": bert}
    tokens = opened(made[name](), tmp_path) if name in made else {"own": OWN, "words": words}[name]
    prompt = tokens.encode("the cat " * 20)
    draw = torch.Generator().manual_seed(seed)
    written = torch.randint(tokens.vocab_size, (200,), generator=draw).tolist()
    if name == "llama":  # whose bytes stand for themselves where all of a run are UTF-8, and for nothing where not
        snow = [tokens.id_of(f"<0x{byte:02X}>") for byte in "☃".encode()]
        written = [token for i in written for token in (snow if i >= 12 else [i])]
    counting = Counting(tokens)
    found = list(pieces(counting, prompt, iter(written)))
    whole, before = tokens.decode([*prompt, *written]), tokens.decode(prompt)
    assert whole.startswith(before)
    assert "".join(found) == whole[len(before) :]
    assert len(found) == len(written) + 1 > 150
    assert not any(piece.endswith("\ufffd") for piece in found[:-1])  # no half characters are shown
    assert sum(count >= len(prompt) for count in counting.counts) <= 20


@pytest.mark.parametrize(
    "options",
    [{"seed": 1}, {"temperature": 0.01}, {"top_k": 2}, {"top_p": 0.05}, {"min_p": 0.95}],
    ids=str,
)
def test_the_verb_draws_as_it_is_told(
    options: dict[str, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own").mkdir()
    OWN.save(tmp_path / "own")
    write(Loaded(model(OWN), OWN, {"kind": "CausalLM"}), tmp_path / "m", tmp_path / "own")
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    assert main(["generate", str(tmp_path / "m"), "--prompt", "the", "--length", "30", *words]) == 0
    plain, told = (
        "".join(generate(model(OWN), OWN, "the", length=30, sampling=Sampling(**({"temperature": 0.8} | said))))
        for said in ({}, options)
    )
    assert capsys.readouterr().out == f"the{told}\n" != f"the{plain}\n"


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own").mkdir()
    OWN.save(tmp_path / "own")
    write(Loaded(model(OWN, position=Learned(20)), OWN, {"kind": "CausalLM"}), tmp_path / "m", tmp_path / "own")
    given = ["generate", str(tmp_path / "m"), "--temperature", "0"]
    assert main([*given, "--prompt", "the cat"]) == 0
    expected = "".join(generate(model(OWN, position=Learned(20)), OWN, "the cat"))
    assert capsys.readouterr().out == f"the cat{expected}\n"
    assert main(given) == 0
    assert capsys.readouterr().out.startswith("\n")
    assert "--prompt: it is empty" in one_line(capsys, main([*given, "--prompt", ""]))
    assert "--prompt: not UTF-8" in one_line(capsys, main([*given, "--prompt", "a\udcff"]))
    assert "--length must be at least 1" in one_line(capsys, main([*given, "--length", "0"]))
