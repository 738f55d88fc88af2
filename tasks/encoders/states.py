"""What enters the last blocks of an encoder, of many texts: computed once, and kept on disk while the blocks learn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tasks.encoders.last_blocks import LastBlocks
from tasks.encoders.protocol import Array

if TYPE_CHECKING:
    from torch import Tensor

Indices = npt.NDArray[np.int64]
_ROWS = 64
"""Texts of like length that go through the blocks together: little padding."""


@contextmanager
def states_of(
    model: LastBlocks,
    tokens: Sequence[Sequence[int]],
    scratch: Path | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[States]:
    """The states of texts, given by their token ids, in a file that goes away again; `advance` is told of those done.

    It lies in a folder of its own in `scratch`, or where temporary files lie.
    """
    with tempfile.TemporaryDirectory(prefix=".states-", dir=scratch) as folder:
        yield States(model, tokens, Path(folder) / "states", advance)


class States:
    """The states of all texts one after the other, in half precision, in the file `path`."""

    def __init__(
        self, model: LastBlocks, tokens: Sequence[Sequence[int]], path: Path, advance: Callable[[int], None]
    ) -> None:
        self._model = model
        self._lengths = np.array([len(one) for one in tokens])
        self._ends = np.concatenate([[0], np.cumsum(self._lengths)]).tolist()
        self._all = np.memmap(path, np.float16, "w+", shape=(self._ends[-1], model.width))
        for rows in self._alike(np.arange(len(tokens))):
            for row, one in zip(rows.tolist(), model.lower([tokens[row] for row in rows]), strict=True):
                self._all[self._ends[row] : self._ends[row + 1]] = one
            advance(len(rows))

    def pooled(self, rows: Indices) -> Tensor:
        """These texts by the blocks as they are now: unit vectors (n, width), with a gradient."""
        import torch

        made = [
            self._model.upper([self._all[self._ends[row] : self._ends[row + 1]] for row in part])
            for part in self._alike(rows)
        ]
        back = np.argsort(np.argsort(self._lengths[rows], kind="stable"))
        return torch.nn.functional.normalize(torch.cat(made)[torch.from_numpy(back)])

    def encoded(self) -> Array:
        """All texts by the blocks as they are now: unit vectors (n, width)."""
        import torch

        out = np.empty((len(self._lengths), self._model.width), np.float32)
        with torch.inference_mode():
            for rows in self._alike(np.arange(len(out))):
                out[rows] = self.pooled(rows).numpy()
        return out

    def _alike(self, rows: Indices) -> Iterator[Indices]:
        """The rows by length, a few at a time."""
        ordered = rows[np.argsort(self._lengths[rows], kind="stable")]
        yield from (ordered[start : start + _ROWS] for start in range(0, len(ordered), _ROWS))
