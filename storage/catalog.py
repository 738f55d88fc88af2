"""What a collection consists of: items, known pairs, answers, quarantine and its record. Writes what has changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from storage import schemas
from storage.buckets import forget_buckets, within
from storage.filters import Filter, eq, ne
from storage.keys import quarantine_key
from storage.tables import Store

Row = dict[str, Any]
_LATER = ("group", "split")  # columns that another step fills


def make_tables(store: Store) -> None:
    """Make the tables of a collection, so that each has its identity before something is noted of its rows."""
    store.create(schemas.ITEMS, schemas.items())
    store.create(schemas.PAIRS, schemas.pairs())
    store.create(schemas.ANSWERS, schemas.answers())
    store.create(schemas.QUARANTINE, schemas.quarantine())


def record_collection(store: Store, name: str, uri: str, root: str, params: str) -> None:
    """Remember where a collection comes from and what is done with it, so that it can be brought up to date.

    `params` is JSON; an unchanged record is not written again.
    """
    row: Row = {"name": name, "uri": uri, "root": root, "params": params}
    if store.read(schemas.COLLECTIONS, list(row), eq("name", name)).to_pylist() != [row]:
        recorded = {"recorded_at": datetime.now(UTC)}
        store.upsert(schemas.COLLECTIONS, schemas.collections(), [row | recorded])


def collections(store: Store) -> list[Row]:
    """All recorded collections, by name."""
    names = [field.name for field in schemas.collections()]
    return sorted(store.read(schemas.COLLECTIONS, names).to_pylist(), key=lambda row: str(row["name"]))


def replace_rows(
    store: Store,
    collection: str,
    buckets: Sequence[int],
    items: Sequence[Row],
    pairs: Sequence[Row],
    answers: Sequence[Row] = (),
) -> tuple[int, int]:
    """Make the items, given pairs and answers of some buckets equal to these; give rows written and removed.

    Rows that are there already, unchanged, are not written again. `group` and `split` are kept where they are known.
    """
    here = eq("collection", collection)
    given = here & within("row_bucket", buckets) & eq("source", "given")
    done = [
        _sync(store, schemas.ITEMS, schemas.items(), here & within("bucket", buckets), items),
        _sync(store, schemas.PAIRS, schemas.pairs(), given, pairs),
        _sync(store, schemas.ANSWERS, schemas.answers(), here & within("bucket", buckets), answers),
    ]
    return sum(one[0] for one in done), sum(one[1] for one in done)


def replace_files(store: Store, collection: str, buckets: Sequence[int], files: Sequence[Row]) -> None:
    """Make what is known of the files of some buckets equal to `files`."""
    _sync(store, schemas.FILES, schemas.files(), eq("collection", collection) & within("bucket", buckets), files)


def _sync(store: Store, name: str, schema: pa.Schema, where: Filter, rows: Sequence[Row]) -> tuple[int, int]:
    columns = [field.name for field in schema]
    known = {row["key"]: row for row in store.read(name, columns, where).to_pylist()}
    fresh: list[Row] = []
    changed: list[Row] = []
    for key, given in {row["key"]: row for row in rows}.items():
        old = known.pop(key, None)
        if old is None:
            fresh.append(given)
            continue
        row = given | {column: old[column] for column in _LATER if column in given}
        if old != row:
            changed.append(row)
    if changed:
        store.upsert(name, schema, changed)
    gone = store.delete_keys(name, sorted(known))
    return len(changed) + store.insert(name, schema, fresh), gone


def replace_faults(
    store: Store, collection: str, stage: str, buckets: Sequence[int], faults: Sequence[Row], *, recount: bool = True
) -> None:
    """Make the quarantine of one stage and some buckets equal to `faults` (locator, code, message, bucket).

    Without `recount` one that stands there already, for the same reason, is left as it is.
    """
    where = eq("collection", collection) & eq("stage", stage) & within("bucket", buckets)
    rows = store.read(schemas.QUARANTINE, ["key", "locator", "code", "message"], where).to_pylist()
    known = {row.pop("key"): row for row in rows}
    kept = {quarantine_key(collection, fault["locator"], stage): fault for fault in faults}
    fresh = [
        fault
        for key, fault in kept.items()
        if recount or key not in known or any(fault[name] != value for name, value in known[key].items())
    ]
    add_faults(store, collection, stage, fresh)
    store.delete_keys(schemas.QUARANTINE, sorted(known.keys() - kept.keys()))


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
    if not rows:
        return []
    store.upsert(schemas.QUARANTINE, schemas.quarantine(), rows)
    return list(keys)


def place_faults(store: Store, collection: str, stage: str, places: Mapping[str, Sequence[str]]) -> None:
    """Bring the faults of contents to where these contents are now: `places` gives the locators of a content.

    A content that moved takes its fault along, one that is gone takes it away. Nothing is read again.
    """
    where = eq("collection", collection) & eq("stage", stage)
    rows = store.read(schemas.QUARANTINE, schemas.quarantine().names, where).to_pylist()
    known = {(row["content_hash"], row["locator"]): row for row in rows}
    moved = [
        row | {"key": quarantine_key(collection, locator, stage), "locator": locator}
        for content, row in {row["content_hash"]: row for row in rows}.items()
        for locator in places.get(content, ())
        if (content, locator) not in known
    ]
    gone = [row["key"] for (content, locator), row in known.items() if locator not in places.get(content, ())]
    store.delete_keys(schemas.QUARANTINE, sorted(gone))
    if moved:
        store.upsert(schemas.QUARANTINE, schemas.quarantine(), moved)


def faults(store: Store, collection: str | None = None, code: str | None = None) -> list[Row]:
    """Quarantined things, of one collection or with one reason code, by collection and locator."""
    names = schemas.quarantine().names
    rows: list[Row] = store.read(schemas.QUARANTINE, names, _those(collection, code)).to_pylist()
    return sorted(rows, key=lambda row: (str(row["collection"]), str(row["locator"]), str(row["stage"])))


def drop_faults(store: Store, collection: str | None = None, code: str | None = None) -> int:
    """Take quarantined things out; give their number."""
    return store.delete_keys(schemas.QUARANTINE, [row["key"] for row in faults(store, collection, code)])


def retry_faults(store: Store, collection: str | None = None, code: str | None = None) -> int:
    """Have the next update read quarantined things again: their buckets count as not applied, their files as unknown.

    A content that could not be decoded leaves quarantine until then: what stands there is not tried again.
    """
    rows = faults(store, collection, code)
    for name in {row["collection"] for row in rows}:
        own = [row for row in rows if row["collection"] == name]
        buckets = sorted({row["bucket"] for row in own if row["stage"] == "preprocess"})
        if buckets:
            forget_buckets(store, name, buckets)
            store.delete(schemas.FILES, eq("collection", name) & within("bucket", buckets) & ne("code", ""))
    store.delete_keys(schemas.QUARANTINE, [row["key"] for row in rows if row["content_hash"]])
    return len(rows)


def _those(collection: str | None, code: str | None) -> Filter | None:
    parts = [eq(column, value) for column, value in (("collection", collection), ("code", code)) if value is not None]
    return None if not parts else parts[0] if len(parts) == 1 else parts[0] & parts[1]


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
