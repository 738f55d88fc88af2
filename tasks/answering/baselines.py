"""What an answer is worth more than: guesses that look at less."""

from __future__ import annotations

import numpy as np

from tasks.answering.rows import Indices

NAMES = ("question only", "media only", "per question type", "majority", "random")
"""All of them; the first two are the method itself, blind or deaf."""


def majority(answers: Indices, count: int, asked: int) -> Indices:
    """The most frequent answer, for each of `asked` questions.

    >>> majority(np.array([2, 1, 2]), 3, 2).tolist()
    [2, 2]
    """
    return np.full(asked, np.bincount(answers, minlength=count).argmax())


def per_type(answers: Indices, types: Indices, asked: Indices) -> Indices:
    """The most frequent answer to questions of the same type (m,); of all where no row has the type.

    >>> per_type(np.array([0, 0, 1]), np.array([0, 0, 1]), np.array([1, 0, 2])).tolist()
    [1, 0, 0]
    """
    usual = np.bincount(answers).argmax()
    best = {one: np.bincount(answers[types == one]).argmax() for one in np.unique(types)}
    return np.array([best.get(one, usual) for one in asked], np.int64)


def drawn(answers: Indices, asked: int, seed: int) -> Indices:
    """Answers drawn from the stored ones, as often as they are given."""
    return np.random.default_rng(seed).choice(answers, asked)
