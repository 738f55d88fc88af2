"""The slices of an evaluation: what is known of the query items, from their attributes, text and file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from config.errors import UserError
from config.params import AssessParams
from storage import schemas
from storage.filters import eq, isin
from storage.tables import Store
from tasks.align import place_of
from tasks.heldout import Direction, Measured
from tasks.metrics.scripts import script_of
from tasks.metrics.slices import BOTH, Asked, Labels, slice_rows, sliceable, terciles, weakest_first
from tasks.refs import Aligned


def slices(store: Store, aligned: Aligned, measured: Sequence[Measured], params: AssessParams) -> list[dict[str, Any]]:
    """One row a slice and direction, the weakest first: of the attributes that params name, or all of few values.

    What is said of both directions is `both` for the first two modalities.
    """
    known = [[labels_of(store, aligned.collections, way, split) for way in ways] for ways, split, _ in measured]
    there = sorted({name for pair in known for one in pair for name in one})
    missing = [name for name in params.slices if name not in there]
    if missing:
        raise UserError(
            f"no query has the attribute {missing[0]!r} of assess.slices", f"attributes: {', '.join(there) or 'none'}"
        )
    rows = []
    for place, ((ways, _, weights), labels) in enumerate(zip(measured, known, strict=True)):
        names = params.slices or tuple(dict.fromkeys(name for one in labels for name in sliceable(one)))
        asked = {
            way.name: Asked(way.values, way.groups, {name: one[name] for name in names if name in one})
            for way, one in zip(ways, labels, strict=True)
        }
        found = slice_rows(
            asked,
            names,
            weights,
            confidence=params.confidence,
            least_groups=params.slice_groups,
            least_gap=params.slice_gap,
        )
        said = " and ".join(way.query.modality for way in ways) if place else BOTH
        rows += [row | {"direction": said} if row["direction"] == BOTH else row for row in found]
    return weakest_first(rows)


def labels_of(store: Store, collections: tuple[str, ...], way: Direction, split: str) -> dict[str, Labels]:
    """What is known of the queries of a direction, by attribute: (n,) words, None for those of which it is not.

    Their own attributes, and `collection`; of texts `script` and `text length` (characters), of other media `file size`
    (bytes), both in thirds.
    """
    where = isin("collection", collections) & eq("modality", way.query.modality) & eq("split", split)
    rows = store.read(schemas.ITEMS, ["key", "collection", "text", "attributes", "bytes"], where).sort_by("key")
    place = place_of(np.asarray(rows["key"].to_pylist(), dtype=np.str_), way.query.keys[way.asked].tolist())
    found = rows.take(pa.array(place, mask=place < 0))  # null for one that was removed since
    attributes = [json.loads(text or "{}") for text in found["attributes"].to_pylist()]
    out = {
        name: _column([one.get(name) for one in attributes]) for name in sorted({n for one in attributes for n in one})
    }
    out["collection"] = _column(found["collection"].to_pylist())
    texts, sizes = found["text"].to_pylist(), found["bytes"].to_pylist()
    if way.query.modality == "text":
        out["script"] = _column([None if text is None else script_of(text) for text in texts])
        out["text length"] = _thirds([None if text is None else len(text) for text in texts])
    else:
        out["file size"] = _thirds(sizes)
    return out


def _column(values: list[Any]) -> Labels:
    return np.array([None if value is None or value == "" else str(value) for value in values], dtype=object)


def _thirds(sizes: list[int | None]) -> Labels:
    out = np.full(len(sizes), None, dtype=object)
    there = np.array([size is not None for size in sizes])
    if there.any():
        out[there] = terciles(np.array([size for size in sizes if size is not None], np.int64))
    return out
