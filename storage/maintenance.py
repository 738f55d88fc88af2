"""Upkeep of tables: pieces put together, versions that nobody needs deleted, tags on those that readers may hold."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from storage.remote import is_remote
from storage.tables import Store, named

if TYPE_CHECKING:
    from lance import LanceDataset

TAG = "published-"
_PIECES, _LEAST_ROWS = 8, 4_096


def compact(store: Store, name: str, *, fragments: int, deleted: float) -> bool:
    """Put a table's pieces together if they are more than `fragments`, or its share of deleted rows is above `deleted`.

    Its rows stay as they are; indexes are brought along. Gives whether it was done.
    """
    if not needs_compaction(store, name, fragments=fragments, deleted=deleted):
        return False
    with named(name):
        data = store.open(name).to_lance()
        # large pieces stay as they are unless many of their rows are gone: a compaction is not to write all anew
        rows = max(data.count_rows() // _PIECES, _LEAST_ROWS)
        data.optimize.compact_files(target_rows_per_fragment=rows, materialize_deletions_threshold=deleted)
        if data.describe_indices():
            data.optimize.optimize_indices()
    return True


def needs_compaction(store: Store, name: str, *, fragments: int, deleted: float) -> bool:
    """Whether a table has more pieces, or a greater share of deleted rows, than it should."""
    pieces = store.open(name).to_lance().get_fragments()
    dead = sum(one.num_deletions for one in pieces)
    alive = sum(one.count_rows() for one in pieces)
    return len(pieces) > fragments or dead > deleted * max(dead + alive, 1)


def tag(store: Store, name: str, version: int) -> None:
    """Tag a version of a table as published, so that clean-up leaves it."""
    with named(name):
        table = store.open(name)
        if f"{TAG}{version}" not in table.tags.list():
            table.tags.create(f"{TAG}{version}", version)


def tagged(store: Store, name: str) -> list[int]:
    """Versions of a table that are tagged as published."""
    with named(name):
        return [int(one["version"]) for tag, one in store.open(name).tags.list().items() if tag.startswith(TAG)]


def pin(store: Store, name: str, versions: Collection[int]) -> None:
    """Take the tags off all published versions of a table but these."""
    for version in tagged(store, name):
        if version not in versions:
            store.open(name).tags.delete(f"{TAG}{version}")


def clean(store: Store, name: str) -> int:
    """Delete all versions of a table but the newest and the tagged ones, and what killed writers left; give the bytes.

    No other writer may be at work. Readers that hold an untagged version lose it. On object storage, where the writer
    that left them may be another machine, files that no version knows stay for a week.
    """
    with named(name):
        done = (
            store.open(name)
            .to_lance()
            .cleanup_old_versions(
                timedelta(0), delete_unverified=not is_remote(store.uri), error_if_tagged_old_versions=False
            )
        )
    return int(done.bytes_removed)


def removable(store: Store, name: str, keep: Collection[int]) -> int:
    """Bytes that `clean` would free if just the versions `keep` and the newest one were tagged.

    On object storage the data files of older versions count, which their descriptions tell; not indexes, nor what
    killed writers left.
    """
    if not store.exists(name):
        return 0
    versions = {one["version"] for one in store.open(name).list_versions()}
    kept = {store.version(name), *(versions & set(keep))}
    if is_remote(store.uri):
        used = _sizes(store, name, kept)
        return sum(size for path, size in _sizes(store, name, versions - kept).items() if path not in used)
    root = Path(store.uri) / f"{name}.lance"
    files: set[str] = set()
    for version in kept:
        files |= _files(store.open(name, version).to_lance())
    return sum(
        path.stat().st_size
        for path in root.rglob("*")
        if path.is_file() and not _is_used(path.relative_to(root).as_posix(), files)
    )


def _sizes(store: Store, name: str, versions: Collection[int]) -> dict[str, int]:
    """Bytes of the data files that these versions refer to."""
    return {
        one.path: int(one.file_size_bytes or 0)
        for version in versions
        for fragment in store.open(name, version).to_lance().get_fragments()
        for one in fragment.metadata.files
    }


def _files(data: LanceDataset) -> set[str]:
    """What a version refers to, relative to the table's folder: its files, and the folders of its indexes."""
    used: set[str] = set()
    for fragment in data.get_fragments():
        meta: Any = fragment.metadata
        used |= {f"data/{one.path}" for one in meta.files}
        if meta.deletion_file is not None:
            used.add(unquote(meta.deletion_file.path(fragment.fragment_id)))
    return used | {f"_indices/{part.uuid}/" for one in data.describe_indices() for part in one.segments}


def _is_used(path: str, used: set[str]) -> bool:
    folder = path.split("/", maxsplit=1)[0]
    if folder in ("data", "_deletions"):
        return path in used
    if folder == "_indices":
        return "/".join(path.split("/")[:2]) + "/" in used
    return True  # manifests and transactions are small


def table_bytes(store: Store, name: str) -> int:
    """Bytes of a table: all its files on disk; on object storage the data files of its newest version."""
    if is_remote(store.uri):
        return sum(_sizes(store, name, [store.version(name)]).values()) if store.exists(name) else 0
    root = Path(store.uri) / f"{name}.lance"
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) if root.is_dir() else 0
