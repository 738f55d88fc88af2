"""Class names as a bridge: what a classifier takes an item for, in the words of the other side's encoders.

A classifier has learned what its classes look like, and their names the pairs need not teach again: where pairs are few
that is most of what is known. An item's classes, as their names lie in the joint space, stand beside its own place.
Source: Norouzi et al. 2014 (ConSE), which maps into the vectors of words, where this maps into the joint space.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from tasks.alignment.maps import Linear, Named, softmax
from tasks.retrieval.similarity import normalise

if TYPE_CHECKING:
    from tasks.alignment.problem import Maps, Problem

Array = npt.NDArray[np.float32]
_SHARPNESS = 1.5
"""Of the softmax over scores in standard deviations; between 1 and 2 it hardly matters: README."""


@dataclass(frozen=True)
class Classes:
    """Scores of one list of classes by several encoders: mean and spread (c,) of each one's over the training items.

    Scores are standardised class by class: all drawings look like the same few classes, and what differs tells.
    """

    maps: Mapping[str, tuple[Array, Array]]

    @classmethod
    def fit(cls, vectors: Mapping[str, Array], encoders: Iterable[str]) -> Self:
        """Fit on the scores {encoder: (n, c)} of training items by these encoders."""
        found = {name: vectors[name] for name in encoders}
        return cls({name: (one.mean(0), one.std(0) + np.float32(1e-6)) for name, one in found.items()})

    def apply(self, vectors: Mapping[str, Array]) -> list[Array]:
        """Scores {encoder: (n, c)} → logits of the classes by all encoders together, as one part (n, 1, c)."""
        total = sum((vectors[name] - mean) / spread for name, (mean, spread) in self.maps.items())
        return [np.asarray(total * (_SHARPNESS / np.sqrt(len(self.maps))), np.float32)[:, None]]

    def arrays(self) -> dict[str, Array]:
        """All arrays by name."""
        out: dict[str, Array] = {}
        for place, (mean, spread) in enumerate(self.maps.values()):
            out |= {f"encoder{place}.mean": mean, f"encoder{place}.spread": spread}
        return out

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], encoders: Iterable[str]) -> Self:
        """The inverse of `arrays`, given the encoders' names in order."""
        names = enumerate(encoders)
        return cls({e: (arrays[f"encoder{place}.mean"], arrays[f"encoder{place}.spread"]) for place, e in names})


@dataclass(frozen=True)
class Naming:
    """Side 0 or 1 has classes: the `logits` (n, 1, c) of its items, and the mean `shares` (c,) that they come to.

    `names` (c, w) are the features of the classes' names on the other side.
    """

    side: int
    logits: Array
    names: Array
    shares: Array

    @classmethod
    def of(cls, side: int, logits: Array, names: Array) -> Self:
        """The naming of a side by logits and names."""
        return cls(side, logits, names, softmax(logits[:, 0]).mean(0, dtype=np.float64).astype(np.float32))


def named(problem: Problem, maps: Maps, weight: float) -> Maps:
    """The maps, and what its classes say beside that of the side that has some, if it is linear."""
    naming = problem.naming
    if naming is None or not weight:
        return maps
    own, other = maps[naming.side], maps[1 - naming.side]
    if not isinstance(own, Linear):
        return maps
    names = normalise(other.apply(naming.names))
    found = Named(own.matrix, naming.shares, names, np.array([weight], np.float32))
    return (found, other) if naming.side == 0 else (other, found)


def unnamed(maps: Maps) -> Maps:
    """The maps without what `named` has put beside them."""
    left, right = (Linear(one.matrix) if isinstance(one, Named) else one for one in maps)
    return left, right
