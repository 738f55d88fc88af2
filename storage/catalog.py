"""What a collection consists of: its items, known pairs, quarantine and record. Writes only what has changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from storage import schemas
from storage.filters import Filter, between, eq
from storage.keys import quarantine_key
from storage.tables import Store

Row = dict[str, Any]
_LATER = ("group", "split")  # columns that another step fills


def record_collection(store: Store, name: str, uri: str, root: str, columns: str) -> None:
    """Remember where a collection comes from, so that it can be scanned again."""
    row = {"name": name, "uri": uri, "root": root, "columns": columns, "recorded_at": datetime.now(UTC)}
    store.upsert(schemas.COLLECTIONS, schemas.collections(), [row])


def collections(store: Store) -> list[Row]:
    """All recorded collections, by name."""
    names = [field.name for field in schemas.collections()]
    return sorted(store.read(schemas.COLLECTIONS, names).to_pylist(), key=lambda row: str(row["name"]))


def replace_shard(
    store: Store, collection: str, lo: int, hi: int, items: Sequence[Row], pairs: Sequence[Row]
) -> tuple[int, int]:
    """Make the items and given pairs of the buckets `lo` ≤ b < `hi` equal to these; give rows written and removed.

    Rows that are there already, unchanged, are not written again. `group` and `split` are kept where they are known.
    """
    here = eq("collection", collection)
    done = [
        _sync(store, schemas.ITEMS, schemas.items(), here & between("bucket", lo, hi), items),
        _sync(
            store,
            schemas.PAIRS,
            schemas.pairs(),
            here & between("row_bucket", lo, hi) & eq("source", "given"),
            pairs,
        ),
    ]
    return sum(one[0] for one in done), sum(one[1] for one in done)


def _sync(store: Store, name: str, schema: pa.Schema, where: Filter, rows: Sequence[Row]) -> tuple[int, int]:
    columns = [field.name for field in schema]
    known = {row["key"]: row for row in store.read(name, columns, where).to_pylist()}
    changed: list[Row] = []
    for key, given in {row["key"]: row for row in rows}.items():
        old = known.pop(key, None)
        row = given if old is None else given | {column: old[column] for column in _LATER if column in given}
        if old != row:
            changed.append(row)
    store.upsert(name, schema, changed)
    return len(changed), store.delete_keys(name, sorted(known))


def replace_faults(store: Store, collection: str, stage: str, lo: int, hi: int, faults: Sequence[Row]) -> None:
    """Make the quarantine of one stage and bucket range equal to `faults` (locator, code, message, bucket)."""
    where = eq("collection", collection) & eq("stage", stage) & between("bucket", lo, hi)
    gone = set(store.strings(schemas.QUARANTINE, "key", where)) - set(add_faults(store, collection, stage, faults))
    store.delete_keys(schemas.QUARANTINE, sorted(gone))


def add_faults(store: Store, collection: str, stage: str, faults: Sequence[Row]) -> list[str]:
    """Add to the quarantine of one stage, counting the attempts of what stood there before; give the keys."""
    keys = {quarantine_key(collection, fault["locator"], stage): fault for fault in faults}
    here = eq("collection", collection) & eq("stage", stage)
    before = store.read(schemas.QUARANTINE, ["key", "attempts", "first_seen"], here)
    known = {row["key"]: row for row in before.to_pylist()}
    now = datetime.now(UTC)
    rows = [
        {
            "key": key,
            "collection": collection,
            "stage": stage,
            "content_hash": None,
            "attempts": (known[key]["attempts"] if key in known else 0) + 1,
            "first_seen": known[key]["first_seen"] if key in known else now,
            "last_seen": now,
        }
        | fault
        for key, fault in keys.items()
    ]
    store.upsert(schemas.QUARANTINE, schemas.quarantine(), rows)
    return list(keys)


def forget_faults(store: Store, collection: str, stage: str, *, keep: set[str]) -> None:
    """Take out of quarantine what a stage could not read and what is no longer a content of the collection."""
    rows = store.read(schemas.QUARANTINE, ["key", "content_hash"], eq("collection", collection) & eq("stage", stage))
    gone = [row["key"] for row in rows.to_pylist() if row["content_hash"] not in keep]
    store.delete_keys(schemas.QUARANTINE, gone)


def count_items(store: Store, collection: str) -> int:
    """Items of a collection."""
    return store.count(schemas.ITEMS, eq("collection", collection))


def count_quarantined(store: Store, collection: str) -> int:
    """Quarantined things of a collection."""
    return store.count(schemas.QUARANTINE, eq("collection", collection))


def quarantine_counts(store: Store, collection: str) -> dict[str, int]:
    """Quarantined things of a collection by reason code, most frequent first."""
    codes = store.strings(schemas.QUARANTINE, "code", eq("collection", collection))
    return dict(Counter(codes).most_common())
