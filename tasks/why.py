"""Why an item answers a query: known pairs of the training set, one side like the query, the other like the item.

The heads have learned from pairs (a, b) that what is like a goes with what is like b. So a pair speaks for a hit to the
degree that the query is like a and the hit like b: cos(query, a) · cos(hit, b) in the joint space, where negative
cosines count as 0. It is 1 where query and hit are a known pair themselves, and near 0 where either side is unlike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from storage import schemas
from storage.filters import eq, isin
from storage.tables import Store, matrix
from tasks.galleries import Galleries

Array = npt.NDArray[np.float32]
Side = tuple[Array, str]
"""A joint vector (dim,) and its modality."""

_NEAR = 50  # training items looked at on either side
_KEYS = 2_000  # in one IN (…) list
_TRAIN = eq("split", "train")


class Pair(NamedTuple):
    """A known pair: keys, one like the query and one like the hit; its score, and either cosine, at least 0."""

    keys: tuple[str, str]
    score: float
    similarities: tuple[float, float]


def evidence(store: Store, galleries: Galleries, query: Side, hit: Side, k: int) -> list[Pair]:
    """The `k` training pairs that speak most for the hit, best first, each item in one of them alone.

    Looked at are the pairs of the training items nearest to the query in its modality, and of those nearest to the hit
    in its own. A pair is what the data gives as one; where there is none, as within a modality or between two that were
    bound through a third, two items that are paired with the same one.
    """
    sides = (query, hit)
    near = [
        galleries.nearest(vector[None], modality, _NEAR, galleries.narrowed(modality, _TRAIN))[0].keys
        for vector, modality in sides
    ]
    links = partners(store, [*near[0], *near[1]])
    if query[1] == hit[1] or not any(hit[1] in links[key].values() for key in near[0]):
        links = _joined(store, links)
    ends: list[tuple[str, str]] = []
    for key in near[0]:
        ends += [(key, other) for other, modality in links[key].items() if modality == hit[1]]
    for key in near[1]:
        ends += [(other, key) for other, modality in links[key].items() if modality == query[1]]
    pairs = sorted({(a, b) for a, b in ends if a != b})
    cosines = [_cosines(galleries, {pair[side] for pair in pairs}, sides[side][0]) for side in (0, 1)]
    known = [pair for pair in pairs if pair[0] in cosines[0] and pair[1] in cosines[1]]
    scored = [
        Pair(pair, cosines[0][pair[0]] * cosines[1][pair[1]], (cosines[0][pair[0]], cosines[1][pair[1]]))
        for pair in known
    ]
    return _each_once(sorted(scored, key=lambda one: (-one.score, one.keys)), k)


def partners(store: Store, keys: Sequence[str]) -> dict[str, dict[str, str]]:
    """The items that given pairs join each of `keys` with, and their modalities."""
    out: dict[str, dict[str, str]] = {key: {} for key in keys}
    names = sorted(out)
    for own, other in (("left", "right"), ("right", "left")):
        for start in range(0, len(names), _KEYS):
            where = eq("source", "given") & isin(own, names[start : start + _KEYS])
            rows = store.read(schemas.PAIRS, [own, other, f"{other}_modality"], where)
            for key, partner, modality in zip(*(rows[name].to_pylist() for name in rows.column_names), strict=True):
                out[key][partner] = modality
    return out


def _joined(store: Store, links: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """The items that share a partner with each key."""
    between = partners(store, sorted({other for some in links.values() for other in some}))
    out: dict[str, dict[str, str]] = defaultdict(dict)
    for key, some in links.items():
        for other in some:
            out[key] |= {one: modality for one, modality in between[other].items() if one != key}
    return out


def _cosines(galleries: Galleries, keys: Iterable[str], vector: Array) -> dict[str, float]:
    """Cosine, at least 0, of each of these items that stands in the training split."""
    out: dict[str, float] = {}
    names = sorted(keys)
    for start in range(0, len(names), _KEYS):
        where = _TRAIN & isin("key", names[start : start + _KEYS])
        rows = galleries.table.search().where(where.sql).select(["key", "vector"]).limit(_KEYS).to_arrow()
        found = np.maximum(matrix(rows["vector"].combine_chunks()) @ vector, 0)
        out |= zip(rows["key"].to_pylist(), np.minimum(found, 1).tolist(), strict=True)
    return out


def _each_once(pairs: Iterable[Pair], k: int) -> list[Pair]:
    seen: set[str] = set()
    out: list[Pair] = []
    for pair in pairs:
        if not seen & set(pair.keys) and len(out) < k:
            out.append(pair)
            seen |= set(pair.keys)
    return out
