"""Seq2Seq: shapes, settings, ties, padding; generation in batches is generation one by one."""

import json

import pytest
import torch

from zoo.core import LSTM, Layout, Learned, Rotary, Sinusoidal, StackConfig
from zoo.core.decode import Sampling
from zoo.errors import UserError
from zoo.text import Seq2Seq

ENCODER = StackConfig(dim=16, depth=1, heads=2, position=Sinusoidal())
DECODER = ENCODER.replace(causal=True, cross=True)


def model(**changes: object) -> Seq2Seq:
    torch.manual_seed(0)
    return Seq2Seq(ENCODER, DECODER, 20, **changes).eval()


def sources() -> tuple[torch.Tensor, torch.Tensor]:
    keep = torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [True] + [False] * 4])
    return torch.randint(4, 20, (3, 5)) * keep, keep


def test_logits_are_a_row_for_every_position_and_zero_at_padding() -> None:
    source, keep = sources()
    target_keep = torch.tensor([[True] * 4, [True, True, False, False], [True, False, False, False]])
    logits = model()(source, torch.randint(4, 20, (3, 4)), keep, target_keep)
    assert logits.shape == (3, 4, 20)
    assert logits[~target_keep].abs().sum() == 0
    assert (logits[target_keep].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("shared", [True, False])
def test_both_sides_at_once_are_one_after_the_other(shared: bool) -> None:
    """And a table that they share is looked into once."""
    network, (source, keep) = model(share_embeddings=shared, embed_scale=True, head_scale=True), sources()
    target, target_keep = torch.randint(4, 20, (3, 4)), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    context, reading = network.encode(source, keep)
    layout = Layout.from_keep(target_keep)
    expected = network.decode(target[target_keep], layout, context, reading)
    looks: list[int] = []
    for table in {network.source_embedding, network.target_embedding}:
        table.register_forward_hook(lambda *given: looks.append(len(given[1][0])))
    states, _ = network.hidden(source, target, keep, target_keep)
    torch.testing.assert_close(states, expected)
    assert sorted(looks) == ([16] if shared else [7, 9])


def test_plain_values_and_back() -> None:
    first = model(head_bias=True, tied=False)
    plain = json.loads(json.dumps(first.to_plain()))
    second = Seq2Seq.from_plain(plain)
    assert second.to_plain() == first.to_plain()
    assert {n: p.shape for n, p in second.state_dict().items()} == {n: p.shape for n, p in first.state_dict().items()}


def test_what_is_shared_is_one_tensor() -> None:
    shared = model()
    assert shared.head.weight is shared.target_embedding.weight is shared.source_embedding.weight
    apart = model(tied=False, share_embeddings=False, source_vocab_size=11)
    assert apart.head.weight is not apart.target_embedding.weight
    assert apart.source_embedding.weight.shape == (11, 16)


def test_a_scaled_head_divides_the_logits_and_all_that_follows() -> None:
    plain, scaled = model(), model(head_scale=True)
    source, keep = sources()
    target = torch.randint(4, 20, (3, 4))
    torch.testing.assert_close(scaled(source, target, keep), plain(source, target, keep) / 4)  # sqrt(16)
    states, _ = scaled.hidden(source, target, keep)  # what a loss maps to logits
    torch.testing.assert_close(scaled.head(states), scaled(source, target, keep).flatten(0, 1))
    found = scaled.generate(source, keep, length=5, beams=2)
    row = found[0][0]
    inputs = torch.tensor([[scaled.start, *row.tokens]])
    share = scaled(source[:1], inputs).detach().log_softmax(-1)[0]
    written = [*row.tokens, scaled.end][:5]
    log_prob = sum(float(share[place, token]) for place, token in enumerate(written))
    assert row.log_prob == pytest.approx(log_prob, abs=1e-4)


def test_a_constraint_reaches_both_ways_of_writing() -> None:
    net, (source, keep) = model(tied=False), sources()

    def even(tokens: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores.masked_fill(torch.arange(20) % 2 == 1, float("-inf"))

    for beams in (1, 3):
        for (found,) in net.generate(source, keep, length=6, beams=beams, constraint=even):
            assert all(token % 2 == 0 for token in found.tokens)


@pytest.mark.parametrize(
    ("encoder", "decoder", "options", "message"),
    [
        (ENCODER.replace(causal=True), DECODER, {}, "neither causal nor cross"),
        (ENCODER, DECODER.replace(causal=False), {}, "set causal and cross"),
        (ENCODER, DECODER.replace(cross=False), {}, "set causal and cross"),
        (ENCODER.replace(dim=32), DECODER, {}, "must have the same dim"),
        (ENCODER, DECODER, {"source_vocab_size": 9}, "one vocabulary, got 9 and 20"),
    ],
)
def test_stacks_that_do_not_fit_are_refused(encoder, decoder, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Seq2Seq(encoder, decoder, 20, **options)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("mixer", ["attention", "lstm"])
def test_a_batch_is_its_sentences_one_by_one(mixer: str, beams: int) -> None:
    torch.manual_seed(0)
    changes = {"mixer": LSTM()} if mixer == "lstm" else {"position": Rotary()}
    net = Seq2Seq(ENCODER.replace(**changes), DECODER.replace(**changes), 20, tied=False).eval()
    source, keep = sources()
    together = net.generate(source, keep, length=7, beams=beams, nbest=beams)
    for row in range(3):
        alone = net.generate(source[row][keep[row]][None], length=7, beams=beams, nbest=beams)
        assert [h.tokens for h in alone[0]] == [h.tokens for h in together[row]]


def test_padding_may_stand_on_either_side() -> None:
    net, (source, keep) = model(tied=False), sources()
    left, left_keep = torch.zeros_like(source), torch.zeros_like(keep)
    for row in range(3):
        count = int(keep[row].sum())
        left[row, 5 - count :], left_keep[row, 5 - count :] = source[row, :count], True
    right = net.generate(source, keep, length=6, beams=3, nbest=3)
    assert net.generate(left, left_keep, length=6, beams=3, nbest=3) == right


def test_greedy_generation_is_what_teacher_forcing_prefers() -> None:
    """What is written from the cache is what one pass over it scores highest, token by token."""
    net, (source, keep) = model(tied=False), sources()
    for row, (written,) in enumerate(net.generate(source, keep, length=6)):
        inputs = torch.tensor([[net.start, *written.tokens[:-1]]])
        best = net(source[row][keep[row]][None], inputs).argmax(-1)[0]
        assert best.tolist() == written.tokens


def test_sampling_is_seeded() -> None:
    net, (source, keep) = model(tied=False), sources()

    def draw(seed: int) -> list[list[int]]:
        found = net.generate(source, keep, length=12, sampling=Sampling(temperature=1.5, seed=seed))
        return [row[0].tokens for row in found]

    assert draw(1) == draw(1) != draw(2)


def test_a_text_longer_than_the_position_table_is_named() -> None:
    from zoo.text.tokens import Tokenizer
    from zoo.text.translate import translate

    stack = ENCODER.replace(position=Learned(6))
    net = Seq2Seq(stack, stack.replace(causal=True, cross=True), 270, tied=False).eval()
    tokens = Tokenizer.train(["a"], 270)
    assert len(translate(net, tokens, ["abc", "ab"], length=50)) == 2  # writing ends with the table
    with pytest.raises(UserError, match="text 2: 10 tokens, this model reads at most 6"):
        translate(net, tokens, ["abc", "abcdefghi"])
    with pytest.raises(UserError, match="reaches position 9, the position table has 6 rows"):
        net(torch.ones(1, 10, dtype=torch.long), torch.ones(1, 3, dtype=torch.long))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": 0}, r"beams \(0\) and length \(7\) must be at least 1"),
        ({"length": 0}, r"length \(0\) must be at least 1"),
        ({"nbest": 3}, r"nbest \(3\) must be between 1 and beams \(1\)"),
        ({"beams": 2, "nbest": 3}, r"nbest \(3\) must be between 1 and beams \(2\)"),
        ({"beams": 4, "sampling": Sampling(seed=1)}, "4 beams search and do not draw"),
    ],
)
def test_ways_of_writing_that_do_not_go_together_are_refused(options: dict, message: str) -> None:
    source, keep = sources()
    with pytest.raises(ValueError, match=message):
        model().generate(source, keep, **({"length": 7} | options))
