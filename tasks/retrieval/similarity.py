"""Similarities (higher is nearer) and distances (lower is nearer); the only place that turns one into the other."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Score = Literal["cosine", "dot", "euclidean", "kl"]
Anchors = tuple[npt.ArrayLike, npt.ArrayLike]
TEMPERATURE = 0.05
"""Of a profile over anchors."""

_SMALL = 1e-12


def normalise(x: npt.ArrayLike) -> Array:
    """Rows of `x` (n, d) divided by their length; a zero row stays zero.

    >>> normalise([[3.0, 4.0]]).round(3).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    values = np.asarray(x, np.float32)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), _SMALL), np.float32)


def cosine(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """Cosine of each row of `a` (n, d) with each row of `b` (m, d): (n, m), from -1 to 1.

    >>> round(float(cosine([[1, 2, 3]], [[4, 5, 6]])[0, 0]), 3)
    0.975
    """
    return np.asarray(normalise(a) @ normalise(b).T, np.float32)


def dot(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """Dot product of each row of `a` (n, d) with each row of `b` (m, d): (n, m).

    >>> dot([[1, 2]], [[3, 4]]).tolist()
    [[11.0]]
    """
    return np.asarray(np.asarray(a, np.float32) @ np.asarray(b, np.float32).T, np.float32)


def linear_map(matrix: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    """A·x for each row of `x` (n, d) and A (e, d): (n, e).

    >>> linear_map([[1, 2], [3, 4]], [[1, 2]]).tolist()
    [[5.0, 11.0]]
    """
    return np.asarray(np.asarray(x, np.float32) @ np.asarray(matrix, np.float32).T, np.float32)


def euclidean_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """Euclidean distance of each row of `a` (n, d) from each row of `b` (m, d): (n, m), a distance.

    >>> euclidean_distance([[0, 0]], [[3, 4]]).tolist()
    [[5.0]]
    """
    left, right = np.asarray(a, np.float64), np.asarray(b, np.float64)
    square = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2 * left @ right.T
    return np.asarray(np.sqrt(np.maximum(square, 0)), np.float32)


def profile_divergence(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    anchors_a: npt.ArrayLike,
    anchors_b: npt.ArrayLike,
    temperature: float = TEMPERATURE,
) -> Array:
    """Symmetrised KL divergence between softmax profiles over the same anchors: (n, m), a distance, 0 for equals.

    The profile of an item is the softmax of its cosines with the anchors of its own modality, divided by the
    temperature; row i of `anchors_a` (p, da) and of `anchors_b` (p, db) is one anchor pair.

    >>> x = np.eye(2, dtype=np.float32)
    >>> profile_divergence(x, x, x, x).diagonal().tolist()
    [0.0, 0.0]
    """
    p, log_p = _profile(a, anchors_a, temperature)
    q, log_q = _profile(b, anchors_b, temperature)
    own = (p * log_p).sum(1)[:, None] + (q * log_q).sum(1)[None]
    return np.asarray(np.maximum((own - p @ log_q.T - log_p @ q.T) / 2, 0), np.float32)


def _profile(
    x: npt.ArrayLike, anchors: npt.ArrayLike, temperature: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    logits = cosine(x, anchors).astype(np.float64) / temperature
    logits -= logits.max(1, keepdims=True)
    log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return np.exp(log), log


def to_similarity(distance: npt.ArrayLike, metric: str) -> Array:
    """A distance as a similarity: 1 − d for cosine, −d for the others (lower was nearer, higher is nearer).

    >>> to_similarity([0.25], "cosine").tolist(), to_similarity([2.0], "l2").tolist()
    ([0.75], [-2.0])
    """
    values = np.asarray(distance, np.float32)
    return 1 - values if metric == "cosine" else -values


def similarity(score: Score, a: npt.ArrayLike, b: npt.ArrayLike, anchors: Anchors | None = None) -> Array:
    """Similarity of each row of `a` (n, d) with each row of `b` (m, d): (n, m), higher is nearer for every score.

    `euclidean` is minus the distance, `kl` minus the divergence of the profiles over `anchors`, which it alone needs.

    >>> similarity("euclidean", [[0, 0]], [[3, 4]]).tolist()
    [[-5.0]]
    """
    if score == "kl":
        return to_similarity(profile_divergence(a, b, *_needed(anchors)), score)
    if score == "euclidean":
        return to_similarity(euclidean_distance(a, b), score)
    return cosine(a, b) if score == "cosine" else dot(a, b)


def factors(score: Score, a: npt.ArrayLike, b: npt.ArrayLike, anchors: Anchors | None = None) -> tuple[Array, Array]:
    """Vectors (n, w) and (m, w) whose dot products rank as the similarity does, so that one search serves all scores.

    The products are the similarities themselves, but for `euclidean`, where they are −d²: see `of_products`. The width
    is that of the vectors, 2 more for `euclidean`, and 2·anchors + 2 for `kl`.

    >>> left, right = factors("euclidean", [[0, 0]], [[3, 4]])
    >>> (left @ right.T).tolist()
    [[-25.0]]
    """
    if score == "cosine":
        return normalise(a), normalise(b)
    left, right = np.asarray(a, np.float32), np.asarray(b, np.float32)
    if score == "dot":
        return left, right
    if score == "euclidean":
        own = [-(x.astype(np.float64) ** 2).sum(1, keepdims=True) for x in (left, right)]
        return _side([2 * left], own[0], first=True), _side([right], own[1], first=False)
    profiles = [_profile(x, y, TEMPERATURE) for x, y in zip((left, right), _needed(anchors), strict=True)]
    own = [-(p * log).sum(1, keepdims=True) / 2 for p, log in profiles]
    (p, log_p), (q, log_q) = profiles
    return _side([p / 2, log_p / 2], own[0], first=True), _side([log_q, q], own[1], first=False)


def of_products(products: Array, score: Score) -> Array:
    """The similarities behind products of `factors`; what rounding lifted above the greatest possible one is cut.

    >>> of_products(np.array([-25.0, 1e-9], np.float32), "euclidean").tolist()
    [-5.0, -0.0]
    """
    if score in ("cosine", "dot"):
        return products
    distance = np.maximum(-products, 0)
    return to_similarity(np.sqrt(distance) if score == "euclidean" else distance, score)


def _side(parts: list[npt.NDArray[np.generic]], own: npt.NDArray[np.float64], *, first: bool) -> Array:
    """Columns of one side, its own term, and a one that takes up the other's."""
    ones = np.ones_like(own)
    return np.concatenate([*parts, *((own, ones) if first else (ones, own))], axis=1, dtype=np.float32)


def _needed(anchors: Anchors | None) -> Anchors:
    if anchors is None:
        raise ValueError("similarity kl needs anchors: pairs of both sides")
    return anchors
