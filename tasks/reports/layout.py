"""Vectors on a plane: t-SNE of a bounded sample, and all others among their nearest of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

_NEAR = 5  # items of the sample between which another one is placed
_TEMPERATURE = 0.05


def plane(vectors: Array, seed: int = 0) -> Array:
    """Unit vectors (n, d) → (n, 2) in −1 … 1, neighbours beside each other.

    t-SNE (van der Maaten & Hinton 2008) by cosine, which costs n·log n: for a sample. With fewer than ten items it is
    their two principal components.

    >>> plane(np.eye(3, dtype=np.float32)).shape
    (3, 2)
    """
    if len(vectors) < 10:
        centred = vectors - vectors.mean(0) if len(vectors) else vectors
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        flat = np.zeros((len(vectors), 2), np.float32)
        flat[:, : min(2, len(s))] = (u * s)[:, :2]
        return _to_unit(flat)
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(vectors) - 1) / 3)
    made = TSNE(2, perplexity=perplexity, init="pca", metric="cosine", random_state=seed, max_iter=600, n_jobs=1)
    return _to_unit(np.asarray(made.fit_transform(vectors), np.float32))


def among(vectors: Array, sample: Array, places: Array) -> Array:
    """Vectors (n, d) placed among a sample (s, d) that lies at `places` (s, 2): (n, 2).

    Each between its nearest ones, weighted by a softmax of their cosines.

    >>> sides = np.array([[0, 0], [1, 1]], np.float32)
    >>> among(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), sides).round(3).tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """
    scores = vectors @ sample.T
    k = min(_NEAR, len(sample))
    near = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    best = np.take_along_axis(scores, near, 1)
    weights = np.exp((best - best.max(1, keepdims=True)) / _TEMPERATURE)
    weights /= weights.sum(1, keepdims=True)
    return np.asarray((weights[:, :, None] * places[near]).sum(1), np.float32)


def _to_unit(flat: Array) -> Array:
    """Centred, and the farthest at 1."""
    if not len(flat):
        return flat
    low, high = flat.min(0), flat.max(0)
    return np.asarray((2 * flat - low - high) / max(float((high - low).max()), 1e-12), np.float32)
