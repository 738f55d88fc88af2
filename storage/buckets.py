"""Which buckets of a source already stand in the tables, and what is known of its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from storage import schemas
from storage.filters import Filter, between, eq, isin
from storage.tables import Store

_CHANGING = "changing"
"""Digest of a bucket whose rows are between two states; without it a bucket that became empty would look done."""


def within(column: str, buckets: Sequence[int]) -> Filter:
    """Rows of the given buckets (sorted, at least one)."""
    lo, hi = buckets[0], buckets[-1] + 1
    return between(column, lo, hi) if len(buckets) == hi - lo else isin(column, buckets)


def applied(store: Store, collection: str) -> dict[int, str]:
    """Digest of each bucket of a collection as it stands in the tables."""
    rows = store.read(schemas.BUCKETS, ["bucket", "digest"], eq("collection", collection))
    return dict(zip(rows["bucket"].to_pylist(), rows["digest"].to_pylist(), strict=True))


def forget_buckets(store: Store, collection: str, buckets: Sequence[int]) -> None:
    """Before their rows change: until they are noted again, these buckets count as not applied, empty ones as well."""
    _write(store, collection, dict.fromkeys(buckets, _CHANGING))


def note_buckets(store: Store, collection: str, digests: Mapping[int, str]) -> None:
    """The rows of these buckets stand in the tables now. An empty digest stands for an empty bucket and is not kept."""
    _write(store, collection, {bucket: digest for bucket, digest in digests.items() if digest})
    empty = sorted(bucket for bucket, digest in digests.items() if not digest)
    if empty:
        store.delete(schemas.BUCKETS, eq("collection", collection) & within("bucket", empty))


def _write(store: Store, collection: str, digests: Mapping[int, str]) -> None:
    rows = [
        {"key": f"{collection}/{bucket:03x}", "collection": collection, "bucket": bucket, "digest": digest}
        for bucket, digest in digests.items()
    ]
    store.upsert(schemas.BUCKETS, schemas.buckets(), rows)
