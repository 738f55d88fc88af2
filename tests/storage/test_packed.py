from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from storage import schemas
from storage.packed import column_of, packed, place, unpacked
from storage.tables import Store

KEYS = st.lists(st.text("0123456789abcdef", min_size=1, max_size=32), unique=True)


@given(KEYS, KEYS)
def test_place_is_a_dictionary(known: list[str], wanted: list[str]) -> None:
    """`place` in a sorted array equals a look-up in a dictionary, and packing is undone by unpacking."""
    known = sorted(known)
    where = {key: number for number, key in enumerate(known)}
    assert place(packed(known), packed(wanted)).tolist() == [where.get(key, -1) for key in wanted]
    assert unpacked(packed(wanted)) == wanted


def test_long_keys_are_kept_whole(tmp_path: Path) -> None:
    """Keys that are longer than a hash are not cut."""
    store = Store(tmp_path)
    rows = [{"key": "k" * length, "collection": "c", "bucket": 1, "digest": ""} for length in (3, 40)]
    store.insert(schemas.BUCKETS, schemas.buckets(), rows)
    assert sorted(map(len, unpacked(column_of(store, schemas.BUCKETS, "key")))) == [3, 40]


def test_a_column_of_no_table_is_empty(tmp_path: Path) -> None:
    """A table that is not there has no keys; one that is there has those of the rows that a filter leaves."""
    store = Store(tmp_path)
    assert column_of(store, schemas.BUCKETS, "key").tolist() == []
    rows = [{"key": key, "collection": "c", "bucket": 1, "digest": ""} for key in ("b", "a")]
    assert store.insert(schemas.BUCKETS, schemas.buckets(), rows) == 2
    assert sorted(unpacked(column_of(store, schemas.BUCKETS, "key"))) == ["a", "b"]
