"""The best and the worst retrievals of a space, and the items that too many queries find. No Prefect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.heldout import Direction, Ways
from tasks.metrics.retrieval import positions
from tasks.reports.contents import Found, Hub, Retrieval
from tasks.retrieval.knn import blocks, top_k
from tasks.showing import Showing

Indices = npt.NDArray[np.int64]
Array = npt.NDArray[np.float32]
Metrics = dict[str, Any]

_QUERIES = 1_000  # of a direction that are looked at
_EACH, _FIRST = 3, 5  # queries shown of each kind and direction; answers shown of each


@dataclass(frozen=True)
class _Ranked:
    """Of some queries: their rows, first answers, rank and place of the first right one, and by how much it leads."""

    way: Direction
    rows: Indices
    first: Indices
    rank: Indices
    wanted: Indices
    lead: Array


def retrievals(ways: Ways, shown: Showing, seed: int) -> tuple[list[Retrieval], list[Retrieval], list[Hub], Metrics]:
    """The best and worst retrievals and the hubs of both directions, and their figures."""
    figures: Metrics = {"sample": {"queries": 0}, "best": [], "worst": [], "hubs": []}
    made: dict[str, list[Retrieval]] = {"best": [], "worst": []}
    hubs: list[Hub] = []
    for way in ways:
        one = _ranked(way, seed)
        figures["sample"]["queries"] += len(one.rows)
        for kind, chosen in (("best", _best(one)), ("worst", _worst(one))):
            queries = [way.query.keys[way.asked[one.rows[place]]] for place in chosen]
            answers = [*one.first[chosen].ravel().tolist(), *one.wanted[chosen].tolist()]
            shown.load([*queries, *(way.gallery.keys[at] for at in answers)])
            for key, place in zip(queries, chosen, strict=True):
                right = set(way.relevant[one.rows[place]].tolist())
                found = [Found(shown[way.gallery.keys[at]], at in right) for at in one.first[place].tolist()]
                made[kind].append(Retrieval(way.name, shown[key], found, shown[way.gallery.keys[one.wanted[place]]]))
                figures[kind].append({"direction": way.name, "rank": int(one.rank[place])})
        raw, kept = (way.occurrence(score, one.rows) for score in (way.cosines, way.scores))
        most = np.argsort(-raw, kind="stable")[:_EACH]
        shown.load(way.gallery.keys[most].tolist())
        hubs += [Hub(way.name, shown[way.gallery.keys[at]]) for at in most]
        figures["hubs"] += [{"direction": way.name, "raw": int(raw[at]), "corrected": int(kept[at])} for at in most]
    return made["best"], made["worst"], hubs, figures


def _ranked(way: Direction, seed: int) -> _Ranked:
    rows = np.sort(np.random.default_rng(seed).permutation(len(way.relevant))[:_QUERIES])
    parts = []
    for part in blocks(len(rows), len(way.gallery.keys)):
        scores, relevant = way.scores(rows[part]), way.relevant[rows[part]]
        there = relevant >= 0
        own = np.where(there, np.take_along_axis(scores, np.maximum(relevant, 0), 1), -np.inf)
        best = own.argmax(1)[:, None]
        others = scores.copy()
        np.put_along_axis(others, np.where(there, relevant, relevant[:, :1]), -np.inf, 1)
        parts.append(
            (
                top_k(scores, _FIRST)[0],
                positions(scores, relevant)[:, 0],
                np.take_along_axis(relevant, best, 1)[:, 0],
                np.take_along_axis(own, best, 1)[:, 0] - others.max(1),
            )
        )
    first, rank, wanted, lead = (np.concatenate(many) for many in zip(*parts, strict=True))
    return _Ranked(way, rows, first, rank, wanted, lead)


def _best(one: _Ranked) -> Indices:
    return _distinct(one, np.lexsort((-one.lead, one.rank > 1)), one.rank == 1)


def _worst(one: _Ranked) -> Indices:
    return _distinct(one, np.lexsort((one.lead, -one.rank)), one.rank > 1)


def _distinct(one: _Ranked, order: Indices, fit: npt.NDArray[np.bool_]) -> Indices:
    """The first of an order that fit, no two of one group."""
    order = order[fit[order]]
    groups = one.way.groups[one.rows[order]]
    return order[np.sort(np.unique(groups, return_index=True)[1])][:_EACH]
