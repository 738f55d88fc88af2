"""One writer a workspace, and its workers: locks that the system takes away from a process, however it ends."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import BinaryIO, Concatenate, ParamSpec, TypeVar

from storage.errors import StorageError
from storage.workspace import Workspace

P = ParamSpec("P")
R = TypeVar("R")
_NAME, _WORKERS, _BUCKETS = "writer.lock", "workers.lock", "buckets.lock"
_POLL = 0.2
_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())


@contextmanager
def writing(root: Path, what: str, *, wait: float, waiting: Callable[[str], None]) -> Iterator[float]:
    """Hold the workspace `root` for writing; give the seconds that this had to wait.

    `what` names the work to others. A second writer waits up to `wait` seconds, after `waiting(owner)` has been told
    once, then `StorageError` names the owner. What is called inside the block may enter it again; another thread is
    another writer. The lock is the system's own, on one machine: a killed owner leaves none behind. The
    workers that it may have left behind are waited for as well.
    """
    path = root / _NAME
    before = _held.get()
    if path in before:
        yield 0.0
        return
    start = time.monotonic()
    with _opened(path) as file, _opened(root / _WORKERS) as workers:
        told = False
        while not (_taken(file) and _taken(workers)):
            owner = owner_of(path)
            if time.monotonic() - start >= wait:
                raise StorageError(
                    f"the workspace {root} is being written by {owner}",
                    "wait for it, or end it; MODALIGN_WAIT says how many seconds to wait",
                )
            if not told:
                waiting(owner)
                told = True
            time.sleep(_POLL)
        fcntl.flock(workers, fcntl.LOCK_UN)  # for our own
        with suppress(OSError):  # a full disk: who writes first will say so
            _sign(file, what)
        _held.set(before | {path})
        try:
            yield time.monotonic() - start
        finally:
            _held.set(before)
            with suppress(OSError):
                file.truncate(0)


def by_worker(work: Callable[Concatenate[Workspace, P], R]) -> Callable[Concatenate[Workspace, P], R]:
    """Let `work` be done by a worker of whoever holds the workspace: until it ends, no other writer begins.

    Raises `StorageError` where the workspace is not to be seen.
    """

    @wraps(work)
    def held(workspace: Workspace, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with _opened(workspace.root / _WORKERS, "; a worker must see it under the same path") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return work(workspace, *args, **kwargs)

    return held


@contextmanager
def alone_on(root: Path, lo: int, hi: int) -> Iterator[None]:
    """Be the one worker that writes the buckets from `lo` to before `hi`: another one, given the same, waits."""
    with _opened(root / _BUCKETS) as file:
        fcntl.lockf(file, fcntl.LOCK_EX, hi - lo, lo)
        yield


def owner_of(path: Path) -> str:
    """Who holds the lock file `path`, in words."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return f"`{about['what']}` (process {about['pid']}, since {about['since']})"
    except (OSError, ValueError, KeyError):
        return "another process"


@contextmanager
def _opened(path: Path, more: str = "") -> Iterator[BinaryIO]:
    try:
        file = path.open("ab+", buffering=0)  # what a full disk refuses is not tried again when it is closed
    except OSError as error:
        raise StorageError(
            f"the workspace {path.parent} cannot be written ({error.strerror})",
            f"check its rights and free space{more}",
        ) from error
    with file:
        yield file


def _taken(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(file: BinaryIO, what: str) -> None:
    file.truncate(0)
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    file.write(json.dumps({"what": what, "pid": os.getpid(), "since": since}).encode())
