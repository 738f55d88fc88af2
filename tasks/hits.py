"""What a search gives: items, hits, an answer, the evidence behind a hit. Frozen, and JSON by `asdict`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Item:
    """An item as a person sees it: where it lies and what is known of it. `path` is "" for a text."""

    key: str
    modality: str
    collection: str
    uri: str
    text: str
    attributes: dict[str, Any]
    path: str


@dataclass(frozen=True, slots=True)
class Known(Item):
    """An item with its split, and the items that known pairs join it with."""

    split: str
    pairs: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Hit(Item):
    """One result. `score` ranks: corrected similarity, or fused ranks in hybrid; `similarity` is the plain cosine.

    `probability` that it is right, and the percentage of random pairs that score lower (`percentile`), both by the
    corrected similarity: None where the space was not assessed, for words alone, for a text beside a medium, with a
    filter, without the hubness correction, and where parts are searched as well. `start` says where in an item that
    lasts its best part begins, in seconds, where parts are kept. `folded` are the hits further down that are nearly the
    same.
    """

    score: float
    similarity: float | None
    found_by: tuple[str, ...]
    probability: float | None = None
    percentile: float | None = None
    start: float | None = None
    folded: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of a query, how it was asked, and what a person should know of it.

    The hits stand from place `offset` on; `more` says that there are others behind them. `alike` is how many of the
    first answers score alike where the query is ambiguous, else 0.
    """

    space: str
    space_id: str
    query: str
    target: str
    mode: str
    offset: int = 0
    more: bool = False
    hits: list[Hit] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    alike: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """A known pair of the training set that speaks for a hit: `near_query` is like the query, `near_hit` like the hit.

    `score`, 0 to 1, is the product of both similarities (cosines in the joint space, negative ones as 0).
    """

    near_query: Item
    near_hit: Item
    score: float
    query_similarity: float
    hit_similarity: float
