"""Answers to choose from where nothing like the question was ever answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasks.media.text import cjk_runs

Array = npt.NDArray[np.float32]

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")
_COLOURS_ZH = ("红色", "橙色", "黄色", "绿色", "蓝色", "紫色", "粉色", "棕色", "黑色", "白色", "灰色")
_STOP = frozenset(
    """a an the of in on at to and or is are was were it its with for from by as this that there his her their two one
    some very up down over under near while""".split()  # noqa: SIM905 - a list of words reads so
)


def likely(question: str, kind: str, captions: Sequence[str], most: int = 20) -> tuple[str, ...]:
    """Answers that fit a question's type: yes and no, small numbers, colours; else the words of captions, by frequency.

    >>> likely("is it a dog?", "yes/no", [])
    ('yes', 'no')
    >>> likely("what is it?", "what", ["a dog runs", "the brown dog"], most=2)
    ('dog', 'runs')
    """
    chinese = bool(cjk_runs(question))
    if kind == "yes/no":
        return ("是", "不是") if chinese else ("yes", "no")
    if kind == "count":
        return tuple(str(one) for one in range(11))
    if kind == "colour":
        return _COLOURS_ZH if chinese else COLOURS
    asked = set(_words(question))
    said = Counter(word for one in captions for word in dict.fromkeys(_words(one)) if word not in asked)
    return tuple(word for word, _ in said.most_common(most))


def statement(question: str, answer: str) -> str:
    """A question and an answer as one text, to compare with a medium."""
    return f"{question.rstrip('?？ ')}: {answer}"


def plausible(words: Array, medium: Array, usual: Array) -> Array:
    """Shares (c,) of texts (c, d) as what a medium (d,) shows: by how much nearer it is to each than `usual` (n, d).

    A softmax, at temperature ½, of its cosine in standard deviations above the mean of theirs.
    """
    z = _nearness(words, medium, usual) * 2
    shares = np.exp(z - z.max())
    return np.asarray(shares / shares.sum(), np.float32)


def holds(question: Array, medium: Array, usual: Array) -> float:
    """How likely a yes-or-no question (d,) holds of a medium (d,): ½ at a standard deviation above `usual` ones."""
    z = float(_nearness(question[None], medium, usual)[0])
    return float(0.5 * (1 + np.tanh(z - 1)))


def _nearness(words: Array, medium: Array, usual: Array) -> Array:
    near = words @ usual.T
    return np.asarray((words @ medium - near.mean(1)) / np.maximum(near.std(1), 1e-6), np.float32)


def _words(text: str) -> list[str]:
    clean = "".join(one if one.isalnum() else " " for one in text.casefold())
    return [word for word in clean.split() if len(word) > 1 and word not in _STOP]
