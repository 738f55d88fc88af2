"""Vectors that a step works through several times, in a file that goes away with the step."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from storage.tables import named

Array = npt.NDArray[np.float32]


class Scratch:
    """Vectors (n, dim) float32, written in order and read by ranges; memory is the range that is read.

    The file lies in `folder` without a name: a killed step leaves nothing. Raises `StorageError` for a full disk.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self._name, self._dim, self._rows = str(folder), dim, 0
        with named(self._name):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - `__exit__` closes it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

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
