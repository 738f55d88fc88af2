from __future__ import annotations

from pathlib import Path

import pytest

from storage.buckets import applied, forget_buckets, note_buckets
from storage.tables import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A database without tables."""
    return Store(tmp_path / "tables")


def test_what_was_noted_is_applied(store: Store) -> None:
    """A bucket has the digest that was noted last; one noted as empty has none; collections do not mix."""
    note_buckets(store, "c", {0: "zero", 7: "seven", 4_095: "last", 8: ""})
    note_buckets(store, "other", {7: "another"})
    note_buckets(store, "c", {7: "", 0: "again"})
    assert applied(store, "c") == {0: "again", 4_095: "last"}
    assert applied(store, "other") == {7: "another"}
    assert applied(store, "none") == {}


def test_a_bucket_that_changes_is_neither_old_nor_empty(store: Store) -> None:
    """From being forgotten to being noted a bucket equals no digest, nor the "" of an empty one, known before or not.

    Else a bucket that became empty in between would look done, and its rows stay for ever.
    """
    note_buckets(store, "c", {1: "one", 2: "two"})
    forget_buckets(store, "c", [1, 3])
    marks = applied(store, "c")
    assert marks[2] == "two"
    assert not {marks[1], marks[3]} & {"", "one"}
    note_buckets(store, "c", {1: "", 3: "three"})
    assert applied(store, "c") == {2: "two", 3: "three"}


def test_nothing_to_forget_or_note(store: Store) -> None:
    """No buckets, no change."""
    note_buckets(store, "c", {1: "one"})
    forget_buckets(store, "c", [])
    note_buckets(store, "c", {})
    assert applied(store, "c") == {1: "one"}
