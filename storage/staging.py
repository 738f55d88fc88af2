"""The last scan of a collection, on disk: Parquet files by content bucket, so that a shard reads only its own rows."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.errors import StorageError, on_disk
from storage.folders import fresh_folder, replace_folder

_SUMS = "sums.npy"
_BATCH = 4_096  # records that are looked at together
_PARTITIONS = 64  # files: as many as a large collection has shards, or each would be read several times

SCHEMA = pa.schema(
    [
        pa.field("bucket", pa.int32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("record", pa.string(), nullable=False),
    ]
)


class Staging:
    """Writes the records of one scan into `partitions` files and keeps a digest of every bucket.

    Memory is bounded by `partitions` × `buffer` records. The former scan is replaced when the block ends well, and
    stays as it is when it does not. A kill may cost the former scan but never mixes the two. That does no harm: a run
    scans before it reads, and reading a scan that is not there is an error, not an empty collection.
    """

    def __init__(self, folder: Path, *, buckets: int, partitions: int = _PARTITIONS, buffer: int = 250) -> None:
        self.folder, self.buckets, self.partitions, self.buffer = folder, buckets, partitions, buffer
        self._sums = np.zeros((buckets, 2), np.uint64)
        self._counts = np.zeros(buckets, np.int64)
        self._rows: list[list[tuple[int, str, str]]] = [[] for _ in range(partitions)]
        self._writers: list[pq.ParquetWriter | None] = [None] * partitions

    def __enter__(self) -> Self:
        with self._named():
            self._new = fresh_folder(self.folder)
        return self

    def _named(self) -> AbstractContextManager[None]:
        return on_disk(f"the scan {self.folder.name}")

    def add(self, bucket: int, kind: str, record: dict[str, Any]) -> None:
        """Append one JSON-able record of `kind` to `bucket`."""
        text = json.dumps(record, sort_keys=True)  # ASCII: a file name may hold bytes that are not UTF-8
        mark = hashlib.blake2b(f"{kind}\0{text}".encode(), digest_size=16).digest()
        # a sum does not depend on the order, and unlike exclusive or it counts a record that stands twice
        self._sums[bucket] += np.frombuffer(mark, np.uint64)
        self._counts[bucket] += 1
        part = bucket * self.partitions // self.buckets
        self._rows[part].append((bucket, kind, text))
        if len(self._rows[part]) >= self.buffer:
            with self._named():
                self._flush(part)

    def _flush(self, part: int) -> None:
        rows = self._rows[part]
        if not rows:
            return
        writer = self._writers[part]
        if writer is None:
            writer = self._writers[part] = pq.ParquetWriter(self._new / f"{part:03}.parquet", SCHEMA)
        columns = list(zip(*rows, strict=True))
        writer.write_table(pa.table([pa.array(c, t.type) for c, t in zip(columns, SCHEMA, strict=True)], SCHEMA))
        self._rows[part] = []

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            with self._named():
                self._finish(well=kind is None)
        finally:
            shutil.rmtree(self._new, ignore_errors=True)

    def _finish(self, *, well: bool) -> None:
        for part in range(self.partitions):
            if well:
                self._flush(part)
            writer = self._writers[part]
            if writer is not None:
                writer.close()
        if well:
            sums = io.BytesIO()  # numpy hides what the disk says
            np.save(sums, np.column_stack([self._sums, self._counts.astype(np.uint64)]))
            (self._new / _SUMS).write_bytes(sums.getvalue())
            replace_folder(self._new, self.folder)


def staged_buckets(folder: Path) -> list[tuple[int, str]]:
    """Number of records and digest of every bucket of the last scan, whatever their order; ("" of an empty one).

    Raises `StorageError` when there is no scan.
    """
    try:
        sums = np.load(folder / _SUMS, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StorageError(f"the scan in {folder} is gone", "run again") from error
    return [(int(row[2]), row.tobytes().hex() if row[2] else "") for row in sums]


def read_staging(
    folder: Path, wanted: Sequence[int], *, buckets: int, partitions: int = _PARTITIONS
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records (kind, record) of the `wanted` buckets, in an order that does not depend on the source's.

    Raises `StorageError` when there is no scan.
    """
    if not folder.is_dir():
        raise StorageError(f"the scan in {folder} is gone", "run again")
    choice = pa.array(wanted, pa.int32())
    for part in sorted({bucket * partitions // buckets for bucket in wanted}):
        path = folder / f"{part:03}.parquet"
        if not path.exists():
            continue
        with pq.ParquetFile(path) as file:
            batches = (batch.filter(pc.is_in(batch["bucket"], choice)) for batch in file.iter_batches(_BATCH))
            table = pa.Table.from_batches(batches, SCHEMA)
        table = table.sort_by([("bucket", "ascending"), ("kind", "ascending"), ("record", "ascending")])
        for kind, record in zip(table["kind"].to_pylist(), table["record"].to_pylist(), strict=True):
            yield kind, json.loads(record)
