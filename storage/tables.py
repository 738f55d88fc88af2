"""All reads and writes of LanceDB tables: typed filters, streaming reads, upserts by primary key, checked vectors."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.errors import GoneError, StorageError, refused_by_disk
from storage.filters import Filter, isin
from storage.importing import deferred
from storage.remote import await_endpoint, cannot_connect, is_remote, refused_by_store
from storage.schemas import SCHEMA_VERSION, VERSION_KEY, key_of

if TYPE_CHECKING:
    from lance import LanceDataset
    from lancedb.db import LanceDBConnection
    from lancedb.table import Table

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
R = TypeVar("R")

TABLE_ID = b"modalign.table_id"
"""In the metadata of a table: a random name, for a table made anew may have the version numbers of the former."""

_INDEXES = 2 << 30  # bytes of indexes that are kept in memory
_MANIFESTS = 64 << 20  # … of what tables say of themselves: each write makes a version, and LanceDB's own bound is 1 GB
_ODD_NAME = re.compile(r"[^\w.-]|\A\.*\Z", re.ASCII)
_CHUNK = 2_000  # keys in one IN (…) list
_TRIES, _PAUSE = 5, 0.02  # of a reader whose version is cleaned up under its eyes; seconds
# what Lance says of files that are gone, cut short or overwritten
_DAMAGED = re.compile("Not found|too small|Invalid range|sufficient data|fill whole buffer|corrupt file|invalid magic")


class Store:
    """The tables of one LanceDB database, on disk or on object storage.

    Every write goes by the primary key, so that doing it twice, or from two processes at once, changes nothing.
    Raises `StorageError` for a full or read-only disk, a damaged table or vector, rows that do not fit the table, and a
    table of a newer program; `OSError` for what may pass (a network, a conflict of writers).
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri)

    @cached_property
    def _db(self) -> LanceDBConnection:
        with deferred():
            import lancedb
            from lancedb.db import LanceDBConnection

        session = lancedb.Session(index_cache_size_bytes=_INDEXES, metadata_cache_size_bytes=_MANIFESTS)
        try:
            await_endpoint(self.uri)
            with named(self.uri):
                connection = lancedb.connect(self.uri, session=session)
        except (OSError, RuntimeError, ValueError) as error:
            if not is_remote(self.uri):
                raise
            raise cannot_connect(self.uri, error) from None
        if not isinstance(connection, LanceDBConnection):
            raise StorageError(f"{self.uri} is no LanceDB folder", "give a folder or the URI of an object store")
        return connection

    def names(self) -> list[str]:
        """Names of all tables, sorted."""
        found: list[str] = []
        page: str | None = None
        while True:
            with named(self.uri):
                answer = self._db.list_tables(page_token=page)
            found += answer.tables
            page = answer.page_token
            if not page:
                return sorted(found)

    def exists(self, name: str) -> bool:
        """Whether the table `name` is there."""
        return self._find(name) is not None

    def open(self, name: str, version: int | None = None) -> Table:
        """The newest version of a table, or a given one, read-only. Raises `StorageError` when it is not there."""
        table = self._find(name)
        if table is None:
            raise StorageError(f"there is no table {name} in {self.uri}", "run ingest first")
        if version is not None:
            try:
                with named(name):
                    table.checkout(version)
            except (ValueError, GoneError) as error:
                raise StorageError(f"version {version} of table {name} is gone", "run align again") from error
        return table

    def dataset(self, name: str, version: int | None = None) -> LanceDataset:
        """The newest version of a table, or a given one, as Lance itself reads it: for searches by vector.

        What it has read of indexes stays in memory, for all data sets of this store. Raises as `open` does.
        """
        with named(name):
            return self.open(name, version).to_lance(session=self._session)

    @cached_property
    def _session(self) -> object:
        import lance

        return lance.Session(  # type: ignore[attr-defined]
            index_cache_size_bytes=_INDEXES, metadata_cache_size_bytes=_MANIFESTS
        )

    def create(self, name: str, schema: pa.Schema) -> Table:
        """The table `name`, made with `schema` if it is not there yet; one that is there keeps its own metadata."""
        table = self._find(name)
        if table is None:
            table = self._make(name, schema)
        if not table.schema.equals(schema, check_metadata=False):
            raise StorageError(
                f"table {name} in {self.uri} has other columns than this modalign writes",
                "use another workspace, or delete the table and run again",
            )
        return table

    def _find(self, name: str) -> Table | None:
        return patient(lambda: self._look_for(name))

    def _look_for(self, name: str) -> Table | None:
        with named(name):
            try:
                table = self._db.open_table(name)
            except ValueError as error:  # no such table, or no such name
                if "LanceError(IO)" in str(error):
                    raise
                return None
        _check_version(name, table.schema)
        return table

    def _make(self, name: str, schema: pa.Schema) -> Table:
        """Make an empty table, unless another process is faster: its first version can be committed once alone.

        LanceDB's own `create_table` would commit it on top of the other's, with the rows written in between.
        """
        from lance import LanceDataset, LanceOperation

        schema = schema.with_metadata({**(schema.metadata or {}), TABLE_ID: uuid.uuid4().hex[:12]})
        if _ODD_NAME.search(name):
            raise StorageError(f"table {name!r} cannot be made", "its name may hold letters, digits, _, - and . alone")
        if not is_remote(self.uri):
            with named(name):
                Path(self.uri).mkdir(parents=True, exist_ok=True)
        place = f"{self.uri.rstrip('/')}/{name}.lance"
        try:
            with named(name):
                LanceDataset.commit(place, LanceOperation.Overwrite(schema, []), read_version=0, max_retries=0)
        except (OSError, GoneError):  # another process was faster, or the disk refuses
            table = self._find(name)
            if table is None:
                raise
            return table
        return self.open(name)

    def drop(self, name: str) -> None:
        """Delete a table; nothing happens if it is not there."""
        with named(name):
            self._db.drop_table(name, ignore_missing=True)

    def version(self, name: str) -> int:
        """Number of the newest version of a table."""
        return int(self.open(name).version)

    def state(self, names: Iterable[str]) -> str:
        """Identities and versions of tables: while it stays the same, so does every row of them."""
        return " ".join(self._state(name) for name in names)

    def _state(self, name: str) -> str:
        table = self._find(name)
        return f"{name}@none" if table is None else f"{name}@{_identity(table)}:{table.version}"

    def identity(self, name: str) -> str:
        """What tells a table from another one that bore its name before; "" if it is not there."""
        table = self._find(name)
        return "" if table is None else _identity(table)

    def schema(self, name: str) -> pa.Schema:
        """The schema of a table."""
        return self.open(name).schema

    def metadata(self, name: str) -> dict[str, str]:
        """The schema metadata of a table."""
        return {key.decode(): value.decode() for key, value in (self.open(name).schema.metadata or {}).items()}

    def count(self, name: str, where: Filter | None = None) -> int:
        """Number of rows that satisfy `where`; 0 if there is no such table."""
        return patient(lambda: self._count(name, where))

    def _count(self, name: str, where: Filter | None) -> int:
        table = self._find(name)
        if table is None:
            return 0
        with named(name):
            return int(table.count_rows(where.sql if where else None))

    def upsert(self, name: str, schema: pa.Schema, rows: pa.Table | Sequence[dict[str, Any]]) -> int:
        """Insert `rows`, replacing those whose key is there already; give the number of rows written.

        An Arrow table may hold a part of the columns: then only rows that are there already are written, and their
        other columns stay as they are. A dict is a whole row: what it lacks is null. Of two rows with one key, the last
        wins.
        """
        table = self.create(name, schema)
        data = _fit(name, schema, rows)
        if data.num_rows == 0:
            return 0
        check_vectors(name, data)
        merge = table.merge_insert(key_of(schema)).when_matched_update_all()
        if data.num_columns == len(schema):
            merge = merge.when_not_matched_insert_all()
        with named(name):
            done = merge.execute(data)
        return int(done.num_inserted_rows + done.num_updated_rows)

    def insert(self, name: str, schema: pa.Schema, rows: pa.Table | Sequence[dict[str, Any]]) -> int:
        """Append whole rows with new keys; give their number. An upsert would compare them with every row there is.

        Only for who has just looked that no such key is there, and is the one writer of these keys meanwhile.
        """
        data = _fit(name, schema, rows)
        if data.num_rows:
            check_vectors(name, data)
            table = self.create(name, schema)
            with named(name):
                table.add(data)
        return int(data.num_rows)

    def delete(self, name: str, where: Filter) -> int:
        """Delete the rows that satisfy `where`; give their number."""
        table = self._find(name)
        if table is None:
            return 0
        with named(name):
            return int(table.delete(where.sql).num_deleted_rows)  # type: ignore[attr-defined]  # the stub lacks it

    def delete_keys(self, name: str, keys: Sequence[str]) -> int:
        """Delete rows by key; give their number."""
        table = self._find(name) if keys else None
        if table is None:
            return 0
        key = key_of(table.schema)
        return sum(self.delete(name, isin(key, keys[i : i + _CHUNK])) for i in range(0, len(keys), _CHUNK))

    def stream(
        self, name: str, columns: Sequence[str], where: Filter | None = None, *, version: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Rows as record batches, without holding the table; nothing if there is no such table."""
        if not self.exists(name):
            return
        query = self.open(name, version).search()
        if where is not None:
            query = query.where(where.sql)
        with named(name):
            yield from query.select(list(columns)).to_batches()

    def scan(self, name: str, columns: Sequence[str], where: Filter) -> Iterator[pa.RecordBatch]:
        """As `stream`, in an order that is the same each time: that of the table's files and of the rows in them."""
        with named(name):
            for piece in self.open(name).to_lance().get_fragments():
                yield from piece.to_batches(columns=list(columns), filter=where.sql)

    def revise(
        self, name: str, columns: Sequence[str], where: Filter, anew: Callable[[pa.Table], tuple[Mask, pa.Table]]
    ) -> int:
        """Give rows new values in place; give their number.

        `anew` is called with the rows of each file in turn, as `scan` orders them, and says which (n,) bool of them
        change, and their new `columns`. An upsert would hold the keys of the whole table; this holds a file's rows.
        """
        from lance import LanceDataset, LanceOperation

        data = self.open(name).to_lance()
        pieces, fields, count = [], set[int](), 0
        with named(name):
            for piece in data.get_fragments():
                rows = piece.to_table(columns=list(columns), filter=where.sql, with_row_id=True)
                changes, values = anew(rows.select(list(columns)))
                if not changes.any():
                    continue
                values = values.append_column("_rowid", rows["_rowid"].filter(pa.array(changes)))
                written, touched = piece.update_columns(values)
                pieces.append(written)
                fields.update(touched)
                count += values.num_rows
            if pieces:
                update = LanceOperation.Update(updated_fragments=pieces, fields_modified=sorted(fields))
                LanceDataset.commit(data, update, read_version=data.version)
        return count

    def read(
        self, name: str, columns: Sequence[str], where: Filter | None = None, *, version: int | None = None
    ) -> pa.Table:
        """Rows as one Arrow table: for what is known to fit in memory (a shard, a few columns)."""
        batches = patient(lambda: list(self.stream(name, columns, where, version=version)))
        if not batches:
            table = self._find(name)
            types = {c: pa.string() if table is None else table.schema.field(c).type for c in columns}
            return pa.table({c: pa.array([], kind) for c, kind in types.items()})
        return pa.Table.from_batches(batches)

    def strings(self, name: str, column: str, where: Filter | None = None) -> list[str]:
        """One string column as a list."""
        values: list[str] = self.read(name, [column], where)[column].to_pylist()
        return values

    def missing(self, name: str, keys: Sequence[str]) -> list[str]:
        """The anti-join: those of `keys` that the table does not hold, in the order given."""
        table = self._find(name) if keys else None
        if table is None:
            return list(keys)
        key = key_of(table.schema)
        where = Filter(f"`{key}` >= '{min(keys)}' AND `{key}` <= '{max(keys)}'") if _plain(keys) else None
        known = set(self.strings(name, key, where))
        return [value for value in keys if value not in known]

    def vectors(self, name: str, keys: Sequence[str], column: str = "vector") -> tuple[Array, npt.NDArray[np.bool_]]:
        """Vectors `(n, dim)` in the order of `keys`, and `(n,)` bool: which were found (the others are zero).

        They are of the column's type. Streams the table once, or looks up a few keys; memory is the result and a batch.
        """
        table = self.open(name)
        key = key_of(table.schema)
        few = isin(key, sorted(set(keys))) if len(keys) <= _CHUNK else None
        kind = table.schema.field(column).type
        out = np.zeros((len(keys), kind.list_size), kind.value_type.to_pandas_dtype())
        found = np.zeros(len(keys), np.bool_)
        order = np.argsort(np.asarray(keys, dtype=np.str_), kind="stable")
        wanted = np.asarray(keys, dtype=np.str_)[order]
        for batch in self.stream(name, [key, column], few):
            names = np.asarray(batch.column(0).to_pylist(), dtype=np.str_)
            left = np.searchsorted(wanted, names, side="left")
            right = np.searchsorted(wanted, names, side="right")
            hit = np.flatnonzero(right > left)
            if not len(hit):
                continue
            values = matrix(batch.column(1))[hit]
            first, last = left[hit], right[hit]
            for step in range(int((last - first).max())):  # a content may stand behind several items
                more = first + step < last
                rows = order[first[more] + step]
                out[rows] = values[more]
                found[rows] = True
        return out, found


def patient(read: Callable[[], R]) -> R:
    """What `read` gives; once more where clean-up took the newest version of a moment ago from under it."""
    for _ in range(_TRIES - 1):
        try:
            return read()
        except GoneError:
            time.sleep(_PAUSE)
    return read()


def matrix(column: pa.Array) -> Array:
    """A fixed-size list column as an array `(n, dim)` of its type, read-only where Arrow's memory is shared.

    >>> matrix(pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))).tolist()
    [[1.0, 2.0]]
    """
    flat: Array = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), column.type.list_size)


def vector_column(vectors: npt.NDArray[Any]) -> pa.Array:
    """An array `(n, dim)` as a fixed-size list column."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).reshape(-1)), vectors.shape[1])


def check_vectors(name: str, data: pa.Table) -> None:
    """Refuse vectors that are not finite or not of unit length (± 1e-3): a wrong one would hide among the others."""
    if "vector" not in data.column_names:
        return
    values = matrix(data["vector"].combine_chunks()).astype(np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(values, axis=1)
    bad = np.flatnonzero(~(np.abs(norms - 1.0) <= 1e-3))
    if len(bad):
        row = int(bad[0])
        raise StorageError(
            f"{len(bad)} vectors for {name} are not finite or not of unit length (row {row} has norm {norms[row]:.4g})",
            "the encoder or the head gave a broken vector; nothing of this batch was written",
        )


def _fit(name: str, schema: pa.Schema, rows: pa.Table | Sequence[dict[str, Any]]) -> pa.Table:
    """Rows in the types of `schema`, each key once: of two the last, as if they had been written in their order."""
    try:
        if not isinstance(rows, pa.Table):
            if unknown := set().union(*rows) - set(schema.names):
                raise ValueError(f"no column {', '.join(sorted(unknown))}")
            rows = pa.Table.from_pylist(list(rows), schema)
        data = rows.cast(pa.schema([schema.field(column) for column in rows.column_names]))
        last = {key: place for place, key in enumerate(data[key_of(schema)].to_pylist())}
    except (KeyError, TypeError, ValueError) as error:  # Arrow's errors are among them
        raise StorageError(
            f"rows for {name} do not fit its columns ({error})", "nothing of this batch was written"
        ) from error
    return data if len(last) == data.num_rows else data.take(sorted(last.values()))


def _identity(table: Table) -> str:
    return str((table.schema.metadata or {}).get(TABLE_ID, b"").decode())


def _plain(keys: Iterable[str]) -> bool:
    return all(key.isalnum() for key in keys)


def _check_version(name: str, schema: pa.Schema) -> None:
    found = int((schema.metadata or {}).get(VERSION_KEY, b"0"))
    if found > SCHEMA_VERSION:
        raise StorageError(
            f"table {name} was written by a newer modalign (schema {found}, this one knows {SCHEMA_VERSION})",
            "upgrade modalign, or use another workspace",
        )


@contextmanager
def named(name: str) -> Iterator[None]:
    """Turn what the disk says into a `StorageError` that names the table; a passing fault becomes an `OSError`."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        text = str(error)
        if refused := refused_by_disk(name, error):
            raise refused from refused.__cause__
        if refused := refused_by_store(name, error):
            raise refused from None
        if _DAMAGED.search(text):
            raise GoneError(
                f"a file of table {name} is gone or damaged", "delete the table's folder and run again"
            ) from error
        if "LanceError(IO)" in text or "commit conflict" in text:
            raise OSError(text) from error
        raise
