"""Folders that are written once, whole or not at all: converted models."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_STALE = 3_600.0  # seconds after which an unfinished folder of another process counts as left behind


def keep(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, which `make(fresh)` fills at the first call; a killed or failed `make` leaves nothing at `folder`.

    Two processes may race: one's work is kept, and both read the same files.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    for old in folder.parent.glob(f".{folder.name}.*"):
        with suppress(FileNotFoundError):  # another process has just finished it
            if time.time() - old.stat().st_mtime > _STALE:
                shutil.rmtree(old, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        make(fresh)
        fresh.chmod(0o755)
        fresh.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was first, with the same content
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder
