from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import catalog, schemas
from storage.buckets import applied, note_buckets
from storage.filters import eq
from storage.tables import Store
from tests.storage.rows import item, pair


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A database without tables."""
    return Store(tmp_path / "tables")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A database that the examples of one test share."""
    return Store(tmp_path_factory.mktemp("tables"))


def fault(locator: str, **more: Any) -> dict[str, Any]:
    """A fault as the stages report it."""
    return {"locator": locator, "code": "broken", "message": "m", "bucket": 0} | more


def quarantined(store: Store) -> dict[str, dict[str, Any]]:
    """The whole quarantine by locator."""
    rows = store.read(schemas.QUARANTINE, schemas.quarantine().names).to_pylist()
    assert len({row["locator"] for row in rows}) == len(rows)
    return {row["locator"]: row for row in rows}


def keys(store: Store, name: str) -> list[str]:
    """The keys of a table, sorted."""
    return sorted(store.strings(name, "key"))


def test_the_first_writing_is_whole(store: Store) -> None:
    """What is given is what stands there, column by column, for items and pairs."""
    items, pairs = [item("a", text="x"), item("b", attributes='{"n": "猫"}')], [pair("a", "b", weight=0.5)]
    assert catalog.replace_rows(store, "c", range(8), items, pairs) == (3, 0)
    assert store.read("items", schemas.items().names).sort_by("key").to_pylist() == items
    assert store.read("pairs", schemas.pairs().names).to_pylist() == pairs


def test_the_same_again_writes_nothing(store: Store) -> None:
    """Rows that are there, unchanged, cost no write: the versions of the tables stay."""
    items, pairs = [item("a"), item("b")], [pair("a", "b")]
    catalog.replace_rows(store, "c", range(8), items, pairs)
    before = [store.version(name) for name in ("items", "pairs")]
    assert catalog.replace_rows(store, "c", range(8), items[::-1], pairs) == (0, 0)
    assert [store.version(name) for name in ("items", "pairs")] == before


def test_one_change_costs_one_row(store: Store) -> None:
    """A changed row is written and one that has gone removed, the others left as they are."""
    catalog.replace_rows(store, "c", range(8), [item("a"), item("b"), item("d")], [pair("a", "b"), pair("a", "d")])
    after = [item("a", content_hash="new"), item("b")]
    assert catalog.replace_rows(store, "c", range(8), after, [pair("a", "b")]) == (1, 2)
    assert (keys(store, "items"), keys(store, "pairs")) == (["a", "b"], ["a-b"])
    assert store.strings("items", "content_hash", eq("key", "a")) == ["new"]


def test_group_and_split_are_kept(store: Store) -> None:
    """What another step filled in stays when the row changes or is given again, and the caller's rows stay his own."""
    catalog.replace_rows(store, "c", range(8), [item("a"), item("b")], [])
    store.upsert("items", schemas.items(), [item("a", group="g", split="test"), item("b", group="h", split="train")])
    given_ = [item("a", content_hash="new"), item("b"), item("d")]
    untouched = copy.deepcopy(given_)
    assert catalog.replace_rows(store, "c", range(8), given_, []) == (2, 0)
    assert given_ == untouched
    rows = store.read("items", ["key", "group", "split", "content_hash"]).sort_by("key").to_pylist()
    assert [(row["group"], row["split"]) for row in rows] == [("g", "test"), ("h", "train"), ("", "")]
    assert rows[0]["content_hash"] == "new"


def test_other_shards_are_left_alone(store: Store) -> None:
    """A shard touches its own buckets of its own collection, and given pairs alone."""
    others = [item("x", bucket=8), item("y", bucket=7), item("z", collection="other")]
    mined = [pair("x", "y", source="mined"), pair("x", "z", row_bucket=8), pair("z", "y", collection="other")]
    store.upsert("items", schemas.items(), others)
    store.upsert("pairs", schemas.pairs(), mined)
    assert catalog.replace_rows(store, "c", range(8), [item("a")], []) == (1, 1)
    assert keys(store, "items") == ["a", "x", "z"]
    assert keys(store, "pairs") == ["x-y", "x-z", "z-y"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["1", "2"])), min_size=1, max_size=4))
def test_any_history_ends_as_its_last_state(shared: Store, history: list[dict[str, str]]) -> None:
    """After any history a shard holds its last state, and the counts say what each step changed."""
    shared.drop("items")
    before: dict[str, str] = {}
    for state in history:
        items = [item(key, content_hash=content) for key, content in state.items()]
        written = sum(before.get(key) != content for key, content in state.items())
        assert catalog.replace_rows(shared, "c", range(8), items, []) == (written, len(before.keys() - state.keys()))
        before = state
    rows = shared.read("items", ["key", "content_hash"]).to_pylist()
    assert {row["key"]: row["content_hash"] for row in rows} == before


def test_attempts_are_counted(store: Store) -> None:
    """A thing that fails again counts its attempts; when it was first seen stays, when last and why are new."""
    rows = []
    for code in ("one", "two", "three"):
        catalog.add_faults(store, "c", "decode image", [fault("a.png", code=code, content_hash="h")])
        rows.append(quarantined(store)["a.png"])
    assert [(row["attempts"], row["code"], row["content_hash"]) for row in rows] == [
        (1, "one", "h"),
        (2, "two", "h"),
        (3, "three", "h"),
    ]
    assert {row["first_seen"] for row in rows} == {rows[0]["last_seen"]}
    assert len({row["last_seen"] for row in rows}) == 3


def test_a_stage_replaces_its_own_faults(store: Store) -> None:
    """Faults that are mended go; other stages, collections and buckets keep theirs, at the same place as well."""
    catalog.add_faults(store, "c", "decode image", [fault("kept:1", bucket=0)])
    catalog.add_faults(store, "other", "preprocess", [fault("kept:2")])
    catalog.add_faults(store, "c", "preprocess", [fault("kept:3", bucket=8)])
    catalog.replace_faults(store, "c", "preprocess", range(8), [fault("mended", bucket=0), fault("again", bucket=7)])
    assert len(quarantined(store)) == 5
    catalog.replace_faults(store, "c", "preprocess", range(8), [fault("again", bucket=7), fault("fresh", bucket=1)])
    found = quarantined(store)
    assert sorted(found) == ["again", "fresh", "kept:1", "kept:2", "kept:3"]
    assert {name: row["attempts"] for name, row in found.items()} == {**dict.fromkeys(found, 1), "again": 2}
    catalog.replace_faults(store, "c", "preprocess", range(8), [])
    assert sorted(quarantined(store)) == ["kept:1", "kept:2", "kept:3"]


def test_one_place_counts_for_each_stage_and_collection(store: Store) -> None:
    """The same file under two stages or collections is two entries; twice in one report it is one."""
    for collection, stage in (("c", "decode image"), ("c", "preprocess"), ("d", "preprocess")):
        catalog.add_faults(store, collection, stage, [fault("a.png"), fault("a.png", code="last")])
    rows = store.read(schemas.QUARANTINE, ["attempts", "code"]).to_pylist()
    assert rows == [{"attempts": 1, "code": "last"}] * 3


def test_faults_go_where_their_contents_go(store: Store) -> None:
    """The fault of a content stands at each of its places, moves with it, and goes with it; other stages stay."""
    catalog.add_faults(store, "c", "decode image", [fault("a", content_hash="1"), fault("b", content_hash="2")])
    catalog.add_faults(store, "c", "decode text", [fault("d", content_hash="3")])
    catalog.place_faults(store, "c", "decode image", {"1": ["a", "copy"], "2": ["moved"]})
    assert sorted(quarantined(store)) == ["a", "copy", "d", "moved"]
    assert quarantined(store)["moved"]["content_hash"] == "2"
    catalog.place_faults(store, "c", "decode image", {"2": ["moved"]})
    assert sorted(quarantined(store)) == ["d", "moved"]


def test_a_fault_is_tried_again_or_forgotten_on_request(store: Store) -> None:
    """Retry unmarks the bucket of a file and takes a content out; drop takes entries out; others stay."""
    catalog.add_faults(store, "c", "preprocess", [fault("a", bucket=3, code="file_empty"), fault("b", bucket=4)])
    catalog.add_faults(store, "c", "decode image", [fault("x", content_hash="1", code="file_empty")])
    note_buckets(store, "c", {3: "three", 4: "four"})
    assert catalog.retry_faults(store, "c", "file_empty") == 2
    marks = applied(store, "c")
    assert (marks[3] not in ("three", ""), marks[4]) == (True, "four")
    assert sorted(quarantined(store)) == ["a", "b"]
    assert catalog.drop_faults(store, None, "file_empty") == 1
    assert sorted(quarantined(store)) == ["b"]


def test_what_is_counted(store: Store) -> None:
    """Items and faults are counted for one collection; reasons come most frequent first; nothing is there at first."""
    assert (catalog.count_items(store, "c"), catalog.count_quarantined(store, "c")) == (0, 0)
    assert catalog.quarantine_counts(store, "c") == {}
    store.upsert("items", schemas.items(), [item("a"), item("b"), item("x", collection="d")])
    catalog.add_faults(store, "c", "s", [fault("1", code="rare"), fault("2", code="often"), fault("3", code="often")])
    catalog.add_faults(store, "d", "s", [fault("1", code="rare")])
    assert (catalog.count_items(store, "c"), catalog.count_quarantined(store, "c")) == (2, 3)
    assert list(catalog.quarantine_counts(store, "c").items()) == [("often", 2), ("rare", 1)]


def test_collections_are_remembered_by_name(store: Store) -> None:
    """A collection scanned again is one entry with its last source, and the entries come by name."""
    assert catalog.collections(store) == []
    for name, uri in (("b", "/old"), ("猫", "/cats"), ("a", "/a"), ("b", "/new")):
        catalog.record_collection(store, name, uri, uri, "{}")
    assert [(row["name"], row["uri"]) for row in catalog.collections(store)] == [
        ("a", "/a"),
        ("b", "/new"),
        ("猫", "/cats"),
    ]
