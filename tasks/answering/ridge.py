"""Kernel ridge regression from question and medium to the frequent answers.

The kernel is the product exp((q·q' − 1)/w) · (s + (1 − s)·exp((m·m' − 1)/w)): a ridge over all products of a question's
and a medium's features, beside those of the question alone. Exact up to `LANDMARKS` rows, beyond them by the Nyström
method on as many drawn rows (Williams and Seeger 2001), so memory is bounded by them and a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tasks.answering.rows import Array, Asked, Indices, Stored

LANDMARKS = 6_000
FREQUENT = 1_000
"""Answers that are regressed to, at most."""
LEAST = 2
"""How often such an answer is given."""
_ALONE = 0.2  # s: how much a question counts by itself
_BLOCK = 1_024
_JITTER = 1e-6  # a row


@dataclass(frozen=True)
class Kernel:
    """Width w and penalty of a ridge; without `sees` the question counts alone."""

    width: float = 1.0
    penalty: float = 0.3
    sees: bool = True

    def between(self, one: Asked, other: Asked) -> Array:
        """Kernel values (m, n)."""
        out = np.exp(((one.questions[one.question] @ other.questions.T) - 1) / self.width)[:, other.question]
        if self.sees:
            near = np.exp(((one.media[one.medium] @ other.media.T) - 1) / self.width)
            out *= (_ALONE + (1 - _ALONE) * near)[:, other.medium]
        return np.asarray(out, np.float32)


@dataclass(frozen=True)
class Ridge:
    """Scores of `answers` (c,) = kernel to `landmarks` (m) · `weights` (m, c) + `prior` (c,): about their chance."""

    kernel: Kernel
    landmarks: Asked
    weights: Array
    prior: Array
    answers: Indices

    def scores(self, asked: Asked, count: int) -> Array:
        """Of each of `count` answers, (m, count); 0 for those that are rare."""
        out = np.zeros((len(asked), count), np.float32)
        out[:, self.answers] = self.kernel.between(asked, self.landmarks) @ self.weights + self.prior
        return np.maximum(out, 0)

    def arrays(self) -> dict[str, Array]:
        """All arrays by name, distinct vectors in half precision."""
        lands = self.landmarks
        half: dict[str, Any] = {
            "questions": lands.questions.astype(np.float16),
            "media": lands.media.astype(np.float16),
            "weights": self.weights.astype(np.float16),
        }
        plain = {"question": lands.question, "medium": lands.medium, "prior": self.prior, "answers": self.answers}
        return half | plain

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], kernel: Kernel) -> Self:
        """The inverse of `arrays`."""
        questions, media, weights = (arrays[name].astype(np.float32) for name in ("questions", "media", "weights"))
        place = arrays["question"]
        lands = Asked(questions, media, place, arrays["medium"], np.zeros(len(place), np.int64))
        return cls(kernel, lands, weights, arrays["prior"], arrays["answers"])


def frequent(answers: Indices) -> Indices:
    """The numbers of the answers that are regressed to, sorted.

    >>> frequent(np.array([3, 3, 5, 4, 4])).tolist()
    [3, 4]
    """
    names, counts = np.unique(answers, return_counts=True)
    best = np.argsort(-counts, kind="stable")[:FREQUENT]
    return np.sort(names[best[counts[best] >= LEAST]])


def fit_ridge(stored: Stored, kernel: Kernel, seed: int) -> Ridge | None:
    """Fit on stored rows; None where no answer is frequent."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    names = frequent(stored.answer)
    if not len(names):
        return None
    prior = np.array([(stored.answer == one).mean() for one in names], np.float32)
    exact = len(stored) <= LANDMARKS
    chosen = np.arange(len(stored))
    if not exact:
        chosen = np.sort(np.random.default_rng(seed).choice(len(stored), LANDMARKS, replace=False))
    lands = _compact(stored.part(chosen))
    own: npt.NDArray[Any] = kernel.between(lands, lands).astype(np.float32 if exact else np.float64)
    if exact:
        own[np.diag_indices(len(own))] += np.float32(kernel.penalty)
        right = _targets(stored.answer, names) - prior
        weights = cho_solve(cho_factor(own, overwrite_a=True, check_finite=False), right, check_finite=False)
    else:
        right = np.zeros((len(lands), len(names)))
        gram = np.asarray(kernel.penalty * own)
        gram[np.diag_indices(len(own))] += _JITTER * len(stored)
        for start in range(0, len(stored), _BLOCK):
            part = stored.part(slice(start, start + _BLOCK))
            block = kernel.between(part, lands).astype(np.float64)
            gram += block.T @ block
            right += block.T @ (_targets(part.answer, names) - prior)
        try:
            weights = cho_solve(cho_factor(gram, overwrite_a=True, check_finite=False), right, check_finite=False)
        except LinAlgError:
            return None
    return Ridge(kernel, lands, np.asarray(weights, np.float32), prior, names)


def _targets(answers: Indices, names: Indices) -> Array:
    return np.asarray(answers[:, None] == names[None], np.float32)


def _compact(rows: Stored) -> Asked:
    """The rows with those distinct vectors alone that they have."""
    questions, question = np.unique(rows.question, return_inverse=True)
    media, medium = np.unique(rows.medium, return_inverse=True)
    return Asked(
        rows.questions[questions], rows.media[media], question.astype(np.int64), medium.astype(np.int64), rows.type
    )
