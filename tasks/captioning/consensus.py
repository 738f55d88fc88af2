"""Which of the retrieved captions to take: that on which the others agree, and which fits the item.

Source: consensus captioning, Devlin et al. 2015. There the agreement is with the m best others; here it is with all of
them, by CIDEr-D, and the captions nearest in the joint space stand beside those of the nearest items. What each change
brought stands in tasks/README.md; the three values were chosen by folds inside Flickr8k's training split.
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
    texts: int = 100
    """Training captions nearest in the joint space, which are candidates too."""
    fit: float = 1.0
    """Weight of the fit in the joint space beside the agreement, both as z-scores over the candidates."""


def agreement(candidates: Captions) -> Array:
    """(n,): the mean CIDEr-D of each candidate to all others over its largest value, 0 to 1; of one alone 0."""
    scores = cider_d(candidates, candidates)
    np.fill_diagonal(scores, 0)
    return np.asarray(scores.sum(1) / (10 * max(len(scores) - 1, 1)), np.float32)


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
