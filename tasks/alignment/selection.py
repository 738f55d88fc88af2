"""Choose the regularisation by cross-validation over groups. In the eigenbasis a trial costs one small SVD."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.alignment import ridge
from tasks.alignment.cca import Moments, moments, thin_svd, without
from tasks.metrics.retrieval import per_query, positions, rsum, summary
from tasks.retrieval.hubness import corrected, hubness_terms
from tasks.retrieval.similarity import normalise

Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

RIDGES_X = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
RIDGES_Y = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
POWERS = (0.5, 0.7, 0.85, 1.0, 1.5)
_QUERIES = 1_000  # held-out pairs a fold is scored on, and training queries behind its hubness terms
_FINALISTS = 12


@dataclass(frozen=True)
class Choice:
    """The chosen values by name, and every value tried with its held-out rsum."""

    values: Mapping[str, float]
    tried: list[dict[str, Any]]

    def __getitem__(self, name: str) -> float:
        return self.values[name]


@dataclass(frozen=True)
class _Fold:
    """What a trial needs of one fold: training moments, held-out pairs and training queries, in features."""

    m: Moments
    x: Array
    y: Array
    bank_x: Array
    bank_y: Array
    k: int

    def score(self, a: Array, b: Array) -> float:
        """Held-out rsum of heads, with the hubness correction."""
        x, y, bank_x, bank_y = (
            normalise(z @ head) for z, head in ((self.x, a), (self.y, b), (self.bank_x, a), (self.bank_y, b))
        )
        s = x @ y.T
        relevant = np.arange(len(x))[:, None]
        ways = (corrected(s, hubness_terms(y, bank_x, self.k)), corrected(s.T, hubness_terms(x, bank_y, self.k)))
        return rsum(*(summary(per_query(positions(way, relevant), relevant)) for way in ways))


def choose(
    method: str, x: Array, y: Array, pairs: Indices, groups: Indices, *, dim: int, folds: int, seed: int, k: int
) -> Choice:
    """Values for `method` that rank held-out groups best.

    `x` (nx, wx) and `y` (ny, wy) are features, `pairs` (m, 2) their rows, `groups` (nx,) the left items' groups. All
    values are tried on the first fold, the best few on the others; the winner has the best mean.
    """
    if method == "procrustes":
        return Choice({}, [])
    parts = list(_folds(x, y, pairs, groups, folds, seed, k))
    trials = _cca_trials if method == "cca" else _ridge_trials
    scores: dict[tuple[float, ...], list[float]] = {key: [s] for key, s in trials(parts[0], None, dim)}
    best = sorted(scores, key=lambda key: -scores[key][0])[:_FINALISTS]
    for fold in parts[1:]:
        for key, score in trials(fold, set(best), dim):
            scores[key].append(score)
    names = ("rx", "ry", "p")
    winner = max(best, key=lambda key: float(np.mean(scores[key])))
    tried = [
        dict(zip(names, key, strict=False)) | {"rsum": round(float(np.mean(s)), 3), "folds": len(s)}
        for key, s in sorted(scores.items())
    ]
    return Choice(dict(zip(names, winner, strict=False)), tried)


def _folds(x: Array, y: Array, pairs: Indices, groups: Indices, folds: int, seed: int, k: int) -> Iterator[_Fold]:
    generator = np.random.default_rng(seed)
    names, number = np.unique(groups[pairs[:, 0]], return_inverse=True)
    fold_of = generator.permutation(np.arange(len(names)) % folds)[number]
    whole = moments(x, y, pairs)
    for fold in range(folds):
        train, out = pairs[fold_of != fold], pairs[fold_of == fold]
        if not len(train) or not len(out):
            continue
        held = _one_each(out, generator)[:_QUERIES]
        bank = _one_each(train, generator)[:_QUERIES]
        m = without(whole, moments(x, y, out), len(out) / len(pairs))
        yield _Fold(m, x[held[:, 0]], y[held[:, 1]], x[bank[:, 0]], y[bank[:, 1]], k)


def _one_each(pairs: Indices, generator: np.random.Generator) -> Indices:
    """One pair of each left item and of each right item, in random order."""
    mixed = pairs[generator.permutation(len(pairs))]
    mixed = mixed[np.unique(mixed[:, 0], return_index=True)[1]]
    mixed = mixed[np.unique(mixed[:, 1], return_index=True)[1]]
    return mixed[generator.permutation(len(mixed))]


def _cca_trials(
    fold: _Fold, only: set[tuple[float, ...]] | None, dim: int
) -> Iterator[tuple[tuple[float, ...], float]]:
    """Score CCA for each (rx, ry, p): the eigenbases are found once, a trial scales and decomposes Cxy in them."""
    bases = [np.linalg.eigh(moment) for moment in (fold.m.xx, fold.m.yy)]
    (dx, vx), (dy, vy) = bases
    inner = vx.T @ fold.m.xy @ vy
    x, y, bank_x, bank_y = (
        np.asarray(z @ v, np.float32) for z, v in ((fold.x, vx), (fold.y, vy), (fold.bank_x, vx), (fold.bank_y, vy))
    )
    turned = _Fold(fold.m, x, y, bank_x, bank_y, fold.k)
    for rx, ry in product(RIDGES_X, RIDGES_Y):
        powers = [p for p in POWERS if only is None or (rx, ry, p) in only]
        if not powers:
            continue
        wx, wy = _scale(dx, rx), _scale(dy, ry)
        u, sigma, vt = thin_svd(wx[:, None] * inner * wy)
        for p in powers:
            weight = sigma[:dim] ** p
            a, b = wx[:, None] * u[:, :dim] * weight, wy[:, None] * vt.T[:, :dim] * weight
            yield (rx, ry, p), turned.score(a.astype(np.float32), b.astype(np.float32))


def _scale(values: Wide, ridge: float) -> Wide:
    return np.asarray(1 / np.sqrt(np.maximum(values, 0) + ridge * values.mean() + 1e-12))


def _ridge_trials(
    fold: _Fold, only: set[tuple[float, ...]] | None, _dim: int
) -> Iterator[tuple[tuple[float, ...], float]]:
    for rx, ry in product((0.1, 1.0, 10.0), repeat=2):
        if only is None or (rx, ry) in only:
            yield (rx, ry), fold.score(*ridge.solver(fold.m.xx, fold.m.yy, rx=rx, ry=ry)(fold.m.xy))
