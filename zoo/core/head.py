"""From states to scores over a vocabulary, by way of a transform. Axes: t tokens, d model width, v vocabulary."""

from torch import Tensor, nn

from zoo.core.feedforward import Activation, activate
from zoo.core.linear import Linear
from zoo.core.norm import Norm


class TransformHead(nn.Module):
    """out(norm(activation(dense(x)))): the head of masked language models. Devlin et al. 2019's code, `transform`.

    A loss that chunks the last map takes `features` and `out` apart. To tie it, set `out.weight` to the table of
    embeddings; the bias stays its own.
    """

    def __init__(self, dim: int, vocab_size: int, *, activation: Activation, norm: Norm, bias: bool = True):
        super().__init__()
        self.activation = activation
        self.dense = Linear(dim, dim)
        self.norm = norm.build(dim)
        self.out = Linear(dim, vocab_size, bias=bias)

    def features(self, x: Tensor) -> Tensor:
        """States "t d" to what the last map sees, "t d"."""
        normed: Tensor = self.norm(activate(self.dense(x), self.activation))
        return normed

    def forward(self, x: Tensor) -> Tensor:
        """States "t d" to scores "t v"."""
        scores: Tensor = self.out(self.features(x))
        return scores
