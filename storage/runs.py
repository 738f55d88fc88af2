"""Marks of the runs at work, in the workspace: what a kill leaves of them tells which run it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_FOLDER = "runs"


@dataclass(frozen=True)
class Run:
    """A run at work, or one that a kill ended: `alive` tells."""

    run_id: str
    what: str
    pid: int
    started: str
    path: Path

    @property
    def alive(self) -> bool:
        """Whether its process still is the one that started it."""
        return self.started == started_at(self.pid)


@contextmanager
def noted(root: Path, run_id: str, what: str) -> Iterator[None]:
    """Keep a mark of the run `run_id` while the block is at work."""
    path = root / _FOLDER / f"{run_id}.json"
    with suppress(OSError):  # a workspace that cannot be written says so at the lock
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"run_id": run_id, "what": what, "pid": os.getpid(), "started": started_at(os.getpid())}
        path.write_text(json.dumps(about), encoding="utf-8")
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


def runs(root: Path) -> list[Run]:
    """All marks in a workspace. One that cannot be read is passed over."""
    found = []
    for path in sorted((root / _FOLDER).glob("*.json")):
        with suppress(OSError, ValueError, TypeError):
            found.append(Run(**json.loads(path.read_text(encoding="utf-8")), path=path))
    return found


def started_at(pid: int) -> str:
    """When a process began, which tells it from a later one of the same number; "" if there is none."""
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return ""
