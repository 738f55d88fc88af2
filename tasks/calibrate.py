"""What the scores of a space mean in a search: held-out queries against all its items, as a search ranks them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from config.errors import RunError
from config.params import AssessParams
from storage.filters import Filter, eq
from storage.tables import Store, matrix
from tasks.align import place_of
from tasks.heldout import Direction, both_ways
from tasks.metrics import ambiguity, bootstrap, calibration
from tasks.metrics.calibration import Candidates
from tasks.metrics.retrieval import CUTS
from tasks.refs import Aligned, SpaceRef
from tasks.retrieval.knn import blocks, top_k

Weights = npt.NDArray[np.int32]
QUERIES = 2_000
"""Queries of each direction at most, drawn by seed."""
_CANDIDATES = 250
"""Answers that are re-ranked: among the 250 nearest are the first ten of all, but for few (README)."""
_RANDOM = 20_000  # random pairs, about
_FIT_ON = "val"


def calibrate(
    store: Store,
    aligned: Aligned,
    ways: tuple[Direction, Direction],
    split: str,
    weights: Weights,
    params: AssessParams,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Figures of each direction, and what a search needs of each, JSON-able, by direction.

    What is reported was never fitted on: where val is held out beside the split, the fit is on val; else each half of
    the split's groups is told by what is fitted on the other half, and what is kept is fitted on both.
    """
    others: tuple[Direction, ...] | None = None
    if split != _FIT_ON and _FIT_ON in aligned.groups.splits:
        try:
            names = ways[0].gallery.modality, ways[0].query.modality
            others = both_ways(store, aligned.space, aligned.collections, _FIT_ON, names)
        except RunError:  # it holds no known pair
            others = None
    figures, kept = {}, {}
    for number, way in enumerate(ways):
        found, random = candidates(store, aligned.space, way, params.seed)
        about = {"queries": len(found.groups), "gallery": store.count(aligned.space.table, _gallery(way))}
        try:
            if others is not None:
                whole = calibration.fit(*candidates(store, aligned.space, others[number], params.seed))
                told = whole.tell(found)
            else:
                whole = calibration.fit(found, random)
                told = calibration.cross_fitted(found, random, params.seed)
        except ValueError as error:
            figures[way.name] = about | {"fitted_on": None, "reason": str(error)}
            continue
        on = f"split {_FIT_ON}" if others is not None else "the other half of the groups"
        figures[way.name] = about | {"fitted_on": on} | report(found, *told, weights, params.confidence)
        kept[way.name] = about | {"fitted_on": _FIT_ON if others is not None else split} | whole.to_json()
    return figures, kept


def candidates(store: Store, space: SpaceRef, way: Direction, seed: int) -> tuple[Candidates, bootstrap.Values]:
    """The first answers of a direction's queries among all items, and the scores of random pairs, both CSLS.

    As in a search: the nearest by cosine, ranked by the corrected score; at equal scores a wrong one stands first. The
    items are streamed, and searched exactly.
    """
    generator = np.random.default_rng(seed)
    rows = np.sort(generator.permutation(len(way.relevant))[:QUERIES])
    queries, relevant = way.vectors[rows], way.relevant[rows]
    own = way.query.hubness[way.gallery.modality][way.asked[rows]]
    each = -(-_RANDOM // max(1, store.count(space.table, _gallery(way))))
    cosines = np.empty((len(rows), 0), np.float32)
    terms, places = np.empty((len(rows), 0), np.float32), np.empty((len(rows), 0), np.int64)
    random = []
    for batch in store.stream(space.table, ["key", "vector", f"hubness_{way.query.modality}"], _gallery(way)):
        keys, vectors, hubness = batch.column(0).to_pylist(), matrix(batch.column(1)), batch.column(2).to_numpy()
        place = place_of(way.gallery.keys, keys)
        for part in blocks(len(keys), len(rows)):
            near = np.asarray(queries @ vectors[part].T, np.float32)
            drawn = generator.integers(len(rows), size=(each, near.shape[1]))
            random.append((2 * near[drawn, np.arange(near.shape[1])] - hubness[part] - own[drawn]).ravel())
            best, cosines = top_k(np.concatenate([cosines, near], 1), _CANDIDATES)
            terms, places = (
                np.take_along_axis(np.concatenate([old, np.broadcast_to(new[part], near.shape)], 1), best, 1)
                for old, new in ((terms, hubness), (places, place))
            )
    scores = 2 * cosines.astype(np.float64) - terms - own[:, None]
    right = (places[:, :, None] == np.where(relevant < 0, -2, relevant)[:, None]).any(2)
    order = np.lexsort((right, -scores), axis=1)[:, : ambiguity.FIRST]
    found = Candidates(
        np.take_along_axis(scores, order, 1),
        np.take_along_axis(cosines.astype(np.float64), order, 1),
        np.take_along_axis(right, order, 1),
        way.groups[rows],
    )
    return found, np.concatenate(random).astype(np.float64)


def report(
    found: Candidates, p: bootstrap.Values, open_: npt.NDArray[np.bool_], weights: Weights, confidence: float
) -> dict[str, Any]:
    """How far off probabilities are: of the cosine read as one (before), and calibrated (after), of first and all hits.

    And how ambiguous and clear queries do. `p` (n, k) are the calibrated ones, `open_` (n,) the queries left open.
    """
    k = p.shape[1]
    out: dict[str, Any] = {}
    for name, columns in (("first", slice(0, 1)), ("hits", slice(0, k))):
        right = found.right[:, columns].ravel()
        groups = np.repeat(found.groups, len(right) // len(found.groups))
        stages = {"before": np.clip(found.cosines[:, columns], 0, 1), "after": p[:, columns]}
        out[name] = {"right": float(right.mean())} | {
            stage: calibration.quality(one.ravel(), right, groups, weights, confidence) for stage, one in stages.items()
        }
        out[name]["reliability"] = calibration.reliability(stages["after"].ravel(), right)
    share = bootstrap.resampled_means(open_.astype(np.float64), found.groups, weights)
    out["ambiguity"] = {
        "share": {"value": float(open_.mean()), "interval": list(bootstrap.interval(share, confidence))},
        "ambiguous": _hit_rates(found.take(open_), weights, confidence),
        "clear": _hit_rates(found.take(~open_), weights, confidence),
    }
    return out


def _hit_rates(found: Candidates, weights: Weights, confidence: float) -> dict[str, Any]:
    out: dict[str, Any] = {"queries": len(found.groups)}
    for k in CUTS if len(found.groups) else ():
        hit = np.asarray(found.right[:, :k].any(1), np.float64)
        drawn = bootstrap.resampled_means(hit, found.groups, weights)
        out[f"hit_rate@{k}"] = {"value": float(hit.mean()), "interval": list(bootstrap.interval(drawn, confidence))}
    return out


def _gallery(way: Direction) -> Filter:
    return eq("modality", way.gallery.modality)
