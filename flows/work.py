"""A run at work: what it tells of itself meanwhile, for `modalign status --watch`, and what it took at its end."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from config.settings import Settings
from flows.metrics import write_metrics
from storage.memory import Peak, resident
from storage.told import Told, add_last, forget_now, tell_now
from tasks.progress import also_on
from tasks.refs import Usage
from tasks.spent import Account

_EVERY = 1.0  # seconds between two words of a run
_PROBLEMS = 5  # warnings and errors that are told, the last ones


class Work:
    """One run: its stage, its memory, where its time goes. The flows that it calls have their own."""

    def __init__(self, root: Path, run_id: str, what: str) -> None:
        self.about: Told = {"run_id": run_id, "what": what, "since": time.time()}
        self.facts: Told = {}
        self.waiting = ""
        self.problems: deque[str] = deque(maxlen=_PROBLEMS)
        self.peak = Peak()
        self._root, self._run_id = root, run_id
        self._account, self._start = Account(), time.perf_counter()
        self._stages: list[tuple[str, int, int, float]] = []  # label, total, done, since
        self._lock = threading.Lock()
        self._over = threading.Event()

    def usage(self) -> Usage:
        """What it took so far; to be asked on the run's own thread."""
        spent = self._account.seconds()
        return Usage(peak_bytes=self.peak.bytes, wall_seconds=time.perf_counter() - self._start, spent_seconds=spent)

    def start(self, label: str, total: int) -> None:
        """A stage begins."""
        with self._lock:
            self._stages.append((label, total, 0, time.monotonic()))

    def advance(self, done: int) -> None:
        """Units of it are finished."""
        with self._lock:
            label, total, before, since = self._stages[-1]
            self._stages[-1] = label, total, before + done, since

    def stop(self) -> None:
        """It has ended."""
        with self._lock:
            self._stages.pop()

    def now(self) -> Told:
        """How far it is."""
        with self._lock:
            label, total, done, since = self._stages[-1] if self._stages else ("", 0, 0, time.monotonic())
        rate = done / max(time.monotonic() - since, 1e-9)
        return self.about | {
            "at": time.time(),
            "stage": label or self._account.at,
            "done": done,
            "total": total,
            "per_second": round(rate, 2),
            "seconds_left": round((total - done) / rate, 1) if rate and total else None,
            "waiting": self.waiting,
            "resident_bytes": resident(),
            "peak_bytes": self.peak.bytes,
            "problems": list(self.problems),
        }

    def keep_telling(self) -> None:
        """Say it every second, until the run is over."""
        while not self._over.wait(_EVERY):
            tell_now(self._root, self._run_id, self.now())

    def over(self) -> None:
        """The run is over."""
        self._over.set()

    def last(self, outcome: str) -> Told:
        """What it says in the end."""
        used = self.usage()
        told = self.about | {"until": time.time(), "outcome": outcome, "problems": list(self.problems)}
        return told | used.model_dump() | self.facts


class _Problems(logging.Handler):
    """Takes the warnings and errors of a run as they are logged."""

    def __init__(self, work: Work) -> None:
        super().__init__(logging.WARNING)
        self._work = work

    def emit(self, record: logging.LogRecord) -> None:
        self._work.problems.append(record.getMessage().strip().partition("\n")[0][:300])


_works: list[Work] = []


@contextmanager
def working(settings: Settings, run_id: str, what: str) -> Iterator[Work]:
    """The run inside the block. The outermost tells how far it is, and what it took when it ends, well or not."""
    work = Work(settings.workspace, run_id, what)
    _works.append(work)
    outermost, outcome = len(_works) == 1, "failed"
    try:
        with work.peak, _told(settings, work) if outermost else _quiet():
            try:
                yield work
                outcome = "completed"
            finally:
                if outermost:
                    _end(settings, work, outcome)
    finally:
        _works.remove(work)


@contextmanager
def _quiet() -> Iterator[None]:
    yield


@contextmanager
def _told(settings: Settings, work: Work) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("prefect.flow_runs", "prefect.task_runs")]
    handler, voice = _Problems(work), threading.Thread(target=work.keep_telling, name="watched", daemon=True)
    for logger in loggers:
        logger.addHandler(handler)
    tell_now(settings.workspace, work.about["run_id"], work.now())
    voice.start()
    try:
        with also_on(work):
            yield
    finally:
        work.over()
        voice.join()
        for logger in loggers:
            logger.removeHandler(handler)
        forget_now(settings.workspace, work.about["run_id"])


def _end(settings: Settings, work: Work, outcome: str) -> None:
    add_last(settings.workspace, work.last(outcome))
    write_metrics(settings)


def usage() -> Usage:
    """What the innermost run took so far."""
    return _works[-1].usage()


def tell(**facts: Any) -> None:
    """Facts to be told of the outermost run when it ends; those of several flows in it stand in lists."""
    for name, value in facts.items():
        _works[0].facts.setdefault(name, []).append(value)
