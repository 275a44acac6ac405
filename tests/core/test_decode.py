"""Decoding: sampling draws from what it should, and beam search finds what is best."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from zoo.core import Layout, Sinusoidal, StackConfig
from zoo.core.decode import GREEDY, Sampling, barring, beam_search, generate, stream
from zoo.errors import UserError
from zoo.text.model import Seq2Seq

END = 2


@dataclass(eq=False)
class Table:
    """A model that is a table: the next scores depend on all tokens so far, through a random function of them."""

    vocab: int
    seed: int
    sharpness: float = 1.5
    rows: list[tuple[int, ...]] = field(default_factory=list)

    def scores(self, prefix: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(hash((self.seed, prefix)) % 2**31)
        return torch.randn(self.vocab, generator=generator) * self.sharpness

    def begin(self, sequences: list[int]) -> Tensor:
        """First scores; a sequence is told from others by a first token below zero."""
        self.rows = [(-1 - s,) for s in sequences]
        return torch.stack([self.scores(r) for r in self.rows])

    def __call__(self, tokens: Tensor) -> Tensor:
        self.rows = [(*row, token) for row, token in zip(self.rows, tokens.tolist(), strict=True)]
        return torch.stack([self.scores(r) for r in self.rows])

    def reorder(self, rows: Tensor) -> None:
        self.rows = [self.rows[r] for r in rows.tolist()]


def every_hypothesis(
    model: Table, sequence: int, length: int, penalty: float, ends: tuple[int, ...] = (END,)
) -> dict[tuple[int, ...], float]:
    """Scores of all that can be written, by walking the whole tree; with the end that each has, if any."""
    found: dict[tuple[int, ...], float] = {}

    def walk(written: tuple[int, ...], log_prob: float) -> None:
        next_scores = model.scores((-1 - sequence, *written)).log_softmax(-1).tolist()
        for token, step in enumerate(next_scores):
            longer, total = (*written, token), log_prob + step
            if token in ends or len(longer) == length:
                found[longer] = total / len(longer) ** penalty
            else:
                walk(longer, total)

    walk((), 0.0)
    return found


@pytest.mark.parametrize("penalty", [-0.5, 0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ends", [(END,), (END, 0), (END, 0, 3)], ids=str)
def test_a_beam_as_wide_as_the_tree_finds_the_best(ends: tuple[int, ...], seed: int, penalty: float) -> None:
    model, vocab, length = Table(4, seed), 4, 4
    beams = vocab**length
    scores = model.begin([0, 1])
    settings = {"ends": ends, "length_penalty": penalty}
    found = beam_search(model, scores, beams=beams, length=length, nbest=5, **settings)
    for sequence, hypotheses in enumerate(found):
        every = every_hypothesis(model, sequence, length, penalty, ends)
        oracle = sorted(every.items(), key=lambda item: -item[1])
        assert [h.tokens for h in hypotheses] == [[t for t in row if t not in ends] for row, _ in oracle[:5]]
        assert [h.score for h in hypotheses] == pytest.approx([score for _, score in oracle[:5]], abs=1e-5)


@pytest.mark.parametrize("penalty", [-1.0, 0.0, 1.0])
def test_a_sentence_is_not_finished_while_a_beam_can_beat_what_it_holds(penalty: float) -> None:
    """A penalty below 0 favours short ones: the most favourable length is then the next, not the last."""
    for seed in range(20):
        model = Table(3, seed)
        ((found,),) = beam_search(model, model.begin([0]), beams=27, length=5, ends=(END,), length_penalty=penalty)
        assert found.score == pytest.approx(max(every_hypothesis(model, 0, 5, penalty).values()), abs=1e-5)


def test_a_narrow_beam_misses_what_greed_hides() -> None:
    """Negative control of the oracle: somewhere among these trees the best is not found by one beam."""
    missed = 0
    for seed in range(20):
        model = Table(4, seed)
        greedy = beam_search(model, model.begin([0]), beams=1, length=4, ends=(END,))[0][0]
        missed += greedy.score < max(every_hypothesis(model, 0, 4, 1.0).values()) - 1e-6
    assert missed > 3


@pytest.mark.parametrize("beams", [1, 3, 5])
def test_one_beam_is_greedy_and_hypotheses_are_sorted_and_distinct(beams: int) -> None:
    model = Table(9, 3)
    # without a length penalty: with one, even a single beam may rightly prefer the longer of what it finished
    found = beam_search(
        model, model.begin(list(range(6))), beams=beams, length=7, ends=(END,), nbest=beams, length_penalty=0.0
    )
    for hypotheses in found:
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
        assert len({tuple(h.tokens) for h in hypotheses}) == len(hypotheses) == beams
    if beams == 1:
        greedy = generate(model, model.begin(list(range(6))), length=7, ends=(END,))
        assert [h[0].tokens for h in found] == [row.tolist() for row in greedy]


def test_ends_crowd_out_nothing_that_goes_on() -> None:
    """Each beam may end once with each end, all of them likelier than what goes on: as many beams still do."""

    def step(tokens: Tensor) -> Tensor:
        scores = torch.full((len(tokens), 8), -9.0)
        scores[:, :3] = 0.0  # ends
        scores[:, 3:] -= torch.arange(5.0)
        return scores

    step.reorder = lambda rows: None  # type: ignore[attr-defined]
    found = beam_search(
        step,  # type: ignore[arg-type]
        step(torch.zeros(1)),
        beams=3,
        length=3,
        ends=(0, 1, 2),
        length_penalty=9.0,  # the longest is best
        nbest=3,
    )
    assert [h.tokens for h in found[0]] == [[3, 3]] * 3  # each with another end; a 4 before them is worse


@pytest.mark.parametrize("penalty", [0.0, 1.0, 1.5])
def test_the_batch_changes_nothing(penalty: float) -> None:
    model = Table(12, 5, sharpness=2.5)
    settings = {"beams": 4, "length": 12, "ends": (END,), "length_penalty": penalty, "nbest": 3}
    together = beam_search(model, model.begin(list(range(30))), **settings)
    for sequence in range(30):
        (alone,) = beam_search(model, model.begin([sequence]), **settings)
        assert [h.tokens for h in alone] == [h.tokens for h in together[sequence]]
        assert [h.score for h in alone] == pytest.approx([h.score for h in together[sequence]], abs=1e-5)


def translator(vocab: int = 13) -> Seq2Seq:
    """A random Seq2Seq whose head is its own, so that it does not merely repeat itself."""
    torch.manual_seed(4)
    encoder = StackConfig(dim=32, depth=2, heads=4, position=Sinusoidal())
    model = Seq2Seq(encoder, encoder.replace(causal=True, cross=True), vocab, tied=False).eval()
    with torch.no_grad():
        model.head.weight.mul_(6)
    return model


def sources(vocab: int = 13) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(2, 11, (30,), generator=generator).tolist()
    return [torch.randint(3, vocab, (n,), generator=generator) for n in lengths]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("beams", [1, 5])
def test_translations_are_the_same_at_batch_1_and_30_and_any_padding_side(side: str, beams: int) -> None:
    model, rows = translator(), sources()
    width = max(map(len, rows)) + 3
    ids, keep = torch.full((30, width), 7), torch.zeros(30, width, dtype=torch.bool)
    for i, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[i, place], keep[i, place] = row, True
    together = model.generate(ids, keep, length=12, beams=beams, nbest=beams)
    for row, hypotheses in zip(rows, together, strict=True):
        (alone,) = model.generate(row.unsqueeze(0), length=12, beams=beams, nbest=beams)
        assert [h.tokens for h in alone] == [h.tokens for h in hypotheses]
        assert [h.score for h in alone] == pytest.approx([h.score for h in hypotheses], abs=1e-4)


@pytest.mark.parametrize("beams", [1, 5])
def test_writing_on_the_device_is_what_it_is_on_a_cpu(beams: int, device: torch.device) -> None:
    model, rows = translator().double(), sources()
    width = max(map(len, rows))
    ids, keep = torch.full((30, width), 7), torch.zeros(30, width, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)], keep[i, : len(row)] = row, True
    here = model.generate(ids, keep, length=12, beams=beams, nbest=beams)
    model, ids, keep = model.to(device), ids.to(device), keep.to(device)
    there = model.generate(ids, keep, length=12, beams=beams, nbest=beams)
    assert [[h.tokens for h in row] for row in there] == [[h.tokens for h in row] for row in here]
    scores = [[h.score for row in found for h in row] for found in (there, here)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    greedy = model.generate(ids, keep, length=12, sampling=GREEDY)
    best = model.generate(ids, keep, length=12, sampling=Sampling(top_k=1))  # drawn, and there is no choice
    assert [[h.tokens for h in row] for row in best] == [[h.tokens for h in row] for row in greedy]
    if beams == 1:
        assert [row[0].tokens for row in greedy] == [row[0].tokens for row in here]
    drawn = [model.generate(ids, keep, length=12, sampling=Sampling(seed=seed)) for seed in (3, 3, 4)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_a_score_is_the_log_probability_over_the_length(penalty: float) -> None:
    """Teacher-forced, without padding anywhere; the tokens count with the end."""
    model = translator()
    for row in sources()[:8]:
        (found,) = model.generate(row.unsqueeze(0), length=10, beams=4, nbest=4, length_penalty=penalty)
        for h in found:
            log_probs = model(row.unsqueeze(0), torch.tensor([[model.start, *h.tokens]]))[0].log_softmax(-1)
            ended = [*h.tokens, model.end] if len(h.tokens) < 10 else h.tokens
            total = sum(log_probs[i, token].item() for i, token in enumerate(ended))
            assert h.log_prob == pytest.approx(total, abs=1e-4)
            assert h.score == pytest.approx(total / len(ended) ** penalty, abs=1e-4)


def even_then_odd(tokens: Tensor, scores: Tensor) -> Tensor:
    allowed = torch.arange(8) % 2 == tokens.shape[1] % 2
    return scores.masked_fill(~allowed, float("-inf"))


def test_a_constraint_is_kept_by_every_way_of_decoding() -> None:
    model = Table(8, 1)
    drawn = generate(model, model.begin([0, 1]), length=6, sampling=Sampling(seed=3), constraint=even_then_odd)
    beams = beam_search(model, model.begin([0, 1]), beams=3, length=6, ends=(END,), constraint=even_then_odd)
    for row in [*(r.tolist() for r in drawn), *(h[0].tokens for h in beams)]:
        assert all(token % 2 == place % 2 for place, token in enumerate(row))


def test_steps_that_are_all_end_are_cut_off() -> None:
    def step(tokens: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(tokens.clamp(max=1) * 2, 4).float()  # 2 after 1, else 0

    step.reorder = lambda rows: None  # type: ignore[attr-defined]
    first = torch.nn.functional.one_hot(torch.tensor([[1, 3], [2, 2]]), 4).float()
    found = generate(step, first, length=4, ends=(2,))  # type: ignore[arg-type]
    assert found[0].tolist() == [[1, 3]]
    assert found[1].shape == (0, 2)


def test_a_beam_without_a_way_on_takes_no_other_with_it() -> None:
    def only_after_one(tokens: Tensor, scores: Tensor) -> Tensor:
        return scores.masked_fill((tokens[:, -1:] == 1) if tokens.shape[1] else torch.tensor(False), float("-inf"))

    model = Table(5, 3)
    scores = model.begin([0])
    (found,) = beam_search(model, scores, beams=3, length=4, ends=(END,), nbest=3, constraint=only_after_one)
    assert found
    # nothing was finished behind a 1: it may stand last alone, where the length ends
    assert all(1 not in hypothesis.tokens[:3] for hypothesis in found)
    model.begin([0])
    with pytest.raises(ValueError, match="leaves no token to choose as number 1"):
        generate(model, scores, length=2, constraint=lambda tokens, scores: torch.full_like(scores, float("-inf")))


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(seed=1)], ids=["greedy", "drawn"])
def test_nothing_has_to_follow_an_end(sampling: Sampling) -> None:
    """A sequence that has ended goes on as its end, whatever a constraint leaves it."""

    def nothing_after(tokens: Tensor, scores: Tensor) -> Tensor:
        return scores.masked_fill((tokens == END).any(1, keepdim=True), float("-inf"))

    model = Table(5, 8, sharpness=0.5)
    free = generate(model, model.begin([0, 1, 2, 3]), length=12, ends=(END,), sampling=sampling)
    bound = generate(
        model, model.begin([0, 1, 2, 3]), length=12, ends=(END,), sampling=sampling, constraint=nothing_after
    )
    assert [row.tolist() for row in bound] == [row.tolist() for row in free]
    assert len({len(row) for row in free}) > 1  # else nothing would show


@pytest.mark.parametrize("place", [0, 1, 4])
@pytest.mark.parametrize(
    ("bad", "value"), [([0], "nan"), ([0, 1, 2, 3, 4], "nan"), ([2], "inf"), ([0, 1, 2, 3, 4], "-inf")], ids=str
)
def test_scores_that_are_no_numbers_are_said(bad: list[int], value: str, place: int) -> None:
    """A search found nothing, or what its other beams did, and greed took the first that is none."""

    @dataclass(eq=False)
    class Breaks(Table):
        steps: int = 0

        def begin(self, sequences: list[int]) -> Tensor:
            self.steps = 0
            return self.broken(super().begin(sequences))

        def __call__(self, tokens: Tensor) -> Tensor:
            self.steps += 1
            return self.broken(super().__call__(tokens))

        def broken(self, scores: Tensor) -> Tensor:
            if self.steps == place:
                scores[1, bad] = float(value)
            return scores

    model = Breaks(5, 3)
    for constraint in (None, lambda tokens, scores: scores):
        for sampling in (GREEDY, Sampling()):
            with pytest.raises(UserError, match="scores are not numbers"):
                generate(model, model.begin([0, 1]), length=5, sampling=sampling, constraint=constraint)
        with pytest.raises(UserError, match="scores are not numbers"):
            beam_search(model, model.begin([0, 1]), beams=2, length=5, constraint=constraint)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(seed=1)], ids=["greedy", "drawn"])
def test_tokens_that_a_model_rules_out_are_none_that_is_broken(sampling: Sampling) -> None:
    """Large scores of a narrow type too, whose sum it does not hold."""
    first = torch.tensor([[3e4, float("-inf"), 3e4, float("-inf")], [-3e4, -3e4, -3e4, -3e4]]).half()

    def step(tokens: Tensor) -> Tensor:
        return first

    step.reorder = lambda rows: None  # type: ignore[attr-defined]
    found = generate(step, first, length=6, sampling=sampling)  # type: ignore[arg-type]
    assert not set(found[0].tolist()) & {1, 3}
    assert beam_search(step, first[:1], beams=1, length=1)[0][0].tokens in ([0], [2])  # type: ignore[arg-type]


@pytest.mark.parametrize("penalty", [-18.0, 18.0])
def test_a_length_penalty_ranks_or_is_refused(penalty: float) -> None:
    """Beyond what float32 holds, scores were no numbers, and nothing was found."""
    model = Table(4, 1)
    (found,) = beam_search(model, model.begin([0]), beams=64, length=3, ends=(END,), length_penalty=penalty, nbest=5)
    oracle = sorted(every_hypothesis(model, 0, 3, penalty).items(), key=lambda item: -item[1])
    assert [h.tokens for h in found] == [[t for t in row if t != END] for row, _ in oracle[:5]]
    for wrong in (penalty * 40, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"length_penalty \(.*\) is too much for 3 tokens: 3 \*\* .* below 1e30"):
            beam_search(model, model.begin([0]), beams=2, length=3, ends=(END,), length_penalty=wrong)


def test_barred_tokens_are_never_chosen_and_scores_stay_as_they_were() -> None:
    """Beside another constraint and without, by each way of decoding; nothing but them is touched."""
    model = Table(8, 1)
    nothing = torch.zeros(2, 0, dtype=torch.long)
    for then in (None, even_then_odd):
        constraint, scores = barring((4, 5), then), model.begin([0, 1])
        changed = constraint(nothing, scores)
        assert torch.equal(scores, model.begin([0, 1]))
        left = scores if then is None else then(nothing, scores)
        others = [token for token in range(8) if token not in (4, 5)]
        assert torch.equal(changed[:, others], left[:, others])
        found = {}
        for name, rule in {"free": then, "barred": constraint}.items():
            drawn = generate(model, model.begin([0, 1]), length=6, sampling=Sampling(seed=3), constraint=rule)
            beams = beam_search(model, model.begin([0, 1]), beams=3, length=6, ends=(END,), constraint=rule)
            found[name] = {t for row in drawn for t in row.tolist()} | {t for h in beams for t in h[0].tokens}
        assert not {4, 5} & found["barred"]
        assert {4, 5} & found["free"]  # else nothing would show


def test_temperature_0_is_the_best_token() -> None:
    model = Table(8, 2)
    greedy = generate(model, model.begin([0, 1, 2]), length=5)
    for sequence, row in enumerate(greedy):
        prefix: tuple[int, ...] = (-1 - sequence,)
        for token in row.tolist():
            assert token == int(model.scores(prefix).argmax())
            prefix = (*prefix, token)


def test_equal_seeds_draw_equal_tokens() -> None:
    model = Table(8, 2)
    runs = [torch.stack(generate(model, model.begin([0, 1]), length=9, sampling=Sampling(seed=s))) for s in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("seed", range(3))
def test_what_each_cut_leaves(seed: int) -> None:
    scores = torch.randn(20, 11, generator=torch.Generator().manual_seed(seed)) * 2
    share = scores.softmax(-1)

    def left(**settings: float) -> list[set[int]]:
        kept = Sampling(**settings).cut(scores).isfinite()
        return [set(row.nonzero().flatten().tolist()) for row in kept]

    assert left(top_k=4) == [set(row.topk(4).indices.tolist()) for row in scores]
    assert left(min_p=0.2) == [set((row >= 0.2 * row.max()).nonzero().flatten().tolist()) for row in share]
    for row, kept in zip(share, left(top_p=0.7), strict=True):
        order, expected, mass = row.sort(descending=True).indices.tolist(), set(), 0.0
        for token in order:
            if mass >= 0.7:
                break
            expected.add(token)
            mass += float(row[token])
        assert kept == expected
    assert all(left(top_p=1e-6)[i] == {int(scores[i].argmax())} for i in range(20))


def test_draws_follow_the_distribution() -> None:
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    drawn = Sampling(seed=0).drawer(torch.device("cpu"))(scores.expand(40_000, -1))
    torch.testing.assert_close(torch.bincount(drawn) / 40_000, scores.exp(), rtol=0, atol=0.01)
    hot = Sampling(seed=0, temperature=0.5).drawer(torch.device("cpu"))(scores.expand(40_000, -1))
    torch.testing.assert_close(torch.bincount(hot) / 40_000, scores.exp() ** 2 / 0.3, rtol=0, atol=0.01)


def test_the_stream_stops_when_all_have_ended() -> None:
    model = Table(5, 8, sharpness=0.5)
    steps = list(stream(model, model.begin(list(range(4))), length=200, ends=(END,), sampling=Sampling(seed=5)))
    assert len(steps) < 200
    tokens = torch.stack(steps, 1)
    for row in tokens.tolist():
        assert END in row
        assert set(row[row.index(END) :]) == {END}
    rows = generate(model, model.begin(list(range(4))), length=200, ends=(END,), sampling=Sampling(seed=5))
    assert [r.tolist() for r in rows] == [row[: row.index(END)] for row in tokens.tolist()]


def test_tokens_may_have_axes_of_their_own() -> None:
    """Codebooks: scores "b k v", tokens "b k"."""

    class Two:
        def __call__(self, tokens: Tensor) -> Tensor:
            return torch.nn.functional.one_hot((tokens + 1) % 5, 5).float()

        def reorder(self, rows: Tensor) -> None: ...

    first = torch.nn.functional.one_hot(torch.tensor([[0, 3], [1, 1]]), 5).float()
    rows = generate(Two(), first, length=3, sampling=GREEDY)
    assert [r.tolist() for r in rows] == [[[0, 3], [1, 4], [2, 0]], [[1, 1], [2, 2], [3, 3]]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(({"temperature": t}, "temperature") for t in (-1, float("nan"), float("inf"), 1e-300, 1e300)),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"min_p": 1.5}, "min_p"),
        ({"seed": 2**64}, "seed"),
        ({"seed": -(2**63) - 1}, "seed"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)


@pytest.mark.parametrize(
    "settings", [{"temperature": 1e-30}, {"temperature": 1e30}, {"seed": -(2**63)}, {"seed": 2**64 - 1}]
)
def test_the_furthest_settings_draw_what_may_be_drawn(settings: dict[str, float]) -> None:
    scores = torch.tensor([[-50.0, 50.0, float("-inf")]])
    assert int(Sampling(**settings).drawer(torch.device("cpu"))(scores)) in (0, 1)


def test_more_hypotheses_than_beams() -> None:
    model = Table(5, 1)
    with pytest.raises(ValueError, match=r"nbest \(3\)"):
        beam_search(model, model.begin([0]), beams=2, length=3, ends=(END,), nbest=3)


def test_layouts_are_all_the_step_needs() -> None:
    """The first scores of a Seq2Seq's step are the forward's."""
    from zoo.text.model import Seq2SeqStep

    model, row = translator(), sources()[0].unsqueeze(0)
    with torch.no_grad():
        step, first = Seq2SeqStep.begin(model, row, None, 4)
        second = step(torch.tensor([5]))
        whole = model(row, torch.tensor([[model.start, 5]]))
    assert isinstance(step.context_layout, Layout)
    torch.testing.assert_close(torch.stack((first, second), 1), whole, rtol=0, atol=1e-5)
