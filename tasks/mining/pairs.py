"""Mutual nearest neighbours of two modalities in a joint space, with score and margin."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from tasks.retrieval.knn import CELLS, exact_top_k
from tasks.retrieval.ranges import HELD, Mapped, Rows, top_k_by_ranges
from tasks.retrieval.shortlist import fast_top_k
from tasks.retrieval.similarity import Anchors, Score, factors, of_products

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


class Matches(NamedTuple):
    """Row numbers of both sides (n,), by the left one; the similarity that ranked them; its lead over the next one."""

    left: Indices
    right: Indices
    score: Array
    margin: Array


def mutual_neighbours(
    a: Rows,
    b: Rows,
    *,
    k: int = 1,
    score: Score | Literal["csls"] = "csls",
    anchors: Anchors | None = None,
    min_margin: float = 0.0,
    hubness_k: int = 10,
    cells: int = CELLS,
    held: int = HELD,
) -> Matches:
    """Pairs (i, j) of rows of `a` (n, d) and `b` (m, d), each in the other's top `k` by the similarity `score`.

    Both sides are arrays or what is read by ranges. `held` bounds the numbers of a side that are held at once, `cells`
    the scores; beside these some 12·k bytes a row are held.

    CSLS (Conneau et al. 2018) is 2·cos − r(i) − r(j), with r over the other side; it takes unit vectors. `kl` needs
    `anchors`, pairs of both sides, and holds 2·anchors + 2 numbers a row. The margin is how far the pair leads
    the best other candidate of its left item, below zero for all but the first one, and 0 where there is no other;
    pairs below `min_margin` are left out.

    >>> x = np.eye(3, dtype=np.float32)
    >>> mutual_neighbours(x, x[[1, 0, 2]], score="cosine").right.tolist()
    [1, 0, 2]
    """
    if not len(a) or not len(b):
        empty = np.empty(0, np.int64)
        return Matches(empty, empty, np.empty(0, np.float32), np.empty(0, np.float32))
    (near_b, score_b), (near_a, _) = _both_ways(a, b, k, score, anchors, hubness_k, cells, held)
    left = np.repeat(np.arange(len(a)), min(k, near_b.shape[1]))
    right = near_b[:, :k].ravel()
    values = score_b[:, :k].ravel()
    mutual = (near_a[right] == left[:, None]).any(1)
    # the best candidate that is not this pair's own: the runner-up for the first, the first for the others
    first = near_b[left, 0] == right
    rival = np.where(first, score_b[left, min(1, score_b.shape[1] - 1)], score_b[left, 0])
    margin = values - rival if score_b.shape[1] > 1 else np.zeros_like(values)
    keep = mutual & (margin >= min_margin) if min_margin > 0 else mutual
    return Matches(left[keep], right[keep], values[keep], margin[keep].astype(np.float32))


def _both_ways(
    a: Rows, b: Rows, k: int, score: str, anchors: Anchors | None, hubness_k: int, cells: int, held: int
) -> tuple[tuple[Indices, Array], tuple[Indices, Array]]:
    """The `k` + 1 nearest of `b` to each row of `a`, and the `k` nearest of `a` to each row of `b`, and how near."""
    fast = partial(top_k_by_ranges, search=fast_top_k, cells=cells, held=held)
    if score == "csls":
        r_a, r_b = (fast(x, y, hubness_k)[1].mean(1) for x, y in ((a, b), (b, a)))
        return _csls(fast, a, b, r_a, r_b, k + 1), _csls(fast, b, a, r_b, r_a, k)
    plain = cast("Score", score)
    left = Mapped(a, lambda x, _: factors(plain, x, b[:0], anchors)[0])
    right = Mapped(b, lambda x, _: factors(plain, a[:0], x, anchors)[1])
    # −d² and minus a divergence are never positive: bf16 cannot rank them
    search = fast if plain in ("cosine", "dot") else partial(fast, search=exact_top_k)
    found = search(left, right, k + 1), search(right, left, k)
    near_b, near_a = ((indices, of_products(values, plain)) for indices, values in found)
    return near_b, near_a


def _csls(
    search: Callable[[Rows, Rows, int], tuple[Indices, Array]],
    queries: Rows,
    gallery: Rows,
    own: Array,
    other: Array,
    k: int,
) -> tuple[Indices, Array]:
    """Neighbours by 2·cos − r(gallery), a product with the term as one more column; then − r(query)."""
    left = Mapped(queries, lambda x, _: np.concatenate([2 * x, np.ones((len(x), 1), np.float32)], axis=1))
    right = Mapped(gallery, lambda x, part: np.concatenate([x, -other[part, None]], axis=1))
    indices, values = search(left, right, k)
    return indices, values - own[:, None]
