import math

import pytest
import torch

from zoo.train.schedules import WSD, Constant, Cosine, InverseSquareRoot, Schedule

ALL = [Constant(warmup=10), InverseSquareRoot(warmup=10), Cosine(warmup=10, floor=0.1), WSD(warmup=10, floor=0.1)]


def test_noam_is_the_papers_formula() -> None:
    dim, warmup = 512, 4000
    schedule = InverseSquareRoot(warmup=warmup)
    for step in (1, 10, 3999, 4000, 4001, 100_000):
        paper = dim**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert schedule.factor(step - 1, math.inf) * (dim * warmup) ** -0.5 == pytest.approx(paper)


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_rises_linearly_to_one_and_never_above(schedule: Schedule) -> None:
    factors = [schedule.factor(step, 100) for step in range(101)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(factors) == pytest.approx(1.0)


def test_cosine_ends_on_its_floor_and_stays() -> None:
    schedule = Cosine(warmup=10, floor=0.1)
    assert schedule.factor(55, 100) == pytest.approx(0.55)
    assert schedule.factor(100, 100) == schedule.factor(150, 100) == pytest.approx(0.1)


def test_wsd_is_level_and_then_falls_linearly() -> None:
    schedule = WSD(warmup=10, decay=0.2, floor=0.5)
    assert schedule.factor(79, 100) == 1.0
    assert schedule.factor(90, 100) == pytest.approx(0.75)
    assert schedule.factor(100, 100) == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_the_optimiser_follows_step_by_step(schedule: Schedule) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    built = schedule.build(optimizer, 50)
    for step in range(50):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * schedule.factor(step, 50))
        optimizer.step()
        built.step()


@pytest.mark.parametrize("schedule", [Cosine(), WSD()], ids=lambda s: type(s).__name__)
def test_a_schedule_with_an_end_refuses_an_endless_run(schedule: Schedule) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    with pytest.raises(ValueError, match=r"must know its last step: set trainer.max_steps or trainer.max_epochs"):
        schedule.build(optimizer, math.inf)


def test_senseless_numbers_are_refused() -> None:
    for make in (lambda: Constant(warmup=-1), lambda: Cosine(floor=2.0), lambda: WSD(decay=-0.1)):
        with pytest.raises(ValueError, match="must be"):
            make()
