"""Which of the retrieved captions to take: that on which the others agree, and which fits the item.

Source: consensus captioning, Devlin et al. 2015. There the agreement is the mean CIDEr to the m best others; here all
others count, by how like the item they are, with CIDEr-D. Captions nearest in the joint space stand beside those of the
nearest items. What each change brought stands in tasks/README.md; the values were chosen by folds inside Flickr8k's
training split.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.captioning.cider import Captions, cider_d

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Rule:
    """How a caption is chosen."""

    neighbours: int = 20
    """Training items nearest by the medium's own embeddings, whose captions are candidates."""
    texts: int = 200
    """Training captions nearest in the joint space, which are candidates too."""
    sharpness: float = 6.0
    """How much more a caption counts in the agreement that is more like the item: the inverse of a temperature."""
    fit: float = 0.8
    """Weight of the fit in the joint space beside the agreement, both as z-scores over the candidates."""


def voices(likeness: Array, sharpness: float) -> Array:
    """How much each candidate counts, (n,), summing to 1: the softmax of `sharpness` · likeness (n,).

    >>> voices(np.array([0.5, 0.5], np.float32), 6.0).tolist()
    [0.5, 0.5]
    """
    weights = np.exp(sharpness * (likeness - likeness.max()))
    return np.asarray(weights / weights.sum(), np.float32)


def agreement(candidates: Captions, weights: Array) -> Array:
    """(n,): the sum over all other candidates of weight (n,) · CIDEr-D / 10, 0 to 1; of one alone 0."""
    scores = cider_d(candidates, candidates) / 10
    np.fill_diagonal(scores, 0)
    return np.asarray(scores @ weights, np.float32)


def totals(agreement: Array, fit: Array, weight: float) -> Array:
    """(n,): what ranks candidates, from their agreement (n,) and cosines to the item (n,) in the joint space.

    >>> totals(np.array([0.1, 0.3], np.float32), np.array([0.5, 0.4], np.float32), 0.5).round(3).tolist()
    [-0.5, 0.5]
    """
    return z_scores(agreement) + np.float32(weight) * z_scores(fit)


def z_scores(values: Array) -> Array:
    """Minus the mean, by the standard deviation; all 0 where they do not differ.

    >>> z_scores(np.array([1.0, 3.0], np.float32)).tolist(), z_scores(np.ones(2, np.float32)).tolist()
    ([-1.0, 1.0], [0.0, 0.0])
    """
    spread = values.std()
    return np.asarray((values - values.mean()) / spread if spread > 1e-9 else np.zeros_like(values), np.float32)
