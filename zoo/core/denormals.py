"""Numbers below 1.2e-38 ("denormal"), which a CPU computes many times as slowly as others."""

import torch


def flush() -> None:
    """Such numbers are zero from here on, in this thread and those that it starts.

    A trained attention is sharp: the weights of what it does not look at, and their gradients, are that small, and a
    step of training takes twice its time by them (experiments/music/README.md).
    """
    torch.set_flush_denormal(True)
