from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import schemas
from storage.ann import build_index
from storage.errors import StorageError
from storage.filters import eq, isin
from storage.fulltext import build_full_text, full_text_search
from storage.maintenance import clean, compact, needs_compaction, pin, removable, table_bytes, tag, tagged
from storage.neighbours import nearest
from storage.spaces import publish
from storage.tables import Store
from tests.storage.holders import child, read_published
from tests.storage.rows import PUBLISHED, names, spaced, unit

DIM, ROWS = 16, 1_500
KEYS = [f"k{i:05}" for i in range(ROWS)]
VECTORS = unit(ROWS, DIM, seed=1)
COLOURS = ("red", "green", "blue", "yellow", "black")
SPACE = schemas.space(DIM, ("image",), "id")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A database without tables."""
    return Store(tmp_path / "tables")


def rows(store: Store, name: str, version: int | None = None) -> dict[str, str]:
    """Name → manifest of a table like `published`."""
    found = store.read(name, ["name", "manifest"], version=version).to_pylist()
    assert len({row["name"] for row in found}) == len(found)
    return {row["name"]: row["manifest"] for row in found}


def on_disk(store: Store, name: str) -> dict[str, int]:
    """Size of each file that holds rows, deletions or indexes."""
    root = Path(store.uri) / f"{name}.lance"
    files = [path for part in ("data", "_deletions", "_indices") for path in (root / part).rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.stat().st_size for path in files}


def test_many_pieces_become_few_with_the_same_rows(store: Store) -> None:
    """Compaction leaves every row as it was, in fewer pieces, and has nothing to do a second time."""
    for number in range(30):
        store.upsert("t", PUBLISHED, names([f"{number}-{i}" for i in range(5)], manifest=str(number)))
    store.delete("t", eq("manifest", "7"))
    before = rows(store, "t")
    assert len(before) == 29 * 5
    assert compact(store, "t", fragments=24, deleted=0.5)
    assert rows(store, "t") == before
    assert len(store.open("t").to_lance().get_fragments()) < 24
    assert not compact(store, "t", fragments=24, deleted=0.5)


def test_when_a_table_is_compacted(store: Store) -> None:
    """Not with just as many pieces as allowed, nor with just the allowed share of deleted rows; with more it is."""
    for number in range(4):
        store.upsert("t", PUBLISHED, names([f"{number}-{i}" for i in range(10)]))
    assert not needs_compaction(store, "t", fragments=4, deleted=0.25)
    assert needs_compaction(store, "t", fragments=3, deleted=0.25)
    for rows_gone, wanted in ((6, False), (10, False), (11, True)):  # of 40, spread over the pieces
        store.delete("t", isin("name", [f"{i % 4}-{i // 4}" for i in range(rows_gone)]))
        assert needs_compaction(store, "t", fragments=4, deleted=0.25) is wanted
    assert compact(store, "t", fragments=4, deleted=0.25)
    assert not needs_compaction(store, "t", fragments=4, deleted=0.01)
    assert len(rows(store, "t")) == 29


@pytest.mark.parametrize("kind", ["exact", "IVF_FLAT", "IVF_HNSW_SQ"])
def test_indexes_answer_after_compaction(store: Store, kind: str) -> None:
    """Vectors and words are found after compaction and clean-up as a plain scan finds them, new rows and all."""
    texts = [f"a {COLOURS[i % 5]} thing {i}" for i in range(ROWS)]
    first = 1_000
    store.upsert("space_a", SPACE, spaced(KEYS[:first], VECTORS[:first], text=texts[:first]))
    index = build_index(store, "space_a", [], kind=kind)  # type: ignore[arg-type]
    build_full_text(store, "space_a")
    for start in range(first, ROWS, 20):
        part = slice(start, start + 20)
        store.upsert("space_a", SPACE, spaced(KEYS[part], VECTORS[part], text=texts[part]))
    gone = set(KEYS[::7])
    store.delete_keys("space_a", sorted(gone))
    before = sorted(store.strings("space_a", "key"))
    assert compact(store, "space_a", fragments=24, deleted=0.1)
    clean(store, "space_a")
    assert sorted(store.strings("space_a", "key")) == before == sorted(set(KEYS) - gone)
    alive = [i for i in range(ROWS) if KEYS[i] not in gone]
    table, queries = store.open("space_a"), unit(40, DIM, seed=2)
    found = nearest(store.dataset("space_a"), queries, 10, index)
    scores = queries.astype(np.float64) @ VECTORS[alive].astype(np.float64).T
    truth = [{KEYS[alive[place]] for place in np.argsort(-row, kind="stable")[:10]} for row in scores]
    hits = sum(len(set(one["key"].to_pylist()) & want) for one, want in zip(found, truth, strict=True))
    assert hits / 400 >= (1.0 if kind == "exact" else 0.9)
    for colour in COLOURS:
        words = full_text_search(table, colour, ROWS)["key"].to_pylist()
        assert sorted(words) == [KEYS[i] for i in alive if i % 5 == COLOURS.index(colour)]
    assert full_text_search(table, f"{ROWS - 1}", 5)["key"].to_pylist() == [KEYS[ROWS - 1]]


def test_tags_name_versions_and_pin_takes_them_off(store: Store) -> None:
    """A version tagged twice is tagged once; `pin` keeps the tags of the given versions alone, and other tags stay."""
    for number in range(4):
        store.upsert("t", PUBLISHED, names([f"{number}"]))
    newest = store.version("t")
    for version in (newest - 2, newest - 1, newest - 1, newest):
        tag(store, "t", version)
    store.open("t").tags.create("mine", newest - 2)
    assert sorted(tagged(store, "t")) == [newest - 2, newest - 1, newest]
    pin(store, "t", {newest - 1, 999})
    assert tagged(store, "t") == [newest - 1]
    assert "mine" in store.open("t").tags.list()


def test_clean_up_leaves_what_is_tagged_and_frees_what_was_foretold(store: Store) -> None:
    """Of all versions the newest and the tagged ones stay readable, row for row; the others are gone, and of data,
    deletions and indexes just the bytes that `removable` told.
    """
    states: dict[int, dict[str, str]] = {}
    for number in range(12):
        store.upsert("t", PUBLISHED, names([f"{number}-{i}" for i in range(20)], manifest=str(number)))
        store.delete("t", eq("name", f"{number}-3"))
        store.upsert("t", PUBLISHED, names([f"{number // 2}-1"], manifest="changed"))
        states[store.version("t")] = rows(store, "t")
        if number == 6:
            compact(store, "t", fragments=1, deleted=0.01)
            states[store.version("t")] = rows(store, "t")
    versions = sorted(states)
    kept = {versions[2], versions[7]}
    for version in kept:
        tag(store, "t", version)
    foretold = removable(store, "t", kept)
    before, total = on_disk(store, "t"), table_bytes(store, "t")
    freed = clean(store, "t")
    after = on_disk(store, "t")
    assert sum(before.values()) - sum(after.values()) == foretold > 0
    assert total - table_bytes(store, "t") == freed >= foretold
    for version, state in states.items():
        if version in kept or version == versions[-1]:
            assert rows(store, "t", version) == state
        else:
            with pytest.raises(StorageError, match=f"version {version} of table t is gone"):
                store.open("t", version)
    assert removable(store, "t", kept) == clean(store, "t") == 0


def test_a_reader_of_a_tagged_version_reads_on(store: Store) -> None:
    """A table opened at a tagged version before compaction and clean-up answers after them as before."""
    for number in range(6):
        store.upsert("t", PUBLISHED, names([f"{number}-{i}" for i in range(20)]))
    tag(store, "t", store.version("t"))
    held = store.open("t", store.version("t"))
    before = sorted(held.to_arrow()["name"].to_pylist())
    store.delete("t", eq("name", "2-2"))
    store.upsert("t", PUBLISHED, names(["new"]))
    assert compact(store, "t", fragments=1, deleted=0.01)
    clean(store, "t")
    assert sorted(held.to_arrow()["name"].to_pylist()) == before
    assert sorted(rows(store, "t")) == sorted({*before, "new"} - {"2-2"})


def test_what_a_killed_writer_left_goes(store: Store) -> None:
    """Files of rows that no version refers to are foretold and deleted, however young; the rows stay."""
    store.upsert("t", PUBLISHED, names(["a", "b"]))
    data = Path(store.uri) / "t.lance" / "data"
    left = next(data.iterdir()).read_bytes()
    (data / "0000000000000000000000000000000000000000000000000000.lance").write_bytes(left)
    state = rows(store, "t")
    foretold = removable(store, "t", ())
    sizes = on_disk(store, "t")
    clean(store, "t")
    assert sum(sizes.values()) - sum(on_disk(store, "t").values()) == foretold >= len(left)
    assert rows(store, "t") == state


def test_old_indexes_go_with_their_versions(store: Store) -> None:
    """An index built anew makes the former one removable, to the byte; the table still answers by the new one."""
    texts = [f"a {COLOURS[i % 5]} thing" for i in range(600)]
    store.upsert("space_a", SPACE, spaced(KEYS[:600], VECTORS[:600], text=texts))
    for _ in range(2):
        build_index(store, "space_a", [], kind="IVF_FLAT")
        build_full_text(store, "space_a")
    foretold, before = removable(store, "space_a", ()), on_disk(store, "space_a")
    folders = {path.split("/")[1] for path in before if path.startswith("_indices")}
    clean(store, "space_a")
    after = on_disk(store, "space_a")
    assert sum(before.values()) - sum(after.values()) == foretold > 0
    assert len({path.split("/")[1] for path in after if path.startswith("_indices")}) == len(folders) // 2
    assert len(full_text_search(store.open("space_a"), "red", 600)) == 120


def test_readers_do_not_notice_clean_up(store: Store) -> None:
    """Processes that read the newest version of a table, while it is written, compacted and cleaned, never fail."""
    for name in "ab":
        publish(store, name, {"number": 0})
    with child(read_published, Path(store.uri)) as one, child(read_published, Path(store.uri)) as other:
        for reader in (one, other):
            reader.hear()
        for number in range(120):
            for name in "ab":
                publish(store, name, {"number": number})
            compact(store, "published", fragments=1, deleted=0.01)
            clean(store, "published")
        for reader in (one, other):
            reader.line.send("end")
            rounds, faults = reader.hear()
            assert faults == []
            assert rounds > 0


STEPS = st.lists(st.sampled_from(["write", "change", "delete", "tag", "compact", "clean"]), min_size=1, max_size=10)


@settings(max_examples=12, deadline=None)
@given(STEPS)
def test_any_history_keeps_rows_and_tagged_versions(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    """Whatever is written, deleted, tagged, compacted and cleaned: rows and tagged versions are those of a plain dict,
    and what clean-up frees was foretold.
    """
    store = Store(tmp_path_factory.mktemp("maintenance"))
    store.upsert("t", PUBLISHED, names(["first"]))
    model, kept = {"first": "{}"}, {}
    for number, step in enumerate(steps):
        if step == "write":
            store.upsert("t", PUBLISHED, names([f"{number}-{i}" for i in range(5)], manifest=str(number)))
            model |= {f"{number}-{i}": str(number) for i in range(5)}
        elif step == "change":
            key = max(model, default="first")
            store.upsert("t", PUBLISHED, names([key], manifest=f"changed {number}"))
            model[key] = f"changed {number}"
        elif step == "delete" and model:
            del model[key := min(model)]
            store.delete("t", eq("name", key))
        elif step == "tag":
            tag(store, "t", store.version("t"))
            kept[store.version("t")] = dict(model)
        elif step == "compact":
            compact(store, "t", fragments=1, deleted=0.01)
        elif step == "clean":
            foretold, before = removable(store, "t", kept), on_disk(store, "t")
            clean(store, "t")
            assert sum(before.values()) - sum(on_disk(store, "t").values()) == foretold
        assert rows(store, "t") == model
    for version, state in kept.items():
        assert rows(store, "t", version) == state


def test_a_table_that_is_not_there_has_no_bytes(store: Store) -> None:
    """A table that is not there counts as nothing; one that is there as its files."""
    assert (table_bytes(store, "t"), removable(store, "t", ())) == (0, 0)
    store.upsert("t", PUBLISHED, names(["a"]))
    root = Path(store.uri) / "t.lance"
    assert table_bytes(store, "t") == sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) > 0
