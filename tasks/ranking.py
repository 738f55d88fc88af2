"""A query's candidates in order: by vector with the hubness correction, by parts, by words, fused. No Prefect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from storage.filters import isin
from storage.fulltext import reciprocal_rank_fusion
from tasks.alignment.space import JointSpace
from tasks.asked import Asked
from tasks.galleries import Found, Galleries
from tasks.locate import Locator, Moment
from tasks.metrics.calibration import Calibration
from tasks.narrowing import Narrowed

Array = npt.NDArray[np.float32]

CANDIDATES = 1_000
"""Items that are ranked: the nearest by cosine, and as many by their words."""


@dataclass(frozen=True)
class Ranked:
    """A query's candidates: what ranks them, by key, best first. `lasting`: its target has parts that were searched.

    `cosines` of those that were found by vector; `ways` are the sets found by vector, part and text; `meant` is what a
    score means, by key; `alike` as in `Answer`.
    """

    mode: str
    scores: dict[str, float]
    cosines: dict[str, float]
    ways: dict[str, AbstractSet[str]]
    meant: dict[str, dict[str, Any]]
    alike: int
    lasting: bool


@dataclass(frozen=True)
class Sought:
    """What is searched for: items of a modality, of those that `narrowed` leaves; `bounded` says that it is not all.

    Without `hubness` the plain cosine ranks.
    """

    target: str
    narrowed: Narrowed
    bounded: bool
    hubness: bool


class Ranker:
    """Ranks the items of a space for queries and their joint vectors."""

    def __init__(
        self, galleries: Galleries, locator: Locator, space: JointSpace, calibrations: Mapping[str, Calibration]
    ) -> None:
        self._galleries, self._locator, self._space, self._calibrations = galleries, locator, space, calibrations

    def rank(self, asked: Sequence[Asked], vectors: Sequence[Array | None], sought: Sought) -> list[Ranked]:
        """The candidates of each query; its vector (dim,) is None for full text alone."""
        places = [place for place, one in enumerate(vectors) if one is not None]
        found: dict[int, Found] = {}
        own: dict[int, float] = {}
        lasting = False
        if places:
            stacked = np.stack([one for one in vectors if one is not None])
            # one more: the item searched with is no hit
            nearest = self._galleries.nearest(stacked, sought.target, CANDIDATES + 1, sought.narrowed)
            found = dict(zip(places, nearest, strict=True))
            lasting = self._locator.has(sought.target)
            # what a score means is known of searches in all items of a modality, by their whole
            if sought.hubness and not (sought.bounded or lasting):
                own = dict(zip(places, self._space.hubness(stacked, sought.target).tolist(), strict=True))
        return [
            self._fused(
                one,
                self._by_vector(one, vectors[place], found.get(place), sought, lasting=lasting),
                own.get(place),
                sought,
            )
            for place, one in enumerate(asked)
        ]

    def _by_vector(
        self, asked: Asked, vector: Array | None, found: Found | None, sought: Sought, *, lasting: bool
    ) -> _ByVector | None:
        if vector is None or found is None:
            return None
        share = {part.modality: part.weight for part in asked.parts if part.modality} if sought.hubness else {}
        scored = _scored(found, share)
        by_part: dict[str, Moment] = {}
        if lasting:  # an item is as near as the nearest of its parts and the whole
            parts = self._parts(vector, asked.modality if sought.hubness else "", sought)
            by_part = {key: one for key, one in parts.items() if key not in scored or one.score > scored[key][0]}
            scored |= {key: (one.score, one.cosine) for key, one in by_part.items()}
        scored.pop(asked.item or "", None)
        order = sorted(scored, key=lambda key: (-scored[key][0], key))[:CANDIDATES]
        return _ByVector({key: scored[key] for key in order}, by_part.keys(), lasting=lasting)

    def _fused(self, asked: Asked, near: _ByVector | None, own: float | None, sought: Sought) -> Ranked:
        words: list[str] = []
        if asked.words is not None:
            fitting = self._galleries.words(asked.words, CANDIDATES + 1, sought.narrowed)
            words = [key for key in fitting if key != asked.item][:CANDIDATES]
        if near is None:
            return Ranked(
                "text", reciprocal_rank_fusion([words], [1.0]), {}, {"text": set(words)}, {}, 0, lasting=False
            )
        scores = {key: score for key, (score, _) in near.scored.items()}
        meant, alike = ({}, 0) if own is None else self._meaning(asked, sought.target, scores, own)
        ways = {"vector": scores.keys() - near.by_part, "part": near.by_part, "text": set(words)}
        mode, ranked = "vector", scores
        if asked.words is not None:
            mode, ranked = "hybrid", reciprocal_rank_fusion([list(scores), words], [1.0, asked.words_weight])
        cosines = {key: cosine for key, (_, cosine) in near.scored.items()}
        return Ranked(mode, ranked, cosines, ways, meant, alike, near.lasting)

    def _parts(self, vector: Array, query_modality: str, sought: Sought) -> dict[str, Moment]:
        """The nearest parts by item; with conditions on attributes a batch of the matching items at a time."""
        narrowed = sought.narrowed
        if not narrowed.checks:
            where = narrowed.where if sought.bounded else None
            return self._locator.items(vector, query_modality, sought.target, CANDIDATES, where)
        best: dict[str, Moment] = {}
        for keys in self._galleries.matching(narrowed):
            best |= self._locator.items(vector, query_modality, sought.target, CANDIDATES, isin("key", keys))
            chosen = sorted(best, key=lambda key: (-best[key].score, key))[:CANDIDATES]
            best = {key: best[key] for key in chosen}
        return best

    def _meaning(
        self, asked: Asked, target: str, scores: Mapping[str, float], own: float
    ) -> tuple[dict[str, dict[str, Any]], int]:
        """Probability and percentile of each score, best first, and how many of the first answers are alike, or 0."""
        calibration = self._calibrations.get(f"{asked.modality}_to_{target}")
        if calibration is None or len(asked.parts) > 1 or not scores:
            return {}, 0
        values = np.array(list(scores.values())) - own  # CSLS
        told = zip(
            calibration.probability(values[None])[0].tolist(), calibration.percentile(values).tolist(), strict=True
        )
        meant = {key: {"probability": p, "percentile": at} for key, (p, at) in zip(scores, told, strict=True)}
        return meant, calibration.alike(values)


class _ByVector(NamedTuple):
    """Score and cosine by key, best first, and which of them a part has brought."""

    scored: dict[str, tuple[float, float]]
    by_part: AbstractSet[str]
    lasting: bool


def _scored(found: Found, share: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Score and cosine by key: 2·cos − r(item), r weighted over the query's modalities; without any, the cosine."""
    scores = found.cosines
    if share:
        scores = 2 * scores - sum(weight * found.terms[name] for name, weight in share.items())
    return {
        key: (score, cosine)
        for key, score, cosine in zip(found.keys, scores.tolist(), found.cosines.tolist(), strict=True)
    }
