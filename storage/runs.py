"""Marks of the runs at work, in the workspace: what a kill leaves of them tells which run it was."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = "runs"


@dataclass(frozen=True)
class Run:
    """A run at work (`alive`), or one that a kill ended. `run_id` is Prefect's."""

    run_id: str
    what: str
    pid: int
    since: str
    alive: bool
    path: Path


@contextmanager
def noted(root: Path, run_id: str, what: str) -> Iterator[None]:
    """Keep a mark of the run `run_id` while the block is at work.

    Its process holds the mark locked, so that a kill, and nothing else, leaves one that is free: neither a process
    number that was given out again nor a clock that was set tells otherwise.
    """
    path = root / FOLDER / f"{run_id}.json"
    file: Any = None
    with suppress(OSError):  # a workspace that cannot be written says so at the lock
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab", buffering=0)
        fcntl.flock(file, fcntl.LOCK_EX)
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f UTC")  # runs within a run begin in one second
        file.write(json.dumps({"run_id": run_id, "what": what, "pid": os.getpid(), "since": since}).encode())
    try:
        yield
    finally:
        if file is not None:
            with suppress(OSError):
                path.unlink()
            file.close()


def runs(root: Path) -> list[Run]:
    """All marks in a workspace, oldest first. One that is just being made, or is no mark, is passed over."""
    found = []
    for path in (root / FOLDER).glob("*.json"):
        with suppress(OSError, ValueError, TypeError), path.open(encoding="utf-8") as file:
            about = json.load(file)  # before the lock is tried: it is written under the lock
            found.append(Run(**about, alive=not _free(file), path=path))
    return sorted(found, key=lambda run: (run.since, run.run_id))


def outermost(root: Path) -> list[Run]:
    """The runs at work in a workspace, oldest first, without those that they have called."""
    found: dict[int, Run] = {}
    for run in runs(root):
        if run.alive:
            found.setdefault(run.pid, run)
    return list(found.values())


def _free(file: Any) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
