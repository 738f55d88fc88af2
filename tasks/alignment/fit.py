"""Fit a joint space from the embeddings of pairs: features, regularisation chosen over groups, heads, query banks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.alignment.cca import Moments, fit_cca, moments
from tasks.alignment.features import Features
from tasks.alignment.procrustes import fit_procrustes
from tasks.alignment.ridge import fit_ridge
from tasks.alignment.selection import Choice, choose
from tasks.alignment.space import Head, JointSpace
from tasks.retrieval.similarity import normalise

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

METHODS = ("cca", "ridge", "procrustes")


@dataclass(frozen=True)
class View:
    """The training items of one modality: embeddings {encoder: (n, d)} with aligned rows, and each item's group (n,)."""

    modality: str
    vectors: Mapping[str, Array]
    cnn: Mapping[str, bool]
    groups: Indices

    def __len__(self) -> int:
        return len(self.groups)


@dataclass(frozen=True)
class Plan:
    """How to fit: the method's name and its fixed choices."""

    method: str = "cca"
    dim: int = 384
    pca: int = 512
    folds: int = 3
    hubness_k: int = 10
    bank: int = 10_000
    seed: int = 0


@dataclass(frozen=True)
class Fitted:
    """The space, and the means to fit its heads anew on other pairs of the same items (for controls)."""

    space: JointSpace
    refit: Callable[[Indices], JointSpace]


def fit_space(
    left: View,
    right: View,
    pairs: Indices,
    plan: Plan,
    *,
    weights: npt.NDArray[np.float64] | None = None,
    values: Mapping[str, float] | None = None,
) -> Fitted:
    """Fit the heads of two modalities on `pairs` (m, 2), rows of `left` and `right`.

    The regularisation is chosen by cross-validation over groups inside these items, unless `values` gives it.
    Deterministic under `plan.seed`.
    Raises `ValueError` when there are too few pairs to fit anything.
    """
    if len(pairs) < 4:
        raise ValueError(f"{len(pairs)} pairs between {left.modality} and {right.modality} are too few to align")
    if plan.method not in METHODS:
        raise ValueError(f"there is no method {plan.method!r}; known: {', '.join(METHODS)}")
    features = [Features.fit(view.vectors, cnn=view.cnn, width=plan.pca) for view in (left, right)]
    x, y = (one.apply(view.vectors) for one, view in zip(features, (left, right), strict=True))
    if values is not None:
        choice = Choice(values, [])
    else:
        k = plan.hubness_k
        choice = choose(plan.method, x, y, pairs, left.groups, dim=plan.dim, folds=plan.folds, seed=plan.seed, k=k)

    def build(links: Indices, facts: Mapping[str, Any]) -> JointSpace:
        a, b = solve(plan.method, moments(x, y, links, weights), choice, plan.dim)
        heads = {left.modality: Head(features[0], a), right.modality: Head(features[1], b)}
        banks = {
            view.modality: _bank(normalise(z @ matrix), links[:, side], plan.bank, plan.seed)
            for side, (view, z, matrix) in enumerate(((left, x, a), (right, y, b)))
        }
        return JointSpace(heads, banks, plan.hubness_k, facts)

    facts = {
        "method": plan.method,
        "chosen": choice.values,
        "tried": choice.tried,
        "pairs": len(pairs),
        "seed": plan.seed,
    }
    return Fitted(build(pairs, facts), lambda links: build(links, {}))


def solve(method: str, m: Moments, choice: Choice, dim: int) -> tuple[Array, Array]:
    """The heads of a closed form for given moments and chosen values."""
    if method == "cca":
        return fit_cca(m, rx=choice["rx"], ry=choice["ry"], p=choice["p"], dim=dim)
    if method == "ridge":
        return fit_ridge(m, rx=choice["rx"], ry=choice["ry"])
    return fit_procrustes(m, dim=dim)


def shuffled_pairs(pairs: Indices, groups: Indices, seed: int) -> Indices:
    """The control: each left item gets the partners of another one, of another group where that is possible.

    >>> out = shuffled_pairs(np.array([[0, 0], [1, 1], [2, 2]]), np.array([0, 1, 2]), seed=0)
    >>> bool((out[:, 0] == out[:, 1]).any())
    False
    """
    generator = np.random.default_rng(seed)
    lefts = np.unique(pairs[:, 0])
    ring = generator.permutation(lefts)
    # along a random ring each item hands its partners to the next; a neighbour of the same group is passed over
    step = 1
    while step < len(ring) - 1 and np.mean(groups[ring] == groups[np.roll(ring, step)]) > 0.01:
        step += 1
    target = dict(zip(ring.tolist(), np.roll(ring, step).tolist(), strict=True))
    return np.stack([np.array([target[i] for i in pairs[:, 0].tolist()]), pairs[:, 1]], 1)


def _bank(z: Array, rows: Indices, size: int, seed: int) -> Array:
    """Projected training queries, at most `size`, drawn by seed."""
    rows = np.unique(rows)
    if len(rows) > size:
        rows = np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))
    return np.ascontiguousarray(z[rows])
