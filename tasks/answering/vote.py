"""The vote of the stored rows nearest to a question and its medium."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.answering.rows import Array, Asked, Flags, Indices, Stored

_APART = 1e3  # z-scores between rows of the question's type and others


@dataclass(frozen=True)
class Vote:
    """score = z(question similarity) + alpha · z(media similarity); `k` rows vote with exp(score / temperature).

    Without a question (`asks` false) the media alone decide, with alpha 0 the questions alone.
    """

    alpha: float = 0.6
    k: int = 20
    temperature: float = 1.0
    asks: bool = True


def scores(stored: Stored, asked: Asked, vote: Vote, known: Flags) -> Array:
    """Scores (m, n) of n stored rows for m questions, z over all stored rows; those of another type far behind.

    Of a type that no stored row has (`known` (types,) tells), all rows count. Memory is m × n: ask for a few at a time.
    """
    total = np.zeros((len(asked), len(stored)), np.float32)
    if vote.asks:
        total += _z((asked.questions[asked.question] @ stored.questions.T)[:, stored.question])
    if vote.alpha or not vote.asks:
        near = _z((asked.media[asked.medium] @ stored.media.T)[:, stored.medium])
        total += near * np.float32(vote.alpha if vote.asks else 1.0)
    if vote.asks:
        other = (asked.type[:, None] != stored.type[None]) & known[asked.type][:, None]
        total -= np.float32(_APART) * other
    return total


def nearest(total: Array, k: int) -> tuple[Indices, Array]:
    """Places of the k best of each row of `total` (m, n), best first, and their scores: (m, min(k, n)) both."""
    k = min(k, total.shape[1])
    found = (
        np.argpartition(-total, k - 1, axis=1)[:, :k]
        if k < total.shape[1]
        else np.arange(k)[None].repeat(len(total), 0)
    )
    best = np.take_along_axis(total, found, 1)
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(found, order, 1).astype(np.int64), np.take_along_axis(best, order, 1)


def shares(answers: Indices, best: Array, temperature: float, count: int) -> Array:
    """The share of each of `count` answers in the vote of rows with these answers and scores (m, k): (m, count).

    >>> shares(np.array([[0, 1, 1, 1]]), np.ones((1, 4), np.float32), 1.0, 3).tolist()
    [[0.25, 0.75, 0.0]]
    """
    weights = np.exp((best - best[:, :1]) / temperature).astype(np.float64)
    place = np.arange(len(answers))[:, None] * count + answers
    out = np.bincount(place.ravel(), weights.ravel(), len(answers) * count).reshape(len(answers), count)
    return np.asarray(out / out.sum(1, keepdims=True), np.float32)


def _z(x: Array) -> Array:
    spread = np.maximum(x.std(1, keepdims=True), 1e-6)
    return np.asarray((x - x.mean(1, keepdims=True)) / spread, np.float32)
