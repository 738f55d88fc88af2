"""CCA on given and soft pseudo-pairs: unpaired items lend a hand where few pairs are known.

Each unpaired item is paired with a barycentre of the other modality: the mean of its nearest items under CSLS,
weighted by a softmax. Rounds refit the heads and find the barycentres anew. As many rounds are taken as rank held-out
groups of given pairs better; with many pairs that is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from tasks.alignment.methods import cca, rounds
from tasks.alignment.methods.rounds import Leaning, Pool, Round, narrowed, neighbours, pseudo_pairs, refit
from tasks.alignment.problem import Choice, Maps, Problem
from tasks.retrieval.similarity import normalise

Indices = npt.NDArray[np.int64]


def choose(problem: Problem) -> Choice:
    """The number of rounds that ranks best over the folds, with CCA's values for their start; none where all hurt."""
    return rounds.choose(problem, _rounds)


def prepare(problem: Problem, choice: Choice) -> Callable[[Indices], Maps]:
    """A function from given pairs to heads; the items that no pair of the problem holds are the unpaired ones."""
    return rounds.prepare(problem, choice, _rounds)


def fit(problem: Problem, choice: Choice, pairs: Indices) -> tuple[Maps, list[Leaning]]:
    """Heads by given pairs, and the pseudo-pairs that they stand on."""
    return rounds.fit(problem, choice, pairs, _rounds)


def _rounds(problem: Problem, choice: Choice, pairs: Indices, pool: Pool) -> Iterator[Round]:
    narrow = narrowed(problem)
    last = Round(cca.prepare(narrow, choice)(pairs))
    ux, uy = (z[:, : of.shape[1]] for z, of in zip(pool, (narrow.x, narrow.y), strict=True))
    while True:
        yield last
        zx, zy = (normalise(one.apply(z)) for one, z in zip(last.maps, (ux, uy), strict=True))
        found = neighbours(zx, zy)
        last = Round(refit(narrow, pairs, pseudo_pairs(found, ux, uy)), [found])
