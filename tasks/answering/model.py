"""The vote and the ridge together: choosing their values by folds, fitting, answering with a calibrated confidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any, Self

import numpy as np

from tasks.answering.ridge import Kernel, Ridge, fit_ridge
from tasks.answering.rows import Array, Asked, Centre, Flags, Indices, Stored, Table
from tasks.answering.vote import Vote, nearest, scores, shares
from tasks.metrics.bootstrap import Values
from tasks.metrics.calibration import LEAST_GROUPS, LEAST_RIGHT, Curve, fit_curve

TOP = 5
"""Answers that are told of each question."""
MOST = 8_000
"""Rows that choose the values, at most: of more, so many are drawn by group."""
ALPHAS = (0.2, 0.4, 0.7, 1.0)
KS = (5, 10, 20, 40)
TEMPERATURES = (0.3, 0.6, 1.2)
KERNELS = ((1.0, 0.3), (1.0, 0.1), (0.5, 0.3), (2.0, 0.1))
PARTS = (0.0, 0.5, 0.8, 0.9, 0.95, 1.0)
"""Of the ridge in the blend."""
_BLOCK = 256


@dataclass(frozen=True)
class Chosen:
    """The values that answered most held-out questions of the training groups right, and what they are worth.

    `part` is the ridge's in the blend; `right` the share of held-out questions that were answered right; `curve` tells
    the chance that an answer is right, None where there was too little to learn it from.
    """

    vote: Vote = field(default_factory=Vote)
    kernel: Kernel | None = None
    part: float = 0.0
    right: float | None = None
    curve: Curve | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "vote": asdict(self.vote),
            "kernel": None if self.kernel is None else asdict(self.kernel),
            "part": self.part,
            "right": self.right,
            "curve": None if self.curve is None else self.curve.to_json(),
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """The inverse."""
        kernel = None if kept["kernel"] is None else Kernel(**kept["kernel"])
        curve = None if kept["curve"] is None else Curve.from_json(kept["curve"])
        return cls(Vote(**kept["vote"]), kernel, kept["part"], kept["right"], curve)


@dataclass(frozen=True)
class Told:
    """The best `TOP` answers of m questions with their shares (m, TOP), and the chance that the first is right (m,)."""

    answers: Indices
    shares: Array
    confidence: Values | None


@dataclass(frozen=True)
class Model:
    """What answers: the chosen values, the maps of both sides, the ridge where it has a part."""

    chosen: Chosen
    centres: tuple[Centre, Centre]
    ridge: Ridge | None

    def tell(self, stored: Stored, asked: Asked, types: int, answers: int) -> Told:
        """Answer questions by stored rows, both mapped by `centres`; `types` and `answers` are their numbers."""
        known, fit = _types(stored, types, answers)
        top: list[tuple[Indices, Array]] = []
        for part in _blocks(asked):
            mixed = _mixed(
                _voted(stored, part, self.chosen.vote, known, answers),
                None if self.ridge is None else _fitting(self.ridge.scores(part, answers), part, fit),
                self.chosen.part,
            )
            top.append(nearest(mixed, TOP))
        told = np.concatenate([one[0] for one in top]), np.concatenate([one[1] for one in top])
        confidence = None if self.chosen.curve is None else self.chosen.curve.at(_features(told[1]))
        return Told(*told, confidence)


def fit(table: Table, rows: Indices, chosen: Chosen, *, seed: int = 0) -> Model:
    """The model of some rows of a table with chosen values."""
    centres = table.centres(rows)
    ridge = None
    if chosen.kernel is not None and chosen.part > 0:
        ridge = fit_ridge(table.mapped(centres).part(rows), chosen.kernel, seed)
    return Model(chosen, centres, ridge)


def choose(
    table: Table, rows: Indices, *, sees: bool = True, asks: bool = True, folds: int = 2, seed: int = 0
) -> Chosen:
    """The values that answer held-out groups of some rows best; without media (`sees`) or questions (`asks`) too.

    What knows but one side is a baseline. With fewer than two groups nothing is chosen.
    """
    table = table.part(_drawn(table, rows, seed))
    rows = np.arange(len(table))
    names, groups = np.unique(table.groups, return_inverse=True)
    if len(names) < 2:
        return Chosen(replace(Vote(), asks=asks))
    fold = np.random.default_rng(seed).permutation(np.arange(len(names)) % min(folds, len(names)))[groups]
    kernels = [Kernel(width, penalty, sees) for width, penalty in KERNELS] if asks else []
    trials = [_Trial.fit(table, rows[fold != one], rows[fold == one], kernels, seed) for one in np.unique(fold)]
    best_vote = _most(
        trials, [Vote(*values, asks) for values in product(ALPHAS if sees and asks else (0.0,), KS, TEMPERATURES)]
    )
    best = None
    if kernels:
        counts = sum(trial.right_by_ridges() for trial in trials)
        best = int(np.argmax(counts))
    judged = [trial.blended(best_vote, best) for trial in trials]
    right = np.concatenate([one[0] for one in judged])
    part = int(np.argmax(right.sum(0)))
    features = _features(np.concatenate([one[1] for one in judged])[:, part])
    enough = len(names) >= LEAST_GROUPS and right[:, part].sum() >= LEAST_RIGHT
    return Chosen(
        best_vote,
        None if best is None else kernels[best],
        PARTS[part] if best is not None else 0.0,
        float(right[:, part].mean()),
        fit_curve(features, right[:, part]) if enough else None,
    )


@dataclass(frozen=True)
class _Trial:
    """One fold: rows that are stored, rows that are held out, a ridge fitted on the former for each kernel."""

    stored: Stored
    held: Stored
    ridges: list[Ridge | None]
    known: Flags
    fit_types: Flags
    answers: int

    @classmethod
    def fit(cls, table: Table, inside: Indices, outside: Indices, kernels: list[Kernel], seed: int) -> Self:
        mapped = table.mapped(table.centres(inside))
        stored, held = mapped.part(inside), mapped.part(outside)
        known, fits = _types(stored, len(table.types), len(table.answers))
        return cls(stored, held, [fit_ridge(stored, one, seed) for one in kernels], known, fits, len(table.answers))

    def right_by_votes(self, votes: list[Vote]) -> Indices:
        """How many held-out questions each vote answers right: (len(votes),)."""
        out = np.zeros(len(votes), np.int64)
        for part in _blocks(self.held):
            for alpha in dict.fromkeys(vote.alpha for vote in votes):
                own = [place for place, vote in enumerate(votes) if vote.alpha == alpha]
                total = scores(self.stored, part, votes[own[0]], self.known)
                found, best = nearest(total, max(KS))
                given = self.stored.answer[found]
                for place in own:
                    k = votes[place].k
                    told = shares(given[:, :k], best[:, :k], votes[place].temperature, self.answers).argmax(1)
                    out[place] += int((told == part.answer).sum())
        return out

    def right_by_ridges(self) -> Indices:
        """How many each ridge answers right: (len(ridges),)."""
        out = np.zeros(len(self.ridges), np.int64)
        for part in _blocks(self.held):
            for place, ridge in enumerate(self.ridges):
                if ridge is not None:
                    told = _fitting(ridge.scores(part, self.answers), part, self.fit_types).argmax(1)
                    out[place] += int((told == part.answer).sum())
        return out

    def blended(self, vote: Vote, place: int | None) -> tuple[Flags, Array]:
        """For each of `PARTS`: whether the first answer is right (m, parts), and the best two shares (m, parts, 2)."""
        ridge = None if place is None else self.ridges[place]
        rights, tops = [], []
        for part in _blocks(self.held):
            voted = _voted(self.stored, part, vote, self.known, self.answers)
            other = None if ridge is None else _fitting(ridge.scores(part, self.answers), part, self.fit_types)
            best = [nearest(_mixed(voted, other, one), 2) for one in PARTS]
            rights.append(np.stack([found[:, 0] == part.answer for found, _ in best], 1))
            tops.append(np.stack([own for _, own in best], 1))
        return np.concatenate(rights), np.concatenate(tops)


def _most(trials: list[_Trial], votes: list[Vote]) -> Vote:
    counts = sum(trial.right_by_votes(votes) for trial in trials)
    return votes[int(np.argmax(counts))]


def _drawn(table: Table, rows: Indices, seed: int) -> Indices:
    """At most `MOST` of the rows, whole groups, drawn by seed."""
    if len(rows) <= MOST:
        return rows
    names, groups, counts = np.unique(table.groups[rows], return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    kept = order[: max(2, int(np.searchsorted(np.cumsum(counts[order]), MOST, side="right")))]
    return rows[np.isin(groups, kept)]


def _types(stored: Stored, types: int, answers: int) -> tuple[Flags, Flags]:
    """Which types stored rows have (types,), and which answers each was given (types, answers): an unknown one all."""
    fits = np.zeros((types, answers), np.bool_)
    fits[stored.type, stored.answer] = True
    known = np.asarray(fits.any(1))
    fits[~known] = True
    return known, fits


def _voted(stored: Stored, part: Asked, vote: Vote, known: Flags, answers: int) -> Array:
    found, best = nearest(scores(stored, part, vote, known), vote.k)
    return shares(stored.answer[found], best, vote.temperature, answers)


def _fitting(score: Array, part: Asked, fits: Flags) -> Array:
    """Scores of answers that the question's type was given, as shares."""
    kept = np.where(fits[part.type], score, 0.0)
    return np.asarray(kept / np.maximum(kept.sum(1, keepdims=True), 1e-9), np.float32)


def _mixed(voted: Array, ridge: Array | None, part: float) -> Array:
    return voted if ridge is None else np.asarray((1 - part) * voted + part * ridge, np.float32)


def _features(top: Array) -> Values:
    """Log of the first share, and of how far the second lies behind: (m, 2)."""
    logs = np.log(np.maximum(top[:, :2].astype(np.float64), 1e-6))
    second = logs[:, 1] if logs.shape[1] > 1 else np.full(len(logs), np.log(1e-6))
    return np.stack([logs[:, 0], logs[:, 0] - second], 1)


def _blocks(asked: Any) -> Iterator[Any]:
    for start in range(0, len(asked), _BLOCK):
        yield asked.part(slice(start, start + _BLOCK))
