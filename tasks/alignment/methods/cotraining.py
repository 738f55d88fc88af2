"""Co-training: two views of the same items label the unpaired ones for each other. Source: Blum and Mitchell 1998.

The views are the encoders of a modality, every second one in either view. A lone encoder serves both views; where
neither modality has two, its odd and its even principal components do. In a round each view finds soft pseudo-pairs in
its own joint space (as `soft` does in the whole one), and the other view is refitted on them: what one knows is new to
the other. The heads are a CCA of all features on the given pairs and on those that both views have found. As many
rounds are taken as rank held-out groups of given pairs better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tasks.alignment.methods import cca, rounds
from tasks.alignment.methods.rounds import (
    WIDTH,
    Both,
    Leaning,
    Pool,
    Pseudo,
    Round,
    narrowed,
    neighbours,
    pseudo_pairs,
    refit,
)
from tasks.alignment.problem import Choice, Maps, Problem
from tasks.retrieval.similarity import normalise

Array = npt.NDArray[np.float32]
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
    yield Round(cca.prepare(narrow, choice)(pairs))
    views = [_ways(problem, view) for view in (0, 1)]
    seen = [_seen(problem, ways) for ways in views]
    maps = [cca.prepare(one, choice)(pairs) for one in seen]
    while True:
        found = [_neighbours(both, ways, pool) for both, ways in zip(maps, views, strict=True)]
        made = [pseudo_pairs(one, *pool) for one in found]
        both = Pseudo.joined(made)
        yield Round(refit(narrow, pairs, both._replace(x=both.x[:, :WIDTH], y=both.y[:, :WIDTH]), views=2), found)
        maps = [
            refit(one, pairs, other.through(ways)) for one, ways, other in zip(seen, views, made[::-1], strict=True)
        ]


def _ways(problem: Problem, view: int) -> tuple[Array, Array]:
    """For either side the matrix (width, w) from its features to the leading principal components of a view."""
    split = all(len(blocks) < 2 for blocks in problem.blocks)
    left, right = (
        _way(blocks, z.shape[1], view, split=split)
        for blocks, z in zip(problem.blocks, (problem.x, problem.y), strict=True)
    )
    return left, right


def _way(blocks: list[Array], width: int, view: int, *, split: bool) -> Array:
    if len(blocks) > 1:
        own = blocks[view::2]
        return np.concatenate([one[: WIDTH // len(own)] for one in own]).T
    return np.eye(width, dtype=np.float32)[:, slice(view, None, 2) if split else slice(None)][:, :WIDTH]


def _seen(problem: Problem, ways: tuple[Array, Array]) -> Problem:
    return replace(problem, x=problem.x @ ways[0], y=problem.y @ ways[1], known=None, chosen={})


def _neighbours(maps: Maps, ways: tuple[Array, Array], pool: Pool) -> Both:
    """What a view finds in its own joint space."""
    zx, zy = (normalise(one.apply(z @ way)) for one, z, way in zip(maps, pool, ways, strict=True))
    return neighbours(zx, zy)
