"""Captions that were made for items that have no text: text items of their own kind, each with a pair.

They stand beside what the source gives, so that an update neither sees nor loses them. They go when their item goes,
changes its content, or is given a text; `sweep` sees to that wherever items change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from storage import schemas
from storage.filters import Filter, eq, isin, ne
from storage.tables import Store

Row = dict[str, Any]

GENERATED = "generated"
"""The source of their pairs."""


def keep(store: Store, rows: Sequence[Row], pairs: Sequence[Row]) -> int:
    """Write captions and the pairs that join them with their items, in place of former ones; give the captions.

    The pairs come first: a caption that a kill left without its pair would be taken for done.
    """
    store.upsert(schemas.PAIRS, schemas.pairs(), pairs)
    return store.upsert(schemas.GENERATED, schemas.generated(), rows)


def drop(store: Store, collection: str, items: Sequence[str] | None = None) -> int:
    """Delete the captions of a collection, or of some of its items, with their pairs; give the captions."""
    if not store.exists(schemas.GENERATED):
        return 0
    here = eq("collection", collection)
    rows = store.read(schemas.GENERATED, ["key", "item"], here).to_pylist()
    chosen = None if items is None else set(items)
    keys = [row["key"] for row in rows if chosen is None or row["item"] in chosen]
    for side in ("left", "right"):
        _delete_pairs(store, here & eq("source", GENERATED) & eq(f"{side}_modality", "text"), side, keys)
    return store.delete_keys(schemas.GENERATED, keys)


def sweep(store: Store, collection: str) -> int:
    """Delete captions whose item is gone, has another content, or has a given text by now; give their number."""
    if not store.count(schemas.GENERATED, eq("collection", collection)):
        return 0
    here = eq("collection", collection)
    captioned = store.read(schemas.GENERATED, ["item", "item_content"], here).to_pylist()
    items = store.read(schemas.ITEMS, ["key", "content_hash"], here & ne("modality", "text"))
    there = dict(zip(items["key"].to_pylist(), items["content_hash"].to_pylist(), strict=True))
    told = with_text(store, collection)
    gone = [one["item"] for one in captioned if there.get(one["item"]) != one["item_content"] or one["item"] in told]
    return drop(store, collection, gone) if gone else 0


def with_text(store: Store, collection: str) -> set[str]:
    """Keys of the items that a given pair joins with a text."""
    out: set[str] = set()
    given = eq("collection", collection) & eq("source", "given")
    for own, other in (("left", "right"), ("right", "left")):
        where = given & eq(f"{other}_modality", "text") & ne(f"{own}_modality", "text")
        for batch in store.stream(schemas.PAIRS, [own], where):
            out.update(batch.column(0).to_pylist())
    return out


def done(store: Store, collection: str, method: str) -> dict[str, str]:
    """The items that `method` has captioned, and which content of each."""
    rows = store.read(schemas.GENERATED, ["item", "item_content"], eq("collection", collection) & eq("method", method))
    return dict(zip(rows["item"].to_pylist(), rows["item_content"].to_pylist(), strict=True))


def texts_of(store: Store, items: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The text of the caption made for each of these items, and the content that it was made for."""
    if not items or not store.exists(schemas.GENERATED):
        return {}
    few = isin("item", items) if len(items) <= 2_000 else None
    wanted = set(items)
    return {
        item: (text, content)
        for batch in _stream(store, few)
        for item, text, content in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        if item in wanted
    }


def count(store: Store, collection: str) -> int:
    """Captions that were made for a collection."""
    return store.count(schemas.GENERATED, eq("collection", collection))


def _stream(store: Store, where: Filter | None) -> Iterator[pa.RecordBatch]:
    return store.stream(schemas.GENERATED, ["item", "text", "item_content"], where)


def _delete_pairs(store: Store, where: Filter, side: str, keys: Sequence[str]) -> None:
    for start in range(0, len(keys), 2_000):
        store.delete(schemas.PAIRS, where & isin(side, keys[start : start + 2_000]))
