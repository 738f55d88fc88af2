"""A folder in the layout of Hugging Face's folder data sets: media, `metadata.{jsonl,csv,parquet}`, split folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tasks.media.registry import modality_of
from tasks.sources.item import BadRow, Columns, MediaRef, Row, SourceError
from tasks.sources.metadata import NAMES, column_names, records
from tasks.sources.paths import canonical, on_disk
from tasks.sources.rows import SPLITS, check_columns, to_row


class FolderSource:
    """Reads `root`. A metadata file governs its folder; without any, each medium below the folder is a row of its own.

    A sub-folder named like a split (train, val, validation, dev, test …) declares it. Raises `SourceError` when there
    is nothing to read, and before work begins when a column that the user named is not there.
    """

    def __init__(self, root: Path, columns: Columns) -> None:
        if not root.is_dir():
            raise SourceError(f"{root} is not a folder; give the folder that holds the media")
        self.root = root.resolve()
        self.uri = str(self.root)
        self.name = self.root.name
        self.lexical = columns.lexical
        self.notes: list[str] = []
        self._columns = columns
        self._files = self._metadata()
        if self._files:
            names = [name for path, _ in self._files for name in column_names(path)]
            check_columns(names, columns, self._label(self._files[0][0]))
        elif columns.required:
            raise SourceError(f"{root} has no metadata file, so there is no column {sorted(columns.required)[0]!r}")
        elif next(self._media_alone(), None) is None:
            raise SourceError(
                f"{root} holds neither metadata.jsonl, .csv or .parquet nor a medium; is it the right folder?"
            )

    def rows(self) -> Iterator[Row | BadRow]:
        """The rows of all metadata files, or one a medium where there is none."""
        if not self._files:
            self.notes.append("no metadata file: each medium is a row of its own, without texts")
            yield from self._media_alone()
            return
        spell = partial(on_disk, self.root)
        for path, split in self._files:
            base = self._base(path.parent)
            for found in records(path, self._label(path)):
                if isinstance(found, BadRow):
                    yield found
                    continue
                yield to_row(found[1], locator=found[0], base=base, columns=self._columns, split=split, spell=spell)

    def _metadata(self) -> list[tuple[Path, str | None]]:
        found: list[tuple[Path, str | None]] = []
        for folder in [self.root, *sorted(child for child in self.root.iterdir() if child.is_dir())]:
            here = [folder / name for name in NAMES if (folder / name).is_file()]
            if len(here) > 1:
                raise SourceError(f"{folder} holds {' and '.join(path.name for path in here)}; keep one of them")
            found += [(path, None if folder == self.root else SPLITS.get(folder.name.lower())) for path in here]
        if self.root.name.lower() in SPLITS and len(found) == 1 and found[0][0].parent == self.root:
            self.notes.append(f"the folder is named {self.root.name}, which declares no split by itself")
        return found

    def _media_alone(self) -> Iterator[Row | BadRow]:
        for folder, below, files in os.walk(self.root):
            below.sort()
            for file in sorted(files):
                relative = (Path(folder) / file).relative_to(self.root).as_posix()
                modality = modality_of(relative)
                if modality is None:
                    continue
                try:
                    relative.encode()
                except UnicodeEncodeError:
                    shown = relative.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                    yield BadRow(shown, "path_not_utf8", "the file's name is not UTF-8; rename it")
                    continue
                name = canonical(relative)
                split = SPLITS.get(relative.split("/")[0].lower()) if "/" in relative else None
                yield Row(name, name, (MediaRef(name, relative, modality),), split=split)

    def _base(self, folder: Path) -> str:
        relative = folder.relative_to(self.root).as_posix()
        return "" if relative == "." else relative

    def _label(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()
