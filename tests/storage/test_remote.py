from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from storage import maintenance, remote, schemas
from storage.errors import GoneError, StorageError
from storage.filters import eq
from storage.lock import writing
from storage.remote import OWNER, claim
from storage.tables import Store
from tests import objects
from tests.storage.rows import EMBEDDINGS, PUBLISHED, embedded, names, unit, write_same


def test_tables_are_the_same_as_on_disk(s3: str, tmp_path: Path) -> None:
    """The same history of upserts, deletions and old versions leaves the same rows on object storage as on disk."""
    vectors = unit(40)
    keys = [f"{number:02x}" for number in range(40)]
    found = []
    for store in (Store(s3), Store(tmp_path / "tables")):
        store.upsert("e", EMBEDDINGS, embedded(keys[:30], vectors[:30]))
        noted = store.version("e")
        store.upsert("e", EMBEDDINGS, embedded(keys[20:], vectors[20:]))
        store.delete("e", eq("content_hash", "05"))
        columns = EMBEDDINGS.names
        found.append((
            store.names(), store.version("e"), store.missing("e", [*keys, "zz"]),
            sorted(map(str, store.read("e", columns).to_pylist())),
            sorted(map(str, store.read("e", columns, version=noted).to_pylist())),
        ))  # fmt: skip
        assert not store.exists("none")
        assert store.count("none") == 0
    assert found[0] == found[1]


def test_writers_at_once_leave_each_key_once(s3: str) -> None:
    """Two processes that write the same new keys, in a table that none has made yet, leave each once and none out."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    writers = [context.Process(target=write_same, args=(s3, start, n)) for n in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = Counter(Store(s3).strings("published", "name"))
    assert found == Counter(f"{batch}-{i}" for batch in range(4) for i in range(250))


def test_makers_at_once_lose_no_row(s3: str) -> None:
    """Whoever makes a table first, the rows that others write at the same moment stay."""
    start = threading.Barrier(3)

    def write(writer: int) -> None:
        store = Store(s3)
        store.names()
        for number in range(4):
            start.wait(60)
            store.upsert(f"t{number}", PUBLISHED, names([f"{writer}"]))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = Store(s3)
    assert [sorted(store.strings(f"t{number}", "name")) for number in range(4)] == [list("012")] * 4


def test_what_the_store_refuses_is_one_line(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bucket, refused credentials, http unasked, nobody there, one that never answers: a line with the URI, the
    cause and the mend, within seconds, and without the secret.
    """
    monkeypatch.setattr(remote, "_PATIENCE", 0.3)
    port = socket.create_server(("127.0.0.1", 0))  # it takes connections, and says nothing
    hole = f"http://127.0.0.1:{port.getsockname()[1]}"
    cases: list[tuple[str, dict[str, str | None], str, str]] = [
        ("s3://no-such-bucket/tables", {}, "no such bucket", "MODALIGN_TABLES_URI"),
        (s3, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "no answer from http://127.0.0.1:9", "AWS_ENDPOINT_URL"),
        (s3, {"AWS_ENDPOINT_URL": hole}, f"no answer from {hole}", "AWS_ENDPOINT_URL"),
        (s3, {"AWS_ENDPOINT_URL": "gopher://127.0.0.1"}, "no http address", "AWS_ENDPOINT_URL"),
        (s3, {"AWS_ALLOW_HTTP": None}, "not https", "AWS_ALLOW_HTTP=true"),
        (s3, {}, "credentials are not accepted", "AWS_SECRET_ACCESS_KEY"),
        ("s4://bucket/tables", {}, "scheme is not known", "s3://"),
    ]
    for uri, said, cause, mend in cases:
        with monkeypatch.context() as patch:
            for name, value in said.items():
                patch.delenv(name) if value is None else patch.setenv(name, value)
            if cause == "credentials are not accepted":
                patch.setattr(objects.moto_settings(), "INITIAL_NO_AUTH_ACTION_COUNT", 0)
            begun = time.monotonic()
            with pytest.raises(StorageError) as caught:
                Store(uri).names()
        assert time.monotonic() - begun < 20, uri
        assert uri in caught.value.message
        assert cause in caught.value.message
        assert mend in caught.value.mend
        assert objects.SECRET not in str(caught.value)
        assert caught.value.__cause__ is None
        assert "\n" not in str(caught.value)
    port.close()


def test_rights_that_end_meanwhile(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that are refused in the middle of the work are an error for good, and no empty table."""
    store = Store(s3)
    store.upsert("published", PUBLISHED, names(["a"]))
    with monkeypatch.context() as patch:
        patch.setattr(objects.moto_settings(), "INITIAL_NO_AUTH_ACTION_COUNT", 0)
        for use in (lambda: store.count("published"), lambda: store.exists("none"), store.names,
                    lambda: store.upsert("published", PUBLISHED, names(["b"]))):  # fmt: skip
            with pytest.raises(StorageError, match="credentials") as caught:
                use()
            assert objects.SECRET not in str(caught.value)
    assert store.strings("published", "name") == ["a"]


def test_a_store_that_goes_away_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is gone in the middle of the work is an `OSError`, which a task tries again; never "no table"."""
    with objects.served() as address:
        for name, value in objects.environment(address).items():
            monkeypatch.setenv(name, value)
        store = Store(objects.fresh())
        store.upsert("published", PUBLISHED, names(["a"]))
    with pytest.raises(OSError, match="error sending request"):
        store.exists("published")


def test_clean_up_leaves_what_is_used(s3: str, s3_server: str) -> None:
    """Old versions go and their bytes are told before; tagged ones stay; what a killed writer left just now stays."""
    store = Store(s3)
    for number in range(4):
        store.upsert("e", EMBEDDINGS, embedded(["a", "b"], unit(2, seed=number)))
    maintenance.tag(store, "e", 3)
    place = s3.removeprefix("s3://bucket/")
    objects.ask(f"{s3_server}/bucket/{place}/e.lance/data/orphan.lance", "PUT", b"of a killed writer")
    told = maintenance.removable(store, "e", [3])
    size = maintenance.table_bytes(store, "e")
    assert 0 < size < told
    assert maintenance.clean(store, "e") >= told
    assert maintenance.removable(store, "e", [3]) == 0
    assert maintenance.table_bytes(store, "e") == size
    assert store.vectors("e", ["a", "b"])[0].tolist() == unit(2, seed=3).tolist()
    assert store.read("e", ["content_hash"], version=3).num_rows == 2
    assert any(name.endswith("orphan.lance") for name in objects.keys(s3_server, s3))
    with pytest.raises(StorageError, match="version 2 of table e is gone"):
        store.open("e", 2)
    for name in objects.keys(s3_server, s3):
        if "/data/" in name:
            objects.remove(s3_server, name)
    with pytest.raises(GoneError, match="table e"):
        Store(s3).read("e", EMBEDDINGS.names)


def test_tables_belong_to_one_workspace(s3: str, tmp_path: Path) -> None:
    """Of two workspaces over the same tables the first to write owns them, whoever comes at the same moment; the
    other is refused by a line that names the owner's folder. On disk nothing is claimed.
    """
    roots = [tmp_path / "a", tmp_path / "b"]
    ends: list[Any] = []
    start = threading.Barrier(2)

    def write(root: Path) -> None:
        store = Store(s3)
        store.names()
        with writing(root, "test", wait=0, waiting=ends.append):
            start.wait(60)
            try:
                claim(store, root)
            except StorageError as error:
                ends.append(error)

    for root in roots:
        root.mkdir()
    threads = [threading.Thread(target=write, args=(root,)) for root in roots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (refused,) = ends
    (owner,) = [root for root in roots if str(root) in refused.message]
    claim(Store(s3), owner)
    assert s3 in refused.message
    assert Store(s3).names() == [OWNER]
    claim(Store(tmp_path / "tables"), roots[0])
    assert Store(tmp_path / "tables").names() == []
    assert schemas.workspace({}).names == ["name"]


def test_a_uri_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in the URI of the tables are refused, and not repeated: it is shown, stored and deployed."""
    from config.errors import UserError

    for uri in (f"s3://user:{objects.SECRET}@bucket/tables", f"s3://bucket/tables?secret={objects.SECRET}"):
        monkeypatch.setenv("MODALIGN_TABLES_URI", uri)
        with pytest.raises(UserError, match="environment") as caught:
            Settings()
        assert objects.SECRET not in str(caught.value)
