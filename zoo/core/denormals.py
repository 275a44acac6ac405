"""Numbers below 1.2e-38, which a processor computes a hundred times as slowly as others."""

import torch


def flush() -> None:
    """Such numbers are zero from here on, in this thread and those that it starts (a CPU alone has them).

    A trained attention is sharp: the weights of what it does not look at, and their gradients, are e to the minus
    hundred. No output depends on them, but a training on a CPU takes twice the time (experiments/music/README.md).
    """
    torch.set_flush_denormal(True)
