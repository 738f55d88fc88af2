"""CIDEr and CIDEr-D: how far captions agree in what is worth saying. Source: Vedantam et al. 2015.

A caption is four vectors, one each of its 1- to 4-grams, of counts times idf: log of the number of reference sets over
the number of those that hold the n-gram. Two captions are compared by the mean of the four cosines. CIDEr-D clips what
a caption repeats beyond the reference, falls with the difference of the lengths by a Gaussian of sigma 6, and is ×10.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tasks.captioning.tokens import tokens

Array = npt.NDArray[np.float32]
Gram = tuple[str, ...]

ORDERS = (1, 2, 3, 4)
SIGMA = 6.0
"""Of the penalty of lengths, in words."""


def grams(words: Sequence[str], n: int) -> Counter[Gram]:
    """How often each n-gram stands in a caption.

    >>> grams(["a", "dog", "a", "dog"], 2)
    Counter({('a', 'dog'): 2, ('dog', 'a'): 1})
    """
    return Counter(zip(*(words[start:] for start in range(n)), strict=False))


@dataclass(frozen=True)
class Captions:
    """Captions made comparable: counts (n, v) of their n-grams by order, the weight idf (v,) of each, words (n,)."""

    counts: tuple[Any, ...]
    idf: tuple[npt.NDArray[np.float64], ...]
    lengths: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, chosen: Any) -> Captions:
        """Some of the captions, by index."""
        return Captions(tuple(one[chosen] for one in self.counts), self.idf, self.lengths[chosen])


class Idf:
    """The weight of n-grams by the reference sets of a corpus, each the captions of one item."""

    def __init__(self, sets: Iterable[Sequence[str]]) -> None:
        self._found: Counter[Gram] = Counter()
        self.sets = 0
        for captions in sets:
            said = [tokens(one) for one in captions]
            self._found.update({gram for words in said for n in ORDERS for gram in grams(words, n)})
            self.sets += 1

    def __call__(self, gram: Gram) -> float:
        """Log of the sets over those with the n-gram, one for an n-gram that none has. Never below 0.

        >>> round(Idf([["a dog"], ["a cat"]])(("dog",)), 3), Idf([["a dog"], ["a cat"]])(("a",))
        (0.693, 0.0)
        """
        return float(np.log(max(self.sets, 1)) - np.log(max(self._found.get(gram, 0), 1)))

    def captions(self, texts: Sequence[str]) -> Captions:
        """Captions of one vocabulary, to be compared with each other."""
        said = [tokens(one) for one in texts]
        counts, weights = [], []
        for n in ORDERS:
            places: dict[Gram, int] = {}
            rows, columns, values = [], [], []
            for row, words in enumerate(said):
                for gram, times in grams(words, n).items():
                    rows.append(row)
                    columns.append(places.setdefault(gram, len(places)))
                    values.append(times)
            shape = (len(said), max(len(places), 1))
            counts.append(sparse.csr_array((np.array(values, np.float64), (rows, columns)), shape=shape))
            weights.append(np.array([self(gram) for gram in places] or [0.0]))
        return Captions(tuple(counts), tuple(weights), np.array([len(words) for words in said], np.float64))


def cider(candidates: Captions, references: Captions) -> Array:
    """CIDEr (n, m) of each candidate to each reference, 0 to 1, without clipping or lengths.

    Both are of one vocabulary. A caption without any n-gram of weight has 0 in that order.
    """
    total = np.zeros((len(candidates), len(references)))
    for left, right, idf in zip(candidates.counts, references.counts, candidates.idf, strict=True):
        dots = (left * idf**2) @ right.T
        total += _cosines(dots, _norms(left, idf), _norms(right, idf))
    return np.asarray(total / len(ORDERS), np.float32)


def cider_d(candidates: Captions, references: Captions) -> Array:
    """CIDEr-D (n, m) of each candidate to each reference, 0 to 10; the score of a candidate is the mean over its own.

    Both are of one vocabulary.
    """
    total = np.zeros((len(candidates), len(references)))
    for left, right, idf in zip(candidates.counts, references.counts, candidates.idf, strict=True):
        weighted = right * idf**2
        dots = _reaching(left, 1) @ weighted.T
        for level in range(2, int(left.data.max(initial=1)) + 1):  # min(a, b) is how many levels both reach
            dots += _reaching(left, level) @ (_reaching(right, level) * weighted).T
        total += _cosines(dots, _norms(left, idf), _norms(right, idf))
    apart = candidates.lengths[:, None] - references.lengths[None, :]
    return np.asarray(10 * total / len(ORDERS) * np.exp(-(apart**2) / (2 * SIGMA**2)), np.float32)


def _reaching(counts: Any, level: int) -> Any:
    return (counts >= level).astype(np.float64)


def _norms(counts: Any, idf: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    squares: npt.NDArray[np.float64] = np.asarray((counts * idf).power(2).sum(axis=1)).ravel()
    return np.sqrt(squares)


def _cosines(dots: Any, left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    scale = left[:, None] * right[None, :]
    return np.asarray(np.divide(dots.toarray(), scale, out=np.zeros_like(scale), where=scale > 0))
