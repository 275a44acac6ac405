"""The loss of a student, whose targets are chances: distillation (Hinton et al. 2015), for text and music alike."""

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.train.losses import TokenLoss


def taught(scores: Tensor, chances: Tensor, labels: Tensor) -> TokenLoss:
    """Cross entropy of logits and chances, both "t v", and beside it what is logged, by the true tokens "t"."""
    return TokenLoss(
        loss=F.cross_entropy(scores, chances, reduction="sum"),
        nll=F.cross_entropy(scores.detach(), labels, reduction="sum"),
        correct=(scores.argmax(-1) == labels).sum(),
        tokens=torch.tensor(len(labels), device=labels.device),
    )
