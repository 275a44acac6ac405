"""The stop of images: its confusion matrix and its overlays."""

import re

import pytest
import torch

from zoo.core import Learned, StackConfig
from zoo.tour import vision
from zoo.vision import ViT
from zoo.vision.data import Digits
from zoo.vision.patches import LinearPatches


def test_the_matrix_counts_what_was_made_of_what() -> None:
    right, made = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 1])
    found = vision.confusion(right, made, ("a", "b"))
    assert "1 of 6 are wrong" in found.caption
    shown = re.findall(r"<title>(.*?)</title>", found.svg)
    assert shown == ["a / a: 0.75", "a / b: 0.25", "b / a: 0.00", "b / b: 1.00"]


def test_overlays_are_of_the_digits_asked_for() -> None:
    data = Digits()
    model = ViT(StackConfig(dim=16, depth=1, heads=2, position=Learned(17)), 10, 8, LinearPatches(2), channels=1)
    held = data.held("test")
    made = held.labels.clone()
    made[17] = (made[17] + 1) % 10
    drawn = vision.looks(model.eval(), data, made, [17, 3])
    labels = [re.findall(r">(\d, read as \d)<", svg) for svg in drawn]
    assert labels == [[f"{int(held.labels[row])}, read as {int(made[row])}"] for row in (17, 3)]
    for svg in drawn:  # the map goes from nothing at the least patch to its full strength at the most
        strengths = [float(x) for x in re.findall(r'class="heat" fill-opacity="([\d.]+)"', svg)]
        assert 0 < len(strengths) < model.grid**2
        assert max(strengths) == 0.75


@pytest.mark.slow
def test_a_minute_is_enough() -> None:
    stop = vision.run(60)
    assert stop.score >= 98
    assert stop.seconds < 60
