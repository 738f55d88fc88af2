"""Ranking metrics per query, with ties counted against us.

hit_rate@k is what CLIP papers call R@k: the share of queries with at least one relevant item in the top k. recall@k is
the share of the relevant items found there. rsum adds hit_rate@1/5/10 of both directions in percent: 0 to 600.
mAP@R and R-precision look at the first R ranks, R the number of relevant items (Musgrave et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import comb

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
CUTS = (1, 5, 10)
CURVE = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)


def relevance_table(queries: npt.NDArray[np.int64], items: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """Relevant gallery items of each of `n` queries, one row a query, padded with -1; (queries[i], items[i]) is a link.

    >>> relevance_table(np.array([0, 1, 1]), np.array([5, 6, 7]), 2).tolist()
    [[5, -1], [6, 7]]
    """
    links = np.unique(np.stack([queries, items], 1), axis=0)
    counts = np.bincount(links[:, 0], minlength=n)
    place = np.arange(len(links)) - np.repeat(np.cumsum(counts) - counts, counts)
    out = np.full((n, max(int(counts.max(initial=0)), 1)), -1, np.int64)
    out[links[:, 0], place] = links[:, 1]
    return out


def positions(scores: Array, relevant: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Ranks (1 is best) of the relevant items of each query, ascending, padded with a huge value: (n, r).

    `scores` (n, m); `relevant` (n, r) padded with -1. At equal scores every other item stands before a relevant one.
    So it does where a score is not a number: a relevant item without one stands last, any other one first.

    >>> positions(np.array([[0.5, 0.5, 0.1]], np.float32), np.array([[0]])).tolist()
    [[2]]
    """
    there = relevant >= 0
    count = there.sum(1)
    values = np.take_along_axis(scores, np.maximum(relevant, 0), 1)
    values = np.where(there & ~np.isnan(values), values, -np.inf)
    if np.isnan(scores).any():
        scores = np.where(np.isnan(scores), np.inf, scores)
        row, place = np.nonzero(there)
        scores[row, relevant[row, place]] = values[row, place]
    values = -np.sort(-values, axis=1)
    out = np.empty(relevant.shape, np.int64)
    for number in range(relevant.shape[1]):
        mine = values[:, number : number + 1]
        not_below = (scores >= mine).sum(1)
        relevant_not_below = np.minimum((values >= mine).sum(1), count)  # the padding is -inf, as a score may be
        out[:, number] = not_below - relevant_not_below + number + 1
    out[np.arange(relevant.shape[1])[None] >= count[:, None]] = np.iinfo(np.int64).max
    return out


def per_query(ranks: npt.NDArray[np.int64], relevant: npt.NDArray[np.int64]) -> dict[str, Values]:
    """All metrics of each query (n,), from the ranks (n, r) of its relevant items; a query has at least one.

    >>> per_query(np.array([[1, 3]]), np.array([[4, 9]]))["mAP@R"].tolist()
    [0.5]
    """
    count = (relevant >= 0).sum(1).astype(np.float64)
    first = ranks[:, 0].astype(np.float64)
    order = np.arange(1, ranks.shape[1] + 1, dtype=np.float64)[None]
    out: dict[str, Values] = {}
    for k in CUTS:
        out[f"hit_rate@{k}"] = (first <= k).astype(np.float64)
        out[f"recall@{k}"] = (ranks <= k).sum(1) / count
    out["MRR"] = 1 / first
    gains = np.where(ranks <= 10, 1 / np.log2(1 + np.minimum(ranks, 10)), 0).sum(1)
    ideal = np.cumsum(1 / np.log2(np.arange(2, 12)))[np.minimum(count, 10).astype(int) - 1]
    out["nDCG@10"] = gains / ideal
    inside = ranks <= count[:, None]
    out["mAP@R"] = np.where(inside, order / ranks, 0).sum(1) / count
    out["R-precision"] = inside.sum(1) / count
    out["rank"] = first
    return out


def evaluate(
    score: Callable[[slice], Array], relevant: npt.NDArray[np.int64], *, block: int = 512
) -> dict[str, Values]:
    """Metrics of each query; `score(part)` gives the scores (len(part), m) of a slice of queries: memory is a block."""
    parts = []
    for start in range(0, len(relevant), block):
        part = slice(start, min(start + block, len(relevant)))
        parts.append(per_query(positions(score(part), relevant[part]), relevant[part]))
    return {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}


def summary(values: Mapping[str, Values]) -> dict[str, float]:
    """Means over the queries; of the ranks the median."""
    means = {name: float(one.mean()) for name, one in values.items() if name != "rank"}
    return means | {"median_rank": float(np.median(values["rank"]))}


def rsum(forward: Mapping[str, float], backward: Mapping[str, float]) -> float:
    """The sum of hit_rate@1/5/10 of both directions, in percent: 0 to 600.

    >>> one = {"hit_rate@1": 1.0, "hit_rate@5": 1.0, "hit_rate@10": 1.0}
    >>> rsum(one, one)
    600.0
    """
    return 100 * sum(way[f"hit_rate@{k}"] for way in (forward, backward) for k in CUTS)


def chance_hit_rate(k: int, n_gallery: int, n_relevant: int) -> float:
    """hit_rate@k of a random ranking: 1 − C(n − r, k) / C(n, k).

    >>> chance_hit_rate(1, 4, 1), round(chance_hit_rate(10, 382, 1), 4)
    (0.25, 0.0262)
    """
    k = min(k, n_gallery)
    return 1 - comb(n_gallery - n_relevant, k) / comb(n_gallery, k)


def mean_chance(k: int, n_gallery: int, n_relevant: npt.NDArray[np.int64]) -> float:
    """Mean hit_rate@k of random rankings over queries with `n_relevant` (n,) right answers each.

    >>> mean_chance(1, 4, np.array([1, 3]))
    0.5
    """
    counts = np.bincount(n_relevant)
    chances = np.array([chance_hit_rate(k, n_gallery, r) if c else 0.0 for r, c in enumerate(counts)])
    return float((counts * chances).sum() / counts.sum())


def curve(ranks: Values, raw: Values, n_gallery: int, n_relevant: npt.NDArray[np.int64]) -> list[dict[str, float]]:
    """hit_rate@k by k of `ranks` (n,), those of the first relevant items; of the ranks without correction; by chance.

    >>> curve(np.array([1.0, 2.0]), np.array([2.0, 2.0]), 2, np.array([1, 1]))[0]
    {'k': 1, 'hit_rate': 0.5, 'raw': 0.0, 'chance': 0.5}
    """
    return [
        {
            "k": k,
            "hit_rate": float((ranks <= k).mean()),
            "raw": float((raw <= k).mean()),
            "chance": mean_chance(k, n_gallery, n_relevant),
        }
        for k in CURVE
        if k <= max(n_gallery, CUTS[-1])
    ]


def chance_interval(
    k: int, n_gallery: int, n_relevant: npt.NDArray[np.int64], confidence: float = 0.99
) -> tuple[float, float, float]:
    """Expected hit_rate@k of random, independent rankings of these queries, and its central interval.

    The interval is that of the binomial with the mean chance: exact where all queries have as many relevant items,
    else a little wide (Hoeffding 1956).

    >>> chance_interval(1, 2, np.array([1] * 100))[0]
    0.5
    """
    from scipy.special import bdtr

    total = len(n_relevant)
    mean = mean_chance(k, n_gallery, n_relevant)
    below = bdtr(np.arange(total), total, mean)  # P(at most so many hits)
    low, high = np.searchsorted(below, [(1 - confidence) / 2, (1 + confidence) / 2])
    return mean, float(low / total), float(high / total)
