"""Folders and files that are written whole or not at all: filled beside their place, then moved there."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from storage.errors import on_disk

_FORGOTTEN = 86_400  # seconds after which a hidden folder must be that of a killed process


def fresh_folder(folder: Path) -> Path:
    """An empty hidden folder beside `folder`, this process's own. What killed processes left there goes."""
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    for other in folder.parent.glob(f".{escape(folder.name)}.*"):
        with suppress(OSError):  # its own process may move it meanwhile
            if other == fresh or time.time() - other.stat().st_mtime > _FORGOTTEN:
                shutil.rmtree(other)
    fresh.mkdir(parents=True)
    return fresh


def replace_folder(fresh: Path, folder: Path) -> None:
    """Put `fresh` in the place of `folder`, in one step where the system can exchange two folders (Linux).

    Elsewhere there is an instant between two renames without `folder`, for it cannot be renamed onto a full one. A kill
    just then leaves both under hidden names, and `folder` has to be made again: a reader must not take a folder that is
    not there for an empty one.
    """
    old = fresh.with_name(f"{fresh.name}.old")
    if not folder.exists():
        fresh.rename(folder)
    elif _exchanged(fresh, folder):
        shutil.rmtree(fresh, ignore_errors=True)
    else:
        folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two paths change places; False where the system or the file system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A hidden file beside `path`, which takes its place at the end unless something breaks; its folder is made.

    Raises `StorageError` for a place that cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with on_disk(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield fresh
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
