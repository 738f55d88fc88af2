"""Children that hold a workspace, or a mark in it, until they are told to end or are killed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from storage.lock import alone_on, writing
from storage.runs import noted
from storage.spaces import published
from storage.tables import Store

SPAWN = get_context("spawn")


class Child:
    """A process that runs `work(root, line)`; `hear` waits for what it says on the line."""

    def __init__(self, work: Callable[[Path, Connection], None], root: Path) -> None:
        self.line, far = SPAWN.Pipe()
        self.process: BaseProcess = SPAWN.Process(target=work, args=(root, far))
        self.process.start()
        far.close()

    def hear(self) -> Any:
        """The next thing that the child says, within a minute."""
        assert self.line.poll(60), "the child says nothing"
        return self.line.recv()

    def end(self) -> None:
        """Tell it to go on to its end, and wait for that."""
        self.line.send("end")
        self.process.join(60)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.join(60)


def hold(root: Path, line: Connection) -> None:
    """Hold the workspace; say when; end when told."""
    with writing(root, "update photos", wait=60, waiting=lambda _: None):
        line.send("held")
        line.recv()


def note(root: Path, line: Connection) -> None:
    """Keep the marks of a run and of one inside it; say when; end when told."""
    with noted(root, "outer", "update photos"), noted(root, "inner", "ingest photos"):
        line.send("noted")
        line.recv()


def write_in_turn(root: Path, line: Connection) -> None:
    """Wait for the workspace ten times, and hold it while a file is read, changed and written."""
    _count(root, line, lambda: writing(root, "count", wait=60, waiting=lambda _: None))


def work_in_turn(root: Path, line: Connection) -> None:
    """The same under the lock of some buckets."""
    _count(root, line, lambda: alone_on(root, 16, 32))


def _count(root: Path, line: Connection, alone: Callable[[], AbstractContextManager[Any]]) -> None:
    counter = root / "counter"
    line.recv()
    for _ in range(10):
        with alone():
            number = int(counter.read_text())
            counter.write_text(str(number + 1))
    line.send("done")


def read_published(root: Path, line: Connection) -> None:
    """Read names and one manifest of `published` again and again on new connections, until told; tell what failed."""
    faults, rounds = [], 0
    line.send("begun")
    while not line.poll():
        store = Store(root)
        try:
            assert sorted(store.strings("published", "name")) == ["a", "b"]
            assert store.count("published") == 2
            published(store, "a")
        except Exception as error:  # noqa: BLE001 - whatever it is, a reader failed
            faults.append(repr(error))
        rounds += 1
    line.send((rounds, faults))


@contextmanager
def child(work: Callable[[Path, Connection], None], root: Path) -> Any:
    """A child that is gone after the block."""
    one = Child(work, root)
    try:
        yield one
    finally:
        if one.process.is_alive():
            one.kill()
