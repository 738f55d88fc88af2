"""One writer a workspace: a lock that the system takes away from a process that ends, however it ends."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import IO

from storage.errors import StorageError

_NAME = "writer.lock"
_POLL = 0.2
_guard = RLock()
_held: dict[Path, int] = {}


@contextmanager
def writing(root: Path, what: str, *, wait: float, waiting: Callable[[str], None]) -> Iterator[float]:
    """Hold the workspace `root` for writing; give the seconds that this had to wait.

    `what` names the work to others. A second writer waits up to `wait` seconds, after `waiting(owner)` has been told
    once, then `StorageError` names the owner. The block may be entered again by the same process. The lock is the
    system's own, on one machine: a killed owner leaves none behind.
    """
    path = root / _NAME
    with _guard:
        inside = _held.get(path, 0)
        if inside:
            _held[path] += 1
    if inside:
        try:
            yield 0.0
        finally:
            with _guard:
                _held[path] -= 1
        return
    start = time.monotonic()
    with _opened(path) as file:
        told = False
        while not _taken(file):
            if not told:
                waiting(owner_of(path))
                told = True
            if time.monotonic() - start >= wait:
                raise StorageError(
                    f"the workspace {root} is being written by {owner_of(path)}",
                    "wait for it, or end it; settings.wait says how long to wait",
                )
            time.sleep(_POLL)
        with suppress(OSError):  # a full disk: who writes first will say so
            _sign(file, what)
        _held[path] = 1
        try:
            yield time.monotonic() - start
        finally:
            del _held[path]
            with suppress(OSError):
                file.truncate(0)


def owner_of(path: Path) -> str:
    """Who holds the lock file `path`, in words."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return f"`{about['what']}` (process {about['pid']}, since {about['since']})"
    except (OSError, ValueError, KeyError):
        return "another process"


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"the workspace {path.parent} cannot be written ({error.strerror})", "check its rights and free space"
        ) from error
    with file:
        yield file


def _taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(file: IO[str], what: str) -> None:
    file.seek(0)
    file.truncate()
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    file.write(json.dumps({"what": what, "pid": os.getpid(), "since": since}))
    file.flush()
