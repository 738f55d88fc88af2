"""Near-duplicates among hits: those of the same content, or whose embeddings are as near as their collection allows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from storage import schemas
from storage.filters import isin
from storage.tables import Store
from tasks.mining.duplicates import first_alike


def representatives(store: Store, table: str | None, rows: Sequence[dict[str, Any]]) -> list[int]:
    """For each row (`content_hash`, `collection`), best first: the place of the first one it nearly equals, or its own.

    `table` holds the embeddings of the modality's first encoder; from which cosine on two are near-duplicates stands in
    the record of the collection of the later one.
    """
    contents = [row["content_hash"] for row in rows]
    limits = _limits(store, {row["collection"] for row in rows})
    _, codes = np.unique(np.asarray(contents, np.str_), return_inverse=True)
    vectors = np.zeros((len(contents), 0), np.float32)
    if table is not None and store.exists(table) and contents:
        vectors, _ = store.vectors(table, contents)  # those that are gone are zero, and like nothing
    thresholds = np.array([limits[row["collection"]] for row in rows], np.float32)
    first: list[int] = first_alike(codes, np.asarray(vectors, np.float32), thresholds).tolist()
    return first


def _limits(store: Store, collections: set[str]) -> dict[str, float]:
    """The cosine of near-duplicates by collection, as it was recorded with it."""
    from config.params import PreprocessParams

    usual = PreprocessParams().near_duplicate
    rows = store.read(schemas.COLLECTIONS, ["name", "params"], isin("name", sorted(collections))).to_pylist()
    known = {row["name"]: json.loads(row["params"]).get("preprocess", {}) for row in rows}
    return {name: float(known.get(name, {}).get("near_duplicate", usual)) for name in collections}
