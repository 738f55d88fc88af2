"""Evaluate a space on groups it has not seen: both directions, intervals, chance, a shuffled control, hubness."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from prefect import task

from config.errors import RunError, UserError
from config.params import AlignParams, AssessParams
from storage import catalog, schemas
from storage.filters import eq, isin
from storage.spaces import read_json, write_json
from storage.tables import Store, matrix
from storage.workspace import Workspace
from tasks.align import TRAIN, fit_training, load_training, place_of, vectors_of
from tasks.alignment.fit import shuffled_pairs
from tasks.alignment.space import JointSpace
from tasks.metrics import bootstrap
from tasks.metrics import retrieval as metrics
from tasks.metrics.geometry import modality_gap
from tasks.policies import by_content
from tasks.refs import Aligned, GroupReport, ScoreRef, SpaceRef
from tasks.retrieval.hubness import corrected, k_occurrence, skewness
from tasks.retrieval.knn import top_k
from tasks.sources.groups import HELD_OUT

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
_CODE = ("tasks/score.py", "tasks/metrics", "tasks/retrieval", "tasks/alignment")
_CHANCE_CONFIDENCE = 0.99
_CONTROL_BANK = 1_000  # queries behind the hubness terms of a control: enough where nothing is to be found


@dataclass(frozen=True)
class Held:
    """The held-out items of one modality in the joint space; `hubness[q]` towards queries of modality q."""

    modality: str
    keys: npt.NDArray[np.str_]
    contents: list[str]
    vectors: Array
    groups: Indices
    hubness: dict[str, Array]


@task(name="evaluate", task_run_name="evaluate {aligned.space.name} {aligned.space.space_id}", **by_content(*_CODE))
def evaluate_space(workspace: Workspace, aligned: Aligned, params: AssessParams) -> ScoreRef:
    """Measure the space on its held-out split, keep the figures as metrics.json beside the heads, and give them."""
    start = time.perf_counter()
    store = workspace.store
    space, groups, collections = aligned.space, aligned.groups, aligned.collections
    config = read_json(Path(space.path) / "config.json")
    split = resolve_split(groups, params.split)
    query, gallery = _numbered(*(_held(store, space, name, split) for name in sorted(space.modalities, reverse=True)))
    links = _links(store, collections, query, gallery)
    forward, backward = Direction(query, gallery, links), Direction(gallery, query, links[:, ::-1])
    weights = bootstrap.group_weights(int(max(query.groups.max(), gallery.groups.max())) + 1, params.draws, params.seed)
    ways = {way.name: way.report(weights, params.confidence) for way in (forward, backward)}
    controls = _controls(store, aligned, config, (query, gallery), links, params)
    for name, report in ways.items():
        report["control"] = _control([one[name] for one in controls], report["chance"])
    figures = {
        "schema": 1,
        "name": space.name,
        "space": space.space_id,
        "collections": list(collections),
        "split": split,
        "split_drawn": groups.drawn,
        "method": space.method,
        "dim": space.dim,
        "training_pairs": space.pairs,
        "rsum": _rsum(forward.values, backward.values),
        "rsum_interval": list(_rsum_interval(forward, backward, weights, params.confidence)),
        "rsum_raw": _rsum(forward.raw, backward.raw),
        "confidence": params.confidence,
        "draws": params.draws,
        "seed": params.seed,
        "directions": ways,
        "modality_gap": modality_gap(query.vectors, gallery.vectors),
        "ann": aligned.index.index.model_dump(exclude={"tried", "seconds"}),
        "quarantined": {name: catalog.quarantine_counts(store, name) for name in collections},
        "leaks": {"media": groups.media_leaks, "texts": groups.text_leaks, "moved_to_held_out": groups.moved},
        "seen": sorted({one["seen"] for many in config["encoders"].values() for one in many if one["seen"]}),
        "seconds": round(time.perf_counter() - start, 2),
    }
    path = Path(space.path) / "metrics.json"
    write_json(path, figures)
    return ScoreRef(space_id=space.space_id, split=split, path=str(path), metrics=figures)


def resolve_split(groups: GroupReport, wanted: str) -> str:
    """The split to evaluate on: the wanted one, else test, val, or the held-out groups, whichever is there first."""
    if wanted != "auto":
        if wanted not in groups.splits or wanted == TRAIN:
            there = ", ".join(sorted(set(groups.splits) - {TRAIN})) or "none"
            raise UserError(f"there is no split {wanted!r} to evaluate on", f"held-out splits: {there}")
        return wanted
    found = next((name for name in ("test", "val", HELD_OUT) if name in groups.splits), None)
    if found is None:
        raise RunError("no group is held out, so there is nothing to evaluate on", "declare a split, or add rows")
    return found


class Direction:
    """One direction of retrieval: every query that has a relevant item, against the whole held-out gallery."""

    def __init__(self, query: Held, gallery: Held, links: Indices) -> None:
        self.query, self.gallery = query, gallery
        self.name = f"{query.modality}_to_{gallery.modality}"
        asked = np.unique(links[:, 0])
        place = np.full(len(query.keys), -1, np.int64)
        place[asked] = np.arange(len(asked))
        self.relevant = metrics.relevance_table(place[links[:, 0]], links[:, 1], len(asked))
        self.groups = query.groups[asked]
        self._asked = query.vectors[asked]
        self._terms = gallery.hubness[query.modality]

    @cached_property
    def raw(self) -> dict[str, npt.NDArray[np.float64]]:
        """Each metric of each query, by plain cosine."""
        return metrics.evaluate(self._raw, self.relevant)

    @cached_property
    def values(self) -> dict[str, npt.NDArray[np.float64]]:
        """Each metric of each query, with the hubness correction."""
        return metrics.evaluate(self._corrected, self.relevant)

    def _raw(self, part: slice) -> Array:
        return np.asarray(self._asked[part] @ self.gallery.vectors.T, np.float32)

    def _corrected(self, part: slice) -> Array:
        return corrected(self._raw(part), self._terms)

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
        out["chance"] = {}
        for k in metrics.CUTS:
            mean, low, high = metrics.chance_interval(k, len(self.gallery.keys), counts, _CHANCE_CONFIDENCE)
            out["chance"][f"hit_rate@{k}"] = {"value": mean, "interval": [low, high]}
        out["chance"]["confidence"] = _CHANCE_CONFIDENCE
        out["hubness"] = {"raw_skew_N10": self._skew(self._raw), "corrected_skew_N10": self._skew(self._corrected)}
        return out

    def _skew(self, score: Callable[[slice], Array]) -> float:
        size = len(self.relevant)
        lists = [top_k(score(slice(i, min(i + 512, size))), 10)[0] for i in range(0, size, 512)]
        return skewness(k_occurrence(np.concatenate(lists), len(self.gallery.keys)))


def _rsum(forward: dict[str, npt.NDArray[np.float64]], backward: dict[str, npt.NDArray[np.float64]]) -> float:
    return metrics.rsum(metrics.summary(forward), metrics.summary(backward))


def _rsum_interval(
    forward: Direction, backward: Direction, weights: npt.NDArray[np.int32], confidence: float
) -> tuple[float, float]:
    draws = sum(
        bootstrap.resampled_means(way.values[f"hit_rate@{k}"], way.groups, weights)
        for way in (forward, backward)
        for k in metrics.CUTS
    )
    return bootstrap.interval(100 * np.asarray(draws), confidence)


def _held(store: Store, space: SpaceRef, modality: str, split: str) -> Held:
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
        np.array([int(name, 16) for name in rows["group"].to_pylist()], dtype=np.uint64).astype(np.int64),
        {name: rows[f"hubness_{name}"].to_numpy() for name in space.modalities},
    )


def _numbered(*held: Held) -> list[Held]:
    """The same, with groups numbered 0, 1, … across all of them."""
    numbers = np.unique(np.concatenate([one.groups for one in held]), return_inverse=True)[1]
    parts = np.split(numbers, np.cumsum([len(one.keys) for one in held])[:-1])
    return [replace(one, groups=part) for one, part in zip(held, parts, strict=True)]


def _control(refits: list[dict[str, float]], chance: dict[str, Any]) -> dict[str, Any]:
    """Mean hit rates of the shuffled refits, and whether each lies inside the interval of chance."""
    out: dict[str, Any] = {
        f"hit_rate@{k}": float(np.mean([one[f"hit_rate@{k}"] for one in refits])) for k in metrics.CUTS
    }
    spans = {name: chance[name]["interval"] for name in out}
    inside = all(low <= out[name] <= high for name, (low, high) in spans.items())
    return out | {"refits": len(refits), "at_chance": inside}


def _links(store: Store, collections: tuple[str, ...], query: Held, gallery: Held) -> Indices:
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


def _controls(
    store: Store,
    aligned: Aligned,
    config: dict[str, Any],
    held: tuple[Held, Held],
    links: Indices,
    params: AssessParams,
) -> list[dict[str, dict[str, float]]]:
    """Metrics by direction of refits on shuffled training pairs, with the params and values of the space."""
    training = load_training(store, aligned.collections, aligned.encoded)
    fitted = fit_training(training, AlignParams.model_validate(config["params"]), values=config["facts"]["chosen"])
    raw = [vectors_of(store, one.modality, one.contents, aligned.encoded)[0] for one in held]
    out = []
    for number in range(params.controls):
        pairs = shuffled_pairs(training.pairs, training.left.groups, params.seed + number)
        joint = fitted.refit(pairs, _CONTROL_BANK)
        query, gallery = (_again(joint, one, vectors) for one, vectors in zip(held, raw, strict=True))
        ways = (Direction(query, gallery, links), Direction(gallery, query, links[:, ::-1]))
        out.append({way.name: metrics.summary(way.values) for way in ways})
    return out


def _again(joint: JointSpace, held: Held, vectors: dict[str, Array]) -> Held:
    """The same items in another space."""
    z = joint.project(held.modality, vectors)
    return replace(
        held, vectors=z, hubness={name: joint.hubness(z, name) for name in joint.heads if name != held.modality}
    )
