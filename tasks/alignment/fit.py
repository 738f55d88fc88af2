"""Fit a joint space from the embeddings of pairs: features, regularisation chosen over groups, heads, query banks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.alignment import cca, ridge
from tasks.alignment.cca import Moments, cross_moment, moments
from tasks.alignment.features import Features
from tasks.alignment.procrustes import rotate
from tasks.alignment.selection import Choice, choose
from tasks.alignment.space import Head, JointSpace
from tasks.retrieval.similarity import normalise

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Heads = tuple[Array, Array]

METHODS = ("cca", "ridge", "procrustes")


@dataclass(frozen=True)
class View:
    """The training items of one modality: embeddings {encoder: (n, d)}, rows aligned, and each item's group (n,)."""

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
    pca: int = 1280
    folds: int = 3
    hubness_k: int = 10
    bank: int = 5_000
    seed: int = 0


@dataclass(frozen=True)
class Fitted:
    """The space, and what it takes to fit its heads anew on other pairs of the same items (for controls)."""

    space: JointSpace
    refit: Callable[[Indices, int], JointSpace]


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
    Deterministic under `plan.seed`. A refit keeps the values, Cx and Cy, and takes Cxy from its own pairs; its second
    argument bounds its bank.
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
    whole = moments(x, y, pairs, weights)
    solve = solver(plan.method, whole, choice, plan.dim)

    def build(links: Indices, xy: npt.NDArray[np.float64], bank: int, facts: Mapping[str, Any]) -> JointSpace:
        matrices = [padded(matrix) for matrix in solve(xy)]
        heads, banks = {}, {}
        for side, (view, one, z, matrix) in enumerate(zip((left, right), features, (x, y), matrices, strict=True)):
            heads[view.modality] = Head(one, matrix)
            banks[view.modality] = normalise(z[bank_rows(links[:, side], bank, plan.seed)] @ matrix)
        return JointSpace(heads, banks, plan.hubness_k, facts)

    facts = {
        "method": plan.method,
        "chosen": choice.values,
        "tried": choice.tried,
        "pairs": len(pairs),
        "seed": plan.seed,
    }
    return Fitted(
        build(pairs, whole.xy, plan.bank, facts), lambda links, bank: build(links, cross_moment(x, y, links), bank, {})
    )


def solver(method: str, m: Moments, choice: Choice, dim: int) -> Callable[[npt.NDArray[np.float64]], Heads]:
    """A function from Cxy to the heads of a closed form, for given Cx, Cy and chosen values."""
    if method == "cca":
        return cca.solver(m.xx, m.yy, rx=choice["rx"], ry=choice["ry"], p=choice["p"], dim=dim)
    if method == "ridge":
        return ridge.solver(m.xx, m.yy, rx=choice["rx"], ry=choice["ry"])
    return partial(rotate, dim=dim)


def padded(matrix: Array, multiple: int = 8) -> Array:
    """A head (d, w) with columns of zeros up to a multiple in width: no cosine changes, and every index takes it.

    >>> padded(np.ones((2, 3), np.float32)).shape
    (2, 8)
    """
    return np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % multiple)))


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


def bank_rows(rows: Indices, size: int, seed: int) -> Indices:
    """The training queries of a bank: `rows` once each, sorted, at most `size` of them, drawn by seed."""
    rows = np.unique(rows)
    if len(rows) > size:
        rows = np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))
    return rows
