from __future__ import annotations

import inspect
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import schemas
from storage.errors import StorageError
from storage.filters import eq
from storage.tables import Mask, Store, check_vectors, matrix, named, vector_column
from tests.storage.rows import EMBEDDINGS, PUBLISHED, embedded, item, names, unit, write_same, write_until_killed

SCHEMAS = {
    "items": schemas.items(),
    "pairs": schemas.pairs(),
    "answers": schemas.answers(),
    "generated": schemas.generated(),
    "quarantine": schemas.quarantine(),
    "collections": schemas.collections(),
    "published": PUBLISHED,
    "promotions": schemas.promotions(),
    "buckets": schemas.buckets(),
    "files": schemas.files(),
    "marks": schemas.marks(),
    "embeddings": EMBEDDINGS,
    "parts": schemas.parts(4, "{}", "fp"),
    "space": schemas.space(4, ("image", "text"), "id"),
    "moments": schemas.moments(4, ("audio", "text"), "id"),
    "workspace": schemas.workspace({"modalign.workspace": "id"}),
}
KEYS = [f"{i:03x}" for i in range(300)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A database without tables."""
    return Store(tmp_path / "tables")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A table `hex` with keys like content hashes, `odd` with keys of all sorts."""
    made = Store(tmp_path_factory.mktemp("tables"))
    made.upsert("hex", EMBEDDINGS, embedded(KEYS, unit(len(KEYS))))
    made.upsert("odd", PUBLISHED, names(["a", "a'b", "猫", "a b", "", "z"]))
    return made


def test_every_schema_declares_its_key(store: Store) -> None:
    """Each table has one non-null string key that is declared as primary, on disk too; no schema is forgotten."""
    made = {name for name, one in inspect.getmembers(schemas, inspect.isfunction) if not name.startswith("_")}
    assert made - {"key_of"} == set(SCHEMAS)
    for name, schema in SCHEMAS.items():
        stored = store.create(name, schema).schema
        key = stored.field(schemas.key_of(stored))
        assert (key.type, key.nullable) == (pa.string(), False)
        assert [field.name for field in stored if field.metadata] == [key.name]
        assert stored.metadata[schemas.VERSION_KEY] == b"1"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from("abcdef"), st.text("xyz", max_size=2)), max_size=6), max_size=5))
def test_a_table_is_a_dict(shared: Store, batches: list[list[tuple[str, str]]]) -> None:
    """Any history of upserts leaves what the same history of dict updates leaves; doing one twice changes nothing."""
    shared.drop("history")
    expected: dict[str, str] = {}
    for batch in batches:
        rows = [{"name": key, "manifest": value} for key, value in batch]
        for _ in range(2):
            assert shared.upsert("history", PUBLISHED, rows) == len(dict(batch))
        expected |= dict(batch)
    found = shared.read("history", ["name", "manifest"]).to_pylist()
    assert sorted((row["name"], row["manifest"]) for row in found) == sorted(expected.items())


@pytest.mark.parametrize("changes", [(), (0,), (3, 4, 11), tuple(range(12))])
def test_rows_are_revised_in_place(store: Store, changes: tuple[int, ...]) -> None:
    """Of rows in several files, some of them deleted, some filtered out, just the chosen ones get the new values.

    `revise` gives them in the order of `scan`, which is that of the files; the other columns stay, and nothing is
    written where nothing changes.
    """
    for start in range(0, 20, 5):
        rows = [item(f"{n:02}", collection="d" if n % 5 == 1 else "c", text=f"t{n}") for n in range(start, start + 5)]
        store.insert(schemas.ITEMS, schemas.items(), rows)
    store.delete_keys(schemas.ITEMS, ["00", "07", "15", "17"])
    before = {row["key"]: row for row in store.read(schemas.ITEMS, schemas.items().names).to_pylist()}
    here = eq("collection", "c")
    keys = [key for batch in store.scan(schemas.ITEMS, ["key"], here) for key in batch.column(0).to_pylist()]
    assert keys == sorted(key for key, row in before.items() if row["collection"] == "c")
    chosen, done, version = [keys[place] for place in changes], 0, store.version(schemas.ITEMS)

    def anew(rows: pa.Table) -> tuple[Mask, pa.Table]:
        nonlocal done
        some = keys[done : done + len(rows)]
        done += len(rows)
        those = [key for key in some if key in chosen]
        return np.isin(some, chosen), pa.table({"group": [f"g{key}" for key in those], "split": ["val"] * len(those)})

    assert store.revise(schemas.ITEMS, ["group", "split"], here, anew) == len(changes)
    after = {row["key"]: row for row in store.read(schemas.ITEMS, schemas.items().names).to_pylist()}
    assert after == before | {key: before[key] | {"group": f"g{key}", "split": "val"} for key in chosen}
    assert (store.version(schemas.ITEMS) > version) == bool(changes)


def test_a_part_of_the_columns_keeps_the_others(store: Store) -> None:
    """An upsert of some columns changes these alone, and only in rows that are there."""
    vectors = unit(2)
    store.upsert("e", EMBEDDINGS, embedded(["a", "b"], vectors))
    part = pa.table({"content_hash": ["b", "new"], "truncated": [True, True]})
    assert store.upsert("e", EMBEDDINGS, part) == 1
    rows = {row["content_hash"]: row for row in store.read("e", EMBEDDINGS.names).to_pylist()}
    assert sorted(rows) == ["a", "b"]
    assert (rows["a"]["truncated"], rows["b"]["truncated"]) == (False, True)
    assert rows["b"]["vector"] == vectors[1].tolist()


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_writers_at_once_leave_each_key_once(store: Store, kind: str) -> None:
    """Writers of the same new keys, in a table that none has made yet, leave each key once and none out."""
    if kind == "threads":
        start: Any = threading.Barrier(2)
        writers: list[Any] = [threading.Thread(target=write_same, args=(store.uri, start, n)) for n in range(2)]
    else:
        context = multiprocessing.get_context("spawn")
        start = context.Barrier(2)
        writers = [context.Process(target=write_same, args=(store.uri, start, n)) for n in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = Counter(store.strings("published", "name"))
    assert found == Counter(f"{batch}-{i}" for batch in range(4) for i in range(250))


def test_makers_at_once_lose_no_row(store: Store) -> None:
    """Whoever makes a table first, the rows that others write at the same moment stay."""
    start = threading.Barrier(4)

    def write(writer: int) -> None:
        for number in range(15):
            start.wait(60)
            store.upsert(f"t{number}", PUBLISHED, names([f"{writer}"]))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sorted(store.strings(f"t{number}", "name")) for number in range(15)] == [list("0123")] * 15
    assert [path.name for path in Path(store.uri).iterdir() if not path.name.endswith(".lance")] == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, 1.01, 1e30])
def test_one_bad_vector_stops_its_batch(store: Store, bad: float) -> None:
    """A vector that is not finite or not of unit length is refused by name, and nothing of its batch is written."""
    vectors = unit(3)
    vectors[1] = [bad, 0, 0, 0]
    with pytest.raises(StorageError, match=r"1 vectors for e are not finite or not of unit length \(row 1"):
        store.upsert("e", EMBEDDINGS, embedded(["a", "b", "c"], vectors))
    assert store.count("e") == 0


def test_half_precision_stays(store: Store) -> None:
    """Tokens come back in half precision, bit for bit, in the order of the keys; broken ones are refused as well."""
    schema = schemas.embeddings(4, "{}", "f", half=True)
    vectors = unit(3).astype(np.float16)

    def rows(values: Any) -> pa.Table:
        columns = [pa.array(["a", "b", "c"]), vector_column(values), pa.array([False] * 3)]
        return pa.Table.from_arrays(columns, schema=schema)

    store.upsert("t", schema, rows(vectors))
    out, found = store.vectors("t", ["c", "none", "a"])
    assert (out.dtype, found.tolist()) == (np.float16, [True, False, True])
    assert np.array_equal(out[[0, 2]], vectors[[2, 0]])
    assert not out[1].any()
    with pytest.raises(StorageError, match="3 vectors for t are not finite or not of unit length"):
        store.upsert("t", schema, rows(vectors * np.float16(1.01)))


def test_unit_length_within_a_thousandth() -> None:
    """A length off by half a thousandth passes, as bf16 arithmetic needs; a table without vectors is not checked."""
    check_vectors("e", embedded(["a", "b"], np.array([[1.0005, 0, 0, 0], [0.9995, 0, 0, 0]], np.float32)))
    check_vectors("p", pa.Table.from_pylist(names(["a"]), PUBLISHED))


@pytest.mark.parametrize(
    "rows",
    [
        embedded(["a"], unit(1, dim=3)),
        [{"content_hash": "a", "vector": None, "truncated": False}],
        [{"content_hash": "a", "vector": [1.0, 0.0, 0.0, 0.0]}],
        [{"content_hash": None, "vector": [1.0, 0.0, 0.0, 0.0], "truncated": False}],
        [{"content_hash": "\ud800", "vector": [1.0, 0.0, 0.0, 0.0], "truncated": False}],
        [{"content_hash": "a", "vector": [1.0, 0.0, 0.0, 0.0], "truncated": False, "extra": 1}],
        pa.table({"content_hash": ["a"], "extra": [1]}),
        pa.table({"truncated": [True]}),
    ],
    ids=["width", "null vector", "null value", "null key", "no text", "unknown in dict", "unknown in table", "no key"],
)
def test_rows_that_do_not_fit_are_refused(store: Store, rows: Any) -> None:
    """Rows of the wrong width, with nulls where none may be or with unknown columns are refused by the table's name."""
    with pytest.raises(StorageError, match="rows for e do not fit"):
        store.upsert("e", EMBEDDINGS, rows)
    assert store.count("e") == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([*KEYS, "none", "zzz", ""])))
def test_vectors_come_in_the_order_of_the_keys(shared: Store, wanted: list[str]) -> None:
    """Each key gets its own vector, however often and in whatever order it is asked for; a missing one gets zeros."""
    known = dict(zip(KEYS, unit(len(KEYS)), strict=True))
    vectors, found = shared.vectors("hex", wanted)
    assert found.tolist() == [key in known for key in wanted]
    assert vectors.shape == (len(wanted), 4)
    for key, vector in zip(wanted, vectors, strict=True):
        np.testing.assert_array_equal(vector, known.get(key, np.zeros(4, np.float32)))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([*KEYS[:5], KEYS[-1], "a'b", "猫", "猫猫", "a b", "", "y", "zz"]) | st.text(max_size=3))
)
def test_missing_is_set_difference(shared: Store, wanted: list[str]) -> None:
    """The anti-join keeps, in their order, the keys that are not among the table's, whatever characters they hold."""
    for name, known in (("hex", set(KEYS)), ("odd", {"a", "a'b", "猫", "a b", "", "z"}), ("none", set[str]())):
        assert shared.missing(name, wanted) == [key for key in wanted if key not in known]


def test_a_table_that_is_not_there_is_empty(store: Store) -> None:
    """Reading, counting and deleting find nothing where there is no table; opening it is an error that names it."""
    assert list(store.stream("t", ["a"])) == []
    assert store.read("t", ["a", "b"]).to_pydict() == {"a": [], "b": []}
    assert (store.names(), store.exists("t"), store.count("t"), store.strings("t", "a")) == ([], False, 0, [])
    assert (store.delete("t", eq("a", 1)), store.delete_keys("t", ["a"])) == (0, 0)
    store.drop("t")
    for ask in (store.open, store.version, store.metadata, lambda name: store.vectors(name, ["a"])):
        with pytest.raises(StorageError, match="there is no table t in"):
            ask("t")


def test_an_empty_table_is_not_a_missing_one(store: Store) -> None:
    """A table without rows keeps its types when read, and its rows to come when made once more."""
    store.create("t", PUBLISHED)
    assert store.exists("t")
    assert store.read("t", ["name", "published_at"]).schema.types == [pa.string(), pa.timestamp("us", tz="UTC")]
    store.upsert("t", PUBLISHED, names(["a"]))
    assert store.create("t", PUBLISHED).count_rows() == 1


def test_a_newer_table_is_refused_by_name(store: Store) -> None:
    """A table with a higher schema version is neither read nor written, even where its columns differ as well."""
    newer = PUBLISHED.append(pa.field("more", pa.string())).with_metadata({schemas.VERSION_KEY: b"2"})
    store._db.create_table("published", schema=newer)
    for use in (
        lambda: store.read("published", ["name"]),
        lambda: store.open("published"),
        lambda: store.count("published"),
        lambda: store.upsert("published", PUBLISHED, names(["a"])),
    ):
        with pytest.raises(StorageError, match=r"table published was written by a newer modalign \(schema 2"):
            use()


def test_a_table_keeps_its_own_description(store: Store) -> None:
    """A schema that differs in its description alone fits the table, whose own stays; other columns are refused."""
    store.create("e", schemas.embeddings(4, '{"old": 1}', "fp"))
    store.upsert("e", schemas.embeddings(4, '{"new": 1}', "fp"), embedded(["a"], unit(1)))
    assert store.metadata("e")["modalign.spec"] == '{"old": 1}'
    assert store.count("e") == 1
    with pytest.raises(StorageError, match=r"table e in .* has other columns"):
        store.create("e", schemas.embeddings(5, "{}", "fp"))


def test_names_of_tables(store: Store) -> None:
    """Letters, digits, `_`, `-` and `.` name a table; any other name is refused by name and found nowhere."""
    for name in ("space_my-photos.v1", "A", ".x", "-", "0"):
        store.upsert(name, PUBLISHED, names([name]))
        assert store.strings(name, "name") == [name]
    for name in ("a/b", "../a", "..", "", "a b", "照片", "a'b", "a\nb"):
        with pytest.raises(StorageError, match="cannot be made"):
            store.create(name, PUBLISHED)
        assert not store.exists(name)
    assert store.names() == sorted(["space_my-photos.v1", "A", ".x", "-", "0"])


def test_all_tables_are_listed(store: Store) -> None:
    """All tables are named, in order, however many there are."""
    for number in range(120):
        store.create(f"t{number:03}", PUBLISHED)
    assert store.names() == [f"t{number:03}" for number in range(120)]


def test_deleting_more_keys_than_one_filter_holds(store: Store) -> None:
    """Keys are deleted in several filters, and the number says how many were there."""
    keys = [f"k{i}" for i in range(4_500)]
    store.upsert("published", PUBLISHED, names(keys))
    assert store.delete_keys("published", [*keys[:4_400], "none"]) == 4_400
    assert sorted(store.strings("published", "name")) == sorted(keys[4_400:])


def test_an_old_version_stays_readable(store: Store) -> None:
    """A version that was noted can be read after later writes; one that is gone is an error that names it."""
    store.upsert("published", PUBLISHED, names(["a"]))
    noted = store.version("published")
    store.upsert("published", PUBLISHED, names(["a", "b"], manifest="later"))
    assert store.read("published", ["manifest"], version=noted).to_pydict() == {"manifest": ["{}"]}
    assert store.count("published") == 2
    with pytest.raises(StorageError, match="version 99 of table published is gone"):
        store.open("published", 99)


def test_dropped_and_made_again_is_new(store: Store) -> None:
    """A table that was dropped and made again holds the new rows alone, for every connection."""
    other = Store(store.uri)
    for number in range(5):
        keys = [f"{number}-{i}" for i in range(number + 1)]
        store.upsert("published", PUBLISHED, names(keys))
        assert sorted(other.strings("published", "name")) == keys
        store.drop("published")
        assert not other.exists("published")


def test_what_a_kill_left_of_a_table_is_no_table(store: Store) -> None:
    """A folder without a version is not a table, and does not keep one from being made in its place."""
    (Path(store.uri) / "published.lance" / "data").mkdir(parents=True)
    assert not store.exists("published")
    store.upsert("published", PUBLISHED, names(["a"]))
    assert store.strings("published", "name") == ["a"]


def test_killed_in_the_middle(store: Store) -> None:
    """A kill -9 in a loop of upserts leaves whole batches, all that were reported, and a table that goes on."""
    context = multiprocessing.get_context("spawn")
    size = 400
    for _ in range(2):
        mine, theirs = context.Pipe(duplex=False)
        child = context.Process(target=write_until_killed, args=(store.uri, theirs, size))
        child.start()
        theirs.close()
        reported = [mine.recv() for _ in range(5)]
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        while True:
            try:
                reported.append(mine.recv())
            except EOFError:
                break
        counts = Counter(store.strings("published", "manifest"))
        assert set(counts.values()) == {size}
        assert {str(batch) for batch in reported} <= set(counts)
        assert len(set(store.strings("published", "name"))) == size * len(counts)
    assert store.upsert("published", PUBLISHED, names(["after"])) == 1


@pytest.mark.parametrize("pattern", ["data/*.lance", "_versions/*.manifest"])
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:10], lambda data: b"x" * len(data)])
def test_damaged_files_are_named(store: Store, pattern: str, damage: Callable[[bytes], bytes]) -> None:
    """A file that is empty, cut short or overwritten is an error that names the table, when read and when written."""
    store.upsert("published", PUBLISHED, names(["a"]))
    for path in (Path(store.uri) / "published.lance").glob(pattern):
        path.write_bytes(damage(path.read_bytes()))
    for use in (
        lambda: store.read("published", ["name"]),
        lambda: store.upsert("published", PUBLISHED, names(["a"])),
    ):
        with pytest.raises(StorageError, match="a file of table published is gone or damaged"):
            use()


def test_a_folder_that_may_not_be_written(store: Store) -> None:
    """Where the workspace is read-only, writing is an error that names the table, and reading goes on."""
    store.upsert("published", PUBLISHED, names(["a"]))
    folders = [Path(store.uri), *(path for path in Path(store.uri).rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    try:
        if os.access(store.uri, os.W_OK):
            pytest.skip("rights do not bind this user")
        for use in (
            lambda: store.upsert("published", PUBLISHED, names(["b"])),
            lambda: store.create("new", PUBLISHED),
            lambda: store.delete_keys("published", ["a"]),
            lambda: store.drop("published"),
        ):
            with pytest.raises(StorageError, match=r"(published|new) cannot be written \(Permission denied\)"):
                use()
        assert Store(store.uri).strings("published", "name") == ["a"]
    finally:
        for path in folders:
            path.chmod(0o755)


def test_a_file_in_the_way_of_the_workspace(tmp_path: Path) -> None:
    """A workspace whose path leads through a file is an error that names the path."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"file/tables cannot be written \(Not a directory\)"):
        Store(tmp_path / "file" / "tables").names()


@pytest.mark.parametrize(
    ("said", "told", "message"),
    [
        (
            RuntimeError("lance error: LanceError(IO): No space left on device (os error 28)"),
            StorageError,
            "disk is full",
        ),
        (OSError(28, "No space left on device"), StorageError, "disk is full"),
        (RuntimeError("lance error: LanceError(IO): Read-only file system (os error 30)"), StorageError, "Read-only"),
        (PermissionError(13, "Permission denied"), StorageError, "t cannot be written"),
        (RuntimeError("lance error: LanceError(IO): Generic S3 error: connection reset"), OSError, "connection reset"),
        (RuntimeError("lance error: Retryable commit conflict for version 2"), OSError, "conflict"),
        (RuntimeError("lance error: something else"), RuntimeError, "something else"),
        (ValueError("not the disk"), ValueError, "not the disk"),
    ],
    ids=["full in Lance", "full", "read-only in Lance", "rights", "network", "conflict", "other", "no disk"],
)
def test_what_the_disk_says_is_told(said: Exception, told: type[Exception], message: str) -> None:
    """What lasts becomes a `StorageError`, what may pass an `OSError` that a task retries; the rest stays as it is."""
    with pytest.raises(told, match=message) as caught, named("t"):
        raise said
    assert caught.type is told


def test_vector_columns_are_exact() -> None:
    """Vectors come back from an Arrow column bit for bit, from slices and unordered memory as well."""
    vectors = unit(7, dim=5)
    column = vector_column(vectors.T.copy().T)
    np.testing.assert_array_equal(matrix(column), vectors)
    np.testing.assert_array_equal(matrix(column[2:5]), vectors[2:5])
    assert matrix(column[:0]).shape == (0, 5)
