"""MaskedLM and TextClassifier: against transformers' BERT, pooling, segments, what is shared, padding."""

import json

import pytest
import torch

from zoo.core import (
    First,
    Last,
    LayerNorm,
    Layout,
    Learned,
    LearnedQuery,
    Max,
    Mean,
    NoNorm,
    Plain,
    Pool,
    Pooler,
    Rotary,
    StackConfig,
    Standardised,
)
from zoo.data.corruption import IGNORED, mask_tokens
from zoo.text import MaskedLM, TextClassifier
from zoo.train.losses import token_loss

STACK = StackConfig(dim=24, depth=2, heads=4, position=Rotary())
BERT = StackConfig(
    dim=24,
    depth=2,
    heads=4,
    position=Learned(20),
    norm=LayerNorm(1e-12),
    norm_order="post",
    embed_norm=LayerNorm(1e-12),
    final_norm=NoNorm(),
    ffn=Plain("gelu", 40),
)


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    keep = torch.tensor([[True] * 7, [True] * 4 + [False] * 3, [False] * 2 + [True] * 5])
    return torch.randint(4, 50, (3, 7)), keep


def stirred(net: torch.nn.Module) -> torch.nn.Module:
    """Every parameter away from its first value, so that each one matters."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return net.eval()


def bert_names(reference: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers' BERT in the names of ours."""
    ours = {}
    plain = {
        "bert.embeddings.word_embeddings.": "trunk.embedding.",
        "bert.embeddings.token_type_embeddings.": "trunk.segments.embedding.",
        "bert.embeddings.position_embeddings.": "trunk.stack.position.table.",
        "bert.embeddings.LayerNorm.": "trunk.stack.embed_norm.",
        "cls.predictions.transform.dense.": "head.dense.",
        "cls.predictions.transform.LayerNorm.": "head.norm.",
        "bert.pooler.dense.": "pool.dense.",
        "classifier.": "head.",
    }
    for layer in range(2):
        theirs, own = f"bert.encoder.layer.{layer}.", f"trunk.stack.blocks.{layer}."
        plain |= {
            f"{theirs}attention.output.dense.": f"{own}mixer.branch.to_out.",
            f"{theirs}attention.output.LayerNorm.": f"{own}mixer.after.",
            f"{theirs}intermediate.dense.": f"{own}ffn.branch.up.",
            f"{theirs}output.dense.": f"{own}ffn.branch.down.",
            f"{theirs}output.LayerNorm.": f"{own}ffn.after.",
        }
        for kind in ("weight", "bias"):
            parts = [reference[f"{theirs}attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
            ours[f"{own}mixer.branch.to_qkv.{kind}"] = torch.cat(parts)
    for name, value in reference.items():
        for prefix, own in plain.items():
            if name.startswith(prefix):
                ours[own + name.removeprefix(prefix)] = value
    if "cls.predictions.bias" in reference:
        ours |= {"head.out.bias": reference["cls.predictions.bias"], "head.out.weight": ours["trunk.embedding.weight"]}
    return ours


def test_bert_and_its_gradients_are_those_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=20,
    )
    reference = stirred(transformers.BertForMaskedLM(config)).double()
    net = MaskedLM(BERT, 50, types=2).double().eval()
    net.load_state_dict(bert_names(reference.state_dict()))
    ids, keep = rows()
    keep[2] = True  # transformers counts padding on the left as positions
    types = torch.randint(0, 2, ids.shape)
    labels = torch.where(keep & (torch.rand(ids.shape) < 0.5), ids, IGNORED)
    theirs = reference(ids, attention_mask=keep.long(), token_type_ids=types, labels=labels)
    torch.testing.assert_close(net(ids, keep, types)[keep], theirs.logits[keep], rtol=1e-9, atol=1e-9)
    assert (net(ids, keep)[keep] - theirs.logits[keep]).abs().max() > 0.01  # segments matter
    theirs.loss.backward()
    states, layout = net.hidden(ids, keep, types)
    chosen = layout.take(labels, keep)
    out = token_loss(net.head.features(states), net.head.out.weight, chosen, net.head.out.bias)
    (out.loss / out.tokens).backward()
    wanted = bert_names({name: p.grad for name, p in reference.named_parameters() if p.grad is not None})
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-8, atol=1e-10, msg=name)


def test_berts_classifier_is_that_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=20,
        num_labels=3,
    )
    reference = stirred(transformers.BertForSequenceClassification(config)).double()
    net = TextClassifier(BERT, 50, 3, types=2, pool=Pooler(), dropout=0.1).double().eval()
    net.load_state_dict(bert_names(reference.state_dict()))
    ids, keep = rows()
    keep[2] = True
    wanted = reference(ids, attention_mask=keep.long()).logits
    torch.testing.assert_close(net(ids, keep), wanted, rtol=1e-9, atol=1e-9)
    other = TextClassifier(BERT, 50, 3, types=2, pool=First()).double().eval()
    other.load_state_dict(net.state_dict(), strict=False)
    assert (other(ids, keep) - wanted).abs().max() > 0.01


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_on_hidden_positions_alone_is_the_whole_heads(tied: bool) -> None:
    """Loss and gradients do not change where nothing is hidden and the head is not asked."""
    net = stirred(MaskedLM(STACK, 50, tied=tied)).double()
    ids, keep = rows()
    masked = mask_tokens(ids, keep, mask=3, random=(4, 50), rate=0.4)
    logits = net(masked.ids, keep)
    whole = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), masked.labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    wanted = torch.autograd.grad(whole, list(net.parameters()), allow_unused=True)
    states, layout = net.hidden(masked.ids, keep)
    labels = layout.take(masked.labels, keep)
    chosen = labels != IGNORED
    assert 0 < int(chosen.sum()) < len(labels)
    head = net.head
    out = token_loss(head.features(states[chosen]), head.out.weight, labels[chosen], head.out.bias)
    torch.testing.assert_close(out.loss, whole)
    found = torch.autograd.grad(out.loss, list(net.parameters()), allow_unused=True)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "pool", [First(), Mean(), Max(), Pooler(), LearnedQuery()], ids=lambda pool: type(pool).__name__
)
def test_a_batch_is_its_texts_one_by_one(pool: Pool) -> None:
    net = stirred(TextClassifier(STACK, 50, 3, pool=pool)).double()
    ids, keep = rows()
    together = net(ids, keep)
    for row, real in enumerate(keep):
        torch.testing.assert_close(net(ids[row][real][None])[0], together[row])
    ids[~keep] = 0
    assert torch.equal(net(ids, keep), together)  # what stands at padding changes no bit


def test_pools() -> None:
    keep = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    layout = Layout.from_keep(keep)
    two = StackConfig(dim=2, depth=1, heads=1)
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 9.0], [7.0, 8.0]])
    assert First().build(two)(x, layout).tolist() == [[1, 2], [7, 8], [0, 0]]
    assert Mean().build(two)(x, layout).tolist() == [[3, 5], [7, 8], [0, 0]]
    assert Max().build(two)(-x, layout).tolist() == [[-1, -2], [-7, -8], [0, 0]]
    dense = Layout.dense(2, 2)
    assert Max().build(two)(x, dense).tolist() == [[3, 4], [7, 9]]
    assert First().build(two)(x, dense).tolist() == [[1, 2], [5, 9]]
    assert Mean().build(two)(x, dense).tolist() == [[2, 3], [6, 8.5]]
    pooler = Pooler().build(two)
    torch.testing.assert_close(pooler(x, dense), torch.tanh(pooler.dense(x[[0, 2]])))
    looked = LearnedQuery().build(two)(x, layout)
    assert looked.isfinite().all()
    nothing, empty = Layout.from_keep(torch.zeros(2, 3, dtype=torch.bool)), torch.empty(0, 2)
    for pool in (First(), Last(), Mean(), Max()):
        assert pool.build(two)(empty, nothing).tolist() == [[0, 0], [0, 0]]
    half = Mean().build(two)(torch.full((4096, 2), 100.0, dtype=torch.float16), Layout.dense(1, 4096))
    assert half.tolist() == [[100, 100]]  # the sum would be infinite in half precision


def test_standardised_states_tell_sequences_apart_that_differ_in_one_token() -> None:
    """Against the formula; and a difference of one token in 200, next to nothing in a mean, has size one."""
    torch.manual_seed(0)
    rows = torch.randn(200, 2).expand(8, -1, -1).clone()
    rows[torch.arange(8), torch.randint(200, (8,))] += torch.randn(8, 2)
    x, layout = rows.flatten(0, 1), Layout.dense(8, 200)
    pool = Standardised().build(StackConfig(dim=2, depth=1, heads=1))
    mean = Mean().build(StackConfig(dim=2, depth=1, heads=1))(x, layout)
    spread = mean.var(0, unbiased=False)
    assert spread.sqrt().max() < 0.02
    pool.norm.eps = 1e-12
    torch.testing.assert_close(pool(x, layout), (mean - mean.mean(0)) / spread.sqrt(), atol=1e-3, rtol=1e-3)
    for _ in range(200):
        pool(x, layout)
    assert pool(x[:200], Layout.dense(1, 200)).abs().max() < 10  # in training too
    pool.eval()  # averages of what was seen, whatever stands beside: a sequence alone has the state it has among others
    alone, among = pool(x[:200], Layout.dense(1, 200))[0], pool(x, layout)
    torch.testing.assert_close(alone, among[0])
    torch.testing.assert_close(among.std(0), torch.ones(2), atol=0.05, rtol=0)
    assert Standardised(First()).build(StackConfig(dim=2, depth=1, heads=1)).pool(x, layout).shape == (8, 2)


def test_plain_values_and_back() -> None:
    for first in (
        MaskedLM(STACK, 20, types=2, pool=Pooler(), activation="gelu_tanh", tied=False),
        TextClassifier(STACK, 20, 3, pool=First(), dropout=0.1, embed_scale=True),
    ):
        second = type(first).from_plain(json.loads(json.dumps(first.to_plain())))
        assert second.to_plain() == first.to_plain()
        assert [(n, p.shape) for n, p in second.state_dict().items()] == [
            (n, p.shape) for n, p in first.state_dict().items()
        ]


def test_what_is_tied_is_one_tensor() -> None:
    tied, apart = MaskedLM(STACK, 20), MaskedLM(STACK, 20, tied=False)
    assert tied.head.out.weight is tied.trunk.embedding.weight
    assert apart.head.out.weight is not apart.trunk.embedding.weight


def test_every_parameter_learns() -> None:
    ids, keep = rows()
    net = MaskedLM(STACK, 50, types=2, pool=Pooler())
    (net(ids, keep, ids % 2).square().sum() + net.pooled(ids, keep).square().sum()).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskedLM(STACK.replace(causal=True), 20), "looks both ways"),
        (lambda: MaskedLM(STACK.replace(cross=True), 20), "leave cross unset"),
        (lambda: TextClassifier(STACK.replace(causal=True), 20, 2, pool=First()), "sees itself alone: First"),
        (lambda: MaskedLM(STACK, 20)(torch.ones(1, 3).long(), types=torch.zeros(1, 3).long()), "knows no segments"),
    ],
)
def test_what_does_not_fit_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_causal_stack_can_be_pooled_by_its_mean() -> None:
    assert TextClassifier(STACK.replace(causal=True), 20, 2)(torch.ones(1, 3).long()).shape == (1, 2)


def test_a_gap_is_filled_where_it_stands() -> None:
    """Also beside words that are not known, which have the same token as a gap."""
    from zoo.text.fill import fill
    from zoo.text.tokens import Tokenizer

    tokens = Tokenizer.words(["a good film", "a bad film is good ."] * 2, 100)
    model = MaskedLM(STACK.replace(position=Learned(20)), tokens.vocab_size).eval()
    start, end, hidden = tokens.start, tokens.end, tokens.mask
    for text, row, places in (
        ("a strange film is [MASK] .", ["a", hidden, "film", "is", hidden, "."], [5]),
        ("[MASK] strange film [MASK]", [hidden, hidden, "film", hidden], [1, 4]),
    ):
        ids = [start, *(tokens.id_of(x) if isinstance(x, str) else x for x in row), end]
        found = fill(model, tokens, text, top=2)
        best = model(torch.tensor([ids]))[0, places].softmax(-1).topk(2)
        assert len(found) == len(places)
        assert [way.share for gap in found for way in gap] == pytest.approx(best.values.flatten().tolist())
        assert [way.text for gap in found for way in gap] == [tokens.decode([i]) for i in best.indices.flatten()]


def test_a_text_beyond_what_the_model_can_read_is_said() -> None:
    from zoo.errors import UserError
    from zoo.text.classify import classify
    from zoo.text.fill import fill
    from zoo.text.tokens import Tokenizer

    tokens = Tokenizer.train(["a"], 270)
    short = STACK.replace(position=Learned(6))
    assert len(fill(MaskedLM(short, 270).eval(), tokens, "ab[MASK]")[0]) == 5
    with pytest.raises(UserError, match="9 tokens, this model reads at most 6"):
        fill(MaskedLM(short, 270), tokens, "abcdef[MASK]")
    with pytest.raises(UserError, match="text 2: 8 tokens, this model reads at most 6"):
        list(classify(TextClassifier(short, 270, 2), tokens, ["a", "abcdef"]))
