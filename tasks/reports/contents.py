"""What a report is made of: figures as they were measured, and items as a person sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Shown:
    """An item: its words, the name of its file, and a small picture as WebP where it can be shown."""

    modality: str
    words: str
    file: str = ""
    picture: bytes | None = None


@dataclass(frozen=True)
class Found:
    """An item that a query found, and whether it is right."""

    item: Shown
    right: bool


@dataclass(frozen=True)
class Retrieval:
    """A query, its first answers, and the right one that it finds first."""

    direction: str
    query: Shown
    found: Sequence[Found]
    wanted: Shown


@dataclass(frozen=True)
class Hub:
    """An item that many queries of a direction find."""

    direction: str
    item: Shown


@dataclass(frozen=True)
class Place:
    """An item on the map."""

    x: float
    y: float
    modality: str
    words: str


@dataclass(frozen=True)
class Encoder:
    """An encoder, its licence, and what it has seen ("" where nobody says)."""

    modality: str
    name: str
    dim: int
    licence: str
    seen: str


@dataclass(frozen=True)
class Report:
    """All that a page says. `metrics` are those of metrics.json; `further`, kept as well, has what it lacks.

    `before` are the metrics of the space that this one is compared with, None where there is none. Figures of `best`,
    `worst` and `hubs` stand under these names in `further`, in the same order.
    """

    metrics: Mapping[str, Any]
    further: Mapping[str, Any]
    made: str
    before: Mapping[str, Any] | None = None
    gate: str = ""
    encoders: Sequence[Encoder] = ()
    best: Sequence[Retrieval] = ()
    worst: Sequence[Retrieval] = ()
    hubs: Sequence[Hub] = ()
    places: Sequence[Place] = ()
    leaks: Sequence[str] = ()
    duplicates: Sequence[str] = ()
    quarantine: Sequence[tuple[str, str, str]] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[str] = ()
