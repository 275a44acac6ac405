"""A bias on the scores that is a query's product with a vector for each distance: Shaw et al. 2018, equation 4.

Axes: b sequences, n queries, m keys, h heads, e head width, r rows of vectors.

Nothing here is of size n x m x e. The products "n r" of a query with the vectors in order of distance become scores
"n m" by a *skew* (Huang et al. 2019, section 3.4.1), which moves no number: it reads the same memory in other rows.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Relative:
    """What is added to the score of query i and key j: scale q_i . r(j - i).

    `rows`: "h r e". Without `index`, r = n + m: the vectors of all distances between n queries and m keys in order, the
    furthest past first, and one more, which the skew reads over. With `index`, "b 1 n m": which row each pair has.
    `attend` takes it where it takes a bias; a kernel that goes block by block never holds it for all pairs.
    """

    rows: Tensor
    index: Tensor | None = None

    def check(self, n: int, m: int) -> None:
        """ValueError where there is no vector for some distance between n queries and m keys."""
        if self.index is None and self.rows.shape[1] != n + m:
            raise ValueError(f"Relative has {self.rows.shape[1]} rows, {n} queries and {m} keys need {n + m}")

    def written_out(self, q: Tensor, m: int, *, causal: bool) -> Tensor:
        """For scaled queries "b h n e" the bias on m keys, "b h n m". `causal`: of the past alone, the rest is any."""
        n, rows = q.shape[-2], self.rows.to(q.dtype)
        if self.index is None:
            return skew(q @ rows[:, span(n, n, m, causal=causal)].mT, m)
        products = q @ rows.mT
        return products.gather(-1, self.index.expand(-1, products.shape[1], -1, -1))


def span(n: int, last: int, m: int, *, causal: bool, block: int | None = None) -> slice:
    """The rows that the `block` queries before number `last` of n need for the first m keys. `causal`: for the past
    alone, where the last of these queries is the last key's."""
    first = n - last
    return slice(first, first + m + (1 if causal else block or n))


def skew(products: Tensor, m: int) -> Tensor:
    """Products with distances in order, "... n r", as scores "... n m": entry (i, j) is column j - i + n - 1 of row i.

    Reading in rows one shorter moves each row one further left (Huang et al. 2019, figure 1). A causal stack makes no
    products for the future: what stands there is another row's, and the mask hides it. A view, of products that are
    contiguous: what is written to it stands where it was read.
    """
    n, r = products.shape[-2:]
    flat = products.flatten(-2)[..., n - 1 : n - 1 + n * (r - 1)]
    return flat.view(*flat.shape[:-1], n, r - 1)[..., :m]


Bias = Tensor | Relative | None


def written_out(bias: Bias, q: Tensor, m: int, scale: float, *, causal: bool) -> Tensor | None:
    """A bias for all pairs of queries "b h n e" and m keys: what it is, or what it stands for."""
    return bias.written_out(q * scale, m, causal=causal) if isinstance(bias, Relative) else bias
