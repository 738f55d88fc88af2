"""A table of paths and texts: CSV, Parquet, JSON lines or a pandas frame."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.sources.item import BadRow, Columns, Row, SourceError
from tasks.sources.metadata import Found, column_names, records
from tasks.sources.paths import on_disk
from tasks.sources.rows import check_columns, to_row

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".parquet", ".jsonl")


class TableSource:
    """Reads a table whose columns `file_name`, `path` (`*_file_name`, `*_path`) hold paths relative to its folder."""

    def __init__(self, path: Path, columns: Columns) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise SourceError(f"{path} is neither a folder nor a table ({', '.join(SUFFIXES)})")
        self.root = path.resolve().parent
        self.uri = str(path.resolve())
        self.name = path.stem
        self.lexical = columns.lexical
        self.notes: list[str] = []
        self._path = path.resolve()
        self._columns = columns
        check_columns(column_names(self._path), columns, path.name, table=True)

    def rows(self) -> Iterator[Row | BadRow]:
        """The rows of the table."""
        yield from _rows(records(self._path, self._path.name), self.root, self._columns)


class FrameSource:
    """Reads a pandas frame in the same way; paths are relative to `root`."""

    def __init__(self, frame: pd.DataFrame, columns: Columns, *, name: str, root: Path) -> None:
        self.root = root.resolve()
        self.uri = f"frame:{name}"
        self.name = name
        self.lexical = columns.lexical
        self.notes: list[str] = []
        self._frame = frame
        self._columns = columns
        check_columns(map(str, frame.columns), columns, f"the frame {name}", table=True)

    def rows(self) -> Iterator[Row | BadRow]:
        """The rows of the frame."""
        yield from _rows(self._records(), self.root, self._columns)

    def _records(self) -> Iterator[Found]:
        names = [str(name) for name in self._frame.columns]
        for index, values in enumerate(self._frame.itertuples(index=False, name=None)):
            yield f"{self.name}:{index}", {n: _plain(v) for n, v in zip(names, values, strict=True)}


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # a numpy scalar or array
        return value.tolist()
    return None if value is None or type(value).__name__ in ("NAType", "NaTType") else value


def _rows(found: Iterator[Found], root: Path, columns: Columns) -> Iterator[Row | BadRow]:
    spell = partial(on_disk, root)
    for one in found:
        if isinstance(one, BadRow):
            yield one
        else:
            yield to_row(one[1], locator=one[0], base="", columns=columns, split=None, spell=spell, table=True)
