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


def test_overlays_begin_with_the_mistakes() -> None:
    data = Digits()
    model = ViT(StackConfig(dim=16, depth=1, heads=2, position=Learned(17)), 10, 8, LinearPatches(2), channels=1)
    held = data.held("test")
    made = held.labels.clone()
    made[17] = (made[17] + 1) % 10
    found = vision.looks(model.eval(), data, made, count=3)
    labels = re.findall(r">(\d, read as \d)<", found.svg)
    assert labels[0] == f"{int(held.labels[17])}, read as {int(made[17])}"
    assert all(label[0] == label[-1] for label in labels[1:])
    assert found.svg.count("<svg") == 3
    assert found.svg.count('class="heat"') >= 3


@pytest.mark.slow
def test_a_minute_is_enough() -> None:
    stop = vision.run(60)
    assert stop.score >= 98
    assert stop.seconds < 60
