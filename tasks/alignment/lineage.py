"""How far a training set has moved since a space was fitted: pairs that came or went, means that shifted. Pure."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Sketch = npt.NDArray[np.uint64]

SIZE = 4_096


def pair_sketch(left: npt.NDArray[np.str_], right: npt.NDArray[np.str_], size: int = SIZE) -> Sketch:
    """The `size` smallest 64-bit hashes of the pairs (left[i], right[i]), sorted, each once: a sketch of their set.

    A set of at most `size` pairs is kept whole. Source: Bar-Yossef et al. 2002, the k minimum values.

    >>> pair_sketch(np.array(["a", "a"]), np.array(["b", "b"])).shape
    (1,)
    """
    marks = [
        int.from_bytes(hashlib.blake2b(f"{one}\0{other}".encode(), digest_size=8).digest(), "big")
        for one, other in zip(left.tolist(), right.tolist(), strict=True)
    ]
    return np.unique(np.array(marks, np.uint64))[:size]


def changed_share(before: Sketch, now: Sketch, size: int = SIZE) -> float:
    """Share of the pairs of either set that the other lacks (the Jaccard distance): 0 for equal sets, 1 for disjoint.

    Exact for sets of at most `size` pairs together, else with a standard error of at most .008.

    >>> changed_share(np.array([1, 2, 3], np.uint64), np.array([2, 3, 4], np.uint64))
    0.5
    """
    both = np.union1d(before, now)[:size]
    if not len(both):
        return 0.0
    shared = np.isin(both, before) & np.isin(both, now)
    return float(1 - shared.mean())


def mean_shift(before: npt.NDArray[np.float64], now: npt.NDArray[np.float64]) -> float:
    """Squared distance of two means (dim,) of unit vectors, as a share of the variance about the first: 0 and up.

    Unit vectors with mean m vary by 1 − |m|² in all. Two samples of n each differ by about 2/n without any drift.

    >>> mean_shift(np.array([0.0, 0.0]), np.array([0.6, 0.0]))
    0.36
    """
    return float(((before - now) ** 2).sum() / max(1 - float((before**2).sum()), 1e-12))
