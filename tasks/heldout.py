"""The held-out items of a space, their known pairs, and both directions of retrieval between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from config.errors import RunError
from storage import schemas
from storage.filters import eq, isin
from storage.tables import Store, matrix
from tasks.align import place_of, vectors_of
from tasks.alignment.space import JointSpace
from tasks.metrics import bootstrap
from tasks.metrics import retrieval as metrics
from tasks.refs import EncoderRef, SpaceRef
from tasks.retrieval.hubness import corrected, k_occurrence, occurrence_shares, skewness
from tasks.retrieval.knn import top_k

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
CHANCE_CONFIDENCE = 0.99


@dataclass(frozen=True)
class Held:
    """The held-out items of one modality in the joint space; `hubness[q]` towards queries of modality q."""

    modality: str
    keys: npt.NDArray[np.str_]
    contents: list[str]
    vectors: Array
    groups: Indices
    hubness: dict[str, Array]


class Direction:
    """One direction of retrieval: every query that has a relevant item, against the whole held-out gallery.

    `asked` are these queries as rows of `query`; `vectors`, `groups` and `relevant` theirs, in this order.
    """

    def __init__(self, query: Held, gallery: Held, links: Indices) -> None:
        self.query, self.gallery, self.links = query, gallery, links
        self.name = f"{query.modality}_to_{gallery.modality}"
        asked = np.unique(links[:, 0])
        place = np.full(len(query.keys), -1, np.int64)
        place[asked] = np.arange(len(asked))
        self.relevant = metrics.relevance_table(place[links[:, 0]], links[:, 1], len(asked))
        self.asked = asked
        self.groups = query.groups[asked]
        self.vectors = query.vectors[asked]
        self._terms = gallery.hubness[query.modality]

    @cached_property
    def raw(self) -> dict[str, npt.NDArray[np.float64]]:
        """Each metric of each query, by plain cosine."""
        return metrics.evaluate(self.cosines, self.relevant)

    @cached_property
    def values(self) -> dict[str, npt.NDArray[np.float64]]:
        """Each metric of each query, with the hubness correction."""
        return metrics.evaluate(self.scores, self.relevant)

    def first_hits(self) -> Indices:
        """The best gallery item of each query, with the hubness correction: (n,)."""
        size = len(self.relevant)
        return np.concatenate([self.scores(slice(i, min(i + 512, size))).argmax(1) for i in range(0, size, 512)])

    def cosines(self, part: slice | Indices) -> Array:
        """Of some queries to all of the gallery: (len(part), m)."""
        return np.asarray(self.vectors[part] @ self.gallery.vectors.T, np.float32)

    def scores(self, part: slice | Indices) -> Array:
        """The same with the hubness correction."""
        return corrected(self.cosines(part), self._terms)

    def report(self, weights: npt.NDArray[np.int32], confidence: float) -> dict[str, Any]:
        """All figures of this direction, JSON-able."""
        means = metrics.summary(self.values)
        spans = bootstrap.intervals(self.values, self.groups, weights, confidence)
        out: dict[str, Any] = {
            name: {"value": value} | ({"interval": list(spans[name])} if name in spans else {})
            for name, value in means.items()
        }
        out["queries"], out["gallery"] = len(self.relevant), len(self.gallery.keys)
        out["raw"] = metrics.summary(self.raw)
        counts = (self.relevant >= 0).sum(1)
        out["relevant"] = float(counts.mean())
        out["chance"] = {}
        for k in metrics.CUTS:
            mean, low, high = metrics.chance_interval(k, len(self.gallery.keys), counts, CHANCE_CONFIDENCE)
            out["chance"][f"hit_rate@{k}"] = {"value": mean, "interval": [low, high]}
        out["chance"]["confidence"] = CHANCE_CONFIDENCE
        out["curve"] = metrics.curve(self.values["rank"], self.raw["rank"], len(self.gallery.keys), counts)
        every = np.arange(len(self.relevant))
        raw, kept = (self.occurrence(score, every) for score in (self.cosines, self.scores))
        out["hubness"] = {"raw_skew_N10": skewness(raw), "corrected_skew_N10": skewness(kept)}
        out["hubness"]["N10"] = occurrence_shares(raw, kept)
        return out

    def occurrence(self, score: Callable[[Indices], Array], rows: Indices) -> Indices:
        """How often each gallery item is among the first ten of the queries `rows`, by their scores: (m,)."""
        lists = [top_k(score(rows[i : i + 512]), 10)[0] for i in range(0, len(rows), 512)]
        return k_occurrence(np.concatenate(lists), len(self.gallery.keys))


Ways = tuple[Direction, Direction]
"""Both directions between two modalities; the greater name asks first."""


def rsum(forward: dict[str, npt.NDArray[np.float64]], backward: dict[str, npt.NDArray[np.float64]]) -> float:
    """Sum of the six hit rates, 0 to 600, from each query's values in both directions."""
    return metrics.rsum(metrics.summary(forward), metrics.summary(backward))


def rsum_interval(ways: Ways, weights: npt.NDArray[np.int32], confidence: float) -> tuple[float, float]:
    """Its bootstrap interval over groups."""
    return bootstrap.interval(resampled_rsum(ways, weights), confidence)


def resampled_rsum(ways: Ways, weights: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Rsum in each resample of the groups: (draws,)."""
    draws = sum(
        bootstrap.resampled_means(way.values[f"hit_rate@{k}"], way.groups, weights)
        for way in ways
        for k in metrics.CUTS
    )
    return 100 * np.asarray(draws)


def held_in_table(store: Store, space: SpaceRef, modality: str, split: str) -> Held:
    """The items of a split as the space's table has them. Raises `RunError` when there is none."""
    terms = [f"hubness_{name}" for name in space.modalities]
    where = eq("modality", modality) & eq("split", split)
    rows = store.read(space.table, ["key", "content_hash", "group", "vector", *terms], where).sort_by("key")
    if not rows.num_rows:
        raise RunError(f"the split {split!r} holds no {modality} item with a vector", "check the split and quarantine")
    return Held(
        modality,
        np.asarray(rows["key"].to_pylist(), dtype=np.str_),
        rows["content_hash"].to_pylist(),
        np.array(matrix(rows["vector"].combine_chunks())),
        _group_numbers(rows),
        {name: rows[f"hubness_{name}"].to_numpy() for name in space.modalities},
    )


def _group_numbers(rows: pa.Table) -> Indices:
    return np.array([int(name, 16) for name in rows["group"].to_pylist()], dtype=np.uint64).astype(np.int64)


def both_ways(
    store: Store, space: SpaceRef, collections: tuple[str, ...], split: str, names: tuple[str, str] | None = None
) -> Ways:
    """Both directions of retrieval between two modalities (the base) on a split, from the space's table.

    Raises `RunError` where there is nothing.
    """
    return ways_of(
        store, collections, *(held_in_table(store, space, name, split) for name in sorted(names or space.base))
    )


def ways_of(store: Store, collections: tuple[str, ...], one: Held, other: Held) -> Ways:
    """Both directions between the held-out items of two modalities. Raises `RunError` where no given pair joins any."""
    gallery, query = numbered(one, other)
    links = links_between(store, collections, query, gallery)
    return Direction(query, gallery, links), Direction(gallery, query, links[:, ::-1])


class Measured(NamedTuple):
    """Both directions between two modalities on a split, and the weights of its groups in each resample."""

    ways: Ways
    split: str
    weights: npt.NDArray[np.int32]


def every_way(
    store: Store, space: SpaceRef, collections: tuple[str, ...], splits: Sequence[str], draws: int, seed: int
) -> tuple[list[Measured], list[tuple[str, str]]]:
    """Every two modalities, those of the base first, and the names of those that no held-out pair joins.

    The base on the first of the `splits`, the others on the first that holds such a pair: collections may have split
    names of their own. Raises `RunError` where no pair joins the base.
    """

    def measured(split: str, names: tuple[str, str]) -> Measured:
        ways = both_ways(store, space, collections, split, names)
        n_groups = 1 + int(max(way.query.groups.max() for way in ways))
        return Measured(ways, split, bootstrap.group_weights(n_groups, draws, seed))

    found = [measured(splits[0], space.base)]
    without = []
    for names in space.further:
        for split in splits:
            try:
                found.append(measured(split, names))
                break
            except RunError:
                continue
        else:
            without.append(names)
    return found, without


def held_by_heads(
    store: Store,
    joint: JointSpace,
    modality: str,
    split: str,
    collections: tuple[str, ...],
    encoded: tuple[EncoderRef, ...],
) -> Held:
    """The same from the embeddings, whatever the space's table holds."""
    where = isin("collection", collections) & eq("modality", modality) & eq("split", split)
    rows = store.read(schemas.ITEMS, ["key", "content_hash", "group"], where).sort_by("key")
    vectors, found = vectors_of(store, modality, rows["content_hash"].to_pylist(), encoded)
    rows = rows.filter(pa.array(found))
    z = joint.project(modality, {name: one[found] for name, one in vectors.items()})
    return Held(
        modality,
        np.asarray(rows["key"].to_pylist(), dtype=np.str_),
        rows["content_hash"].to_pylist(),
        z,
        _group_numbers(rows),
        {name: joint.hubness(z, name) for name in joint.heads if name != modality},
    )


def numbered(*held: Held) -> list[Held]:
    """The same, with groups numbered 0, 1, … across all of them."""
    numbers = np.unique(np.concatenate([one.groups for one in held]), return_inverse=True)[1]
    parts = np.split(numbers, np.cumsum([len(one.keys) for one in held])[:-1])
    return [replace(one, groups=part) for one, part in zip(held, parts, strict=True)]


def links_between(store: Store, collections: tuple[str, ...], query: Held, gallery: Held) -> Indices:
    """Given pairs between held-out items, as (query row, gallery row)."""
    flip = query.modality > gallery.modality  # pairs keep the lesser modality on the left
    left, right = (gallery, query) if flip else (query, gallery)
    where = isin("collection", collections) & eq("source", "given")
    where = where & eq("left_modality", left.modality) & eq("right_modality", right.modality)
    pairs = store.read(schemas.PAIRS, ["left", "right"], where)
    ends = np.stack(
        [place_of(left.keys, pairs["left"].to_pylist()), place_of(right.keys, pairs["right"].to_pylist())], 1
    )
    ends = np.unique(ends[(ends >= 0).all(1)], axis=0)
    if not len(ends):
        raise RunError(
            f"no known pair of {query.modality} and {gallery.modality} lies in the held-out split",
            "hold out more groups",
        )
    return ends[:, ::-1] if flip else ends
