"""What a step puts aside on disk: vectors that it works through several times, rows that it takes up part by part."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.tables import named

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.integer[Any]]

_HELD = 32_768  # rows that are written together


class _File:
    """A file in `folder` without a name: a killed step leaves nothing. Raises `StorageError` for a full disk."""

    def __init__(self, folder: Path) -> None:
        self._name = str(folder)
        with named(self._name):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - `__exit__` closes it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class Scratch(_File):
    """Vectors (n, dim) float32, written in order and read by ranges; memory is the range that is read."""

    def __init__(self, folder: Path, dim: int) -> None:
        super().__init__(folder)
        self._dim, self._rows = dim, 0

    def append(self, vectors: Array) -> None:
        """Add vectors (n, dim) at the end."""
        with named(self._name):
            self._file.seek(0, 2)
            self._file.write(np.ascontiguousarray(vectors, np.float32).tobytes())
            self._file.flush()
        self._rows += len(vectors)

    def __len__(self) -> int:
        """How many there are."""
        return self._rows

    def __getitem__(self, part: slice, /) -> Array:
        """Those of a range: (n, dim)."""
        start, stop, _ = part.indices(self._rows)
        with named(self._name):
            self._file.seek(4 * self._dim * start)
            flat = np.fromfile(self._file, np.float32, self._dim * max(stop - start, 0))
        return flat.reshape(-1, self._dim)


class Parted(_File):
    """Rows by part, in the order in which they came; memory is one part, and the rows that wait to be written."""

    def __init__(self, folder: Path, schema: pa.Schema, parts: int) -> None:
        super().__init__(folder)
        self._schema, self._parts = schema, parts
        self._held: list[tuple[Indices, pa.RecordBatch]] = []
        self._rows = 0
        self._written: list[Indices] = []  # of each write, where the rows of each part begin in the file, and the end

    def add(self, part: Indices, columns: Mapping[str, pa.Array | npt.NDArray[Any]]) -> None:
        """Put n rows aside; `part` (n,) says where each belongs, 0 ≤ part < `parts`."""
        made = [pa.array(columns[field.name], field.type) for field in self._schema]
        self._held.append((part, pa.RecordBatch.from_arrays(made, schema=self._schema)))
        self._rows += len(part)
        if self._rows >= _HELD:
            self._write()

    def _write(self) -> None:
        part = np.concatenate([one for one, _ in self._held])
        order = np.argsort(part, kind="stable")
        rows = pa.concat_batches([batch for _, batch in self._held]).take(pa.array(order))
        self._held, self._rows = [], 0
        starts = np.searchsorted(part[order], np.arange(self._parts + 1))
        with named(self._name):
            places = np.full(self._parts + 1, self._file.seek(0, 2))
            for number in np.unique(part).tolist():
                some = rows.slice(starts[number], starts[number + 1] - starts[number])
                places[number + 1 :] += self._file.write(some.serialize())
        self._written.append(places)

    def __len__(self) -> int:
        """How many parts there are."""
        return self._parts

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """The rows of each part."""
        return map(self.__getitem__, range(self._parts))

    def __getitem__(self, part: int, /) -> pa.RecordBatch:
        """The rows of one part."""
        if self._held:
            self._write()
        found = [pa.RecordBatch.from_pylist([], self._schema)]
        with named(self._name):
            for places in self._written:
                self._file.seek(places[part])
                if data := self._file.read(places[part + 1] - places[part]):
                    found.append(pa.ipc.read_record_batch(pa.py_buffer(data), self._schema))
        return pa.concat_batches(found)
