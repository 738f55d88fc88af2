"""The media files of a collection: which have changed since they were last read, by size and time of change."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from storage import schemas
from storage.buckets import within
from storage.filters import eq
from storage.tables import Store
from tasks.media.registry import Limits, MediaError
from tasks.policies import code_version
from tasks.sources.item import bucket_of, digest, media_key
from tasks.sources.paths import read_media
from tasks.sources.records import Content, Record, examine

PASSING = frozenset({"file_unreadable"})
"""Reason codes that may vanish without a trace in size and time: rights were given, say. Always looked at again."""

_COARSE, _FINE = 2_000_000_000, 50_000_000  # nanoseconds within which a second write may leave the time as it was


def stat_of(root: Path, now: int, file: str) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds of a file; (-1, 0) if there is none.

    A file that was written just `now` (nanoseconds) may be written again within the same tick of the file system's
    clock: its time is given as minus `now`, which no later scan will find.
    """
    try:
        found = (root / file).stat()
    except (OSError, ValueError):
        return -1, 0
    tick = _COARSE if found.st_mtime_ns % 1_000_000 == 0 else _FINE
    return found.st_size, found.st_mtime_ns if found.st_mtime_ns < now - tick else -now


class KnownFiles:
    """Staged record → what its file holds, read only if the last scan did not know it. Raises `MediaError`.

    `rows` collects what is known now, as rows of the table `files`. Where `how` is empty, what was read says nothing of
    the file that the scan saw: it was changed, moved away or locked in between, and is to be read again.
    """

    def __init__(
        self,
        store: Store,
        collection: str,
        buckets: Sequence[int],
        root: Path,
        limits: Limits,
        *,
        verify: bool,
        advance: Callable[[int], object],
    ) -> None:
        self.rows: list[dict[str, Any]] = []
        self._collection, self._root, self._limits, self._advance = collection, root, limits, advance
        self._how = digest(repr(limits), code_version("tasks/media", "tasks/sources/records.py"))[:8]
        where = eq("collection", collection) & within("bucket", buckets) & eq("how", self._how)
        rows = [] if verify else store.read(schemas.FILES, schemas.files().names, where).to_pylist()
        self._known = {row["key"]: row for row in rows}

    def __call__(self, record: Record) -> Content:
        """What the medium of a staged record holds."""
        modality, path = record["modality"], record["path"]
        row: dict[str, Any] = {
            "key": media_key(self._collection, modality, path),
            "collection": self._collection,
            "bucket": bucket_of(digest(modality, path)),
            "file": record["file"],
            "size": record["size"],
            "changed": record["changed"],
            "how": self._how,
            "content_hash": "",
            "code": "",
            "message": "",
        }
        known = self._known.get(row["key"])
        if known is not None and all(known[name] == row[name] for name in ("file", "size", "changed")):
            self.rows.append(known)
            if known["code"]:
                raise MediaError(known["code"], known["message"])
            return Content(known["content_hash"], known["size"])
        try:
            found = examine(record, self._read, self._limits)
        except MediaError as error:
            self._learn(row | {"code": error.code, "message": error.message})
            raise
        self._learn(row | {"content_hash": found.content_hash})
        return found

    def _learn(self, row: dict[str, Any]) -> None:
        as_scanned = stat_of(self._root, time.time_ns(), row["file"]) == (row["size"], row["changed"])
        self.rows.append(row if as_scanned and row["code"] not in PASSING else row | {"how": ""})

    def _read(self, file: str) -> bytes:
        self._advance(1)
        return read_media(self._root, file, self._limits.max_bytes)
