"""A sample of the space on a plane, for the map: drawn once for each published state, and kept."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from flows.server.in_force import Opened
from flows.server.models import ItemBody
from storage.filters import eq, isin
from storage.tables import Store, matrix
from tasks.reports.layout import plane

ITEMS = 1_200
"""Items on the map: a sample, the same number of each modality as far as there are as many."""


@dataclass(frozen=True)
class Place:
    """An item and where it is drawn, both coordinates in -1 … 1."""

    item: ItemBody
    x: float
    y: float


class Planes:
    """The map of the space that was asked for last; while one is drawn, who asks for it waits."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: tuple[int, list[Place]] | None = None

    def of(self, opened: Opened) -> list[Place]:
        """The map of what is open."""
        with self._lock:
            if self._known is None or self._known[0] != id(opened.manifest):
                self._known = id(opened.manifest), self._draw(opened)
            return self._known[1]

    def _draw(self, opened: Opened) -> list[Place]:
        """Keys are digests, so the least ones are as good as drawn by lot, and stay the same ones."""
        table, version = opened.manifest["index"]["table"], opened.manifest["index"]["version"]
        modalities = opened.searcher.modalities
        keys: list[str] = []
        for modality in modalities:
            known: list[str] = []
            for batch in self._store.stream(table, ["key"], eq("modality", modality), version=version):
                known = sorted([*known, *batch.column(0).to_pylist()])[: ITEMS // len(modalities)]
            keys += known
        columns = ["key", "modality", "collection", "uri", "text", "vector"]
        rows = self._store.read(table, columns, isin("key", keys), version=version)
        vectors = matrix(rows["vector"].combine_chunks()) if rows.num_rows else np.empty((0, 2), np.float32)
        return [
            Place(_body(row), float(x), float(y))
            for row, (x, y) in zip(rows.drop_columns(["vector"]).to_pylist(), plane(vectors), strict=True)
        ]


def _body(row: dict[str, str]) -> ItemBody:
    address = f"/v1/items/{row['key']}" if row["uri"] else None
    return ItemBody(
        **row,
        attributes={},
        media=address and f"{address}/media",
        thumbnail=address and f"{address}/thumbnail",
    )
