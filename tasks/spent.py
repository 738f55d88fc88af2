"""Where the time of a run goes: each second of its thread counts once, so that the shares add up to the wall."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from contextlib import ContextDecorator

BETWEEN = "prefect"
"""What no task has spent: Prefect between the tasks, and what a flow does by itself."""


class _Thread(threading.local):
    """What a thread is at, the innermost last, and since when; what it has spent so far."""

    def __init__(self) -> None:
        self.at: list[str] = []
        self.since = time.perf_counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def settle(self) -> None:
        """Charge the time since the last change to what the thread was at."""
        now = time.perf_counter()
        self.seconds[self.at[-1] if self.at else BETWEEN] += now - self.since
        self.since = now


_thread = _Thread()


class spending(ContextDecorator):  # noqa: N801 - it reads as a verb, `with spending("read"):`
    """Charge the time inside the block, or of the function that this decorates, to `on`; a block inside has its own."""

    def __init__(self, on: str) -> None:
        self._on = on

    def __enter__(self) -> None:
        _thread.settle()
        _thread.at.append(self._on)

    def __exit__(self, *_: object) -> None:
        _thread.settle()
        _thread.at.pop()


class Account:
    """What this thread spends from now on.

    >>> account = Account()
    >>> with spending("count"):
    ...     pass
    >>> sorted(account.seconds())
    ['count', 'prefect']
    """

    def __init__(self) -> None:
        _thread.settle()
        self._before = dict(_thread.seconds)
        self._at = _thread.at

    @property
    def at(self) -> str:
        """What the thread is at now; any thread may ask."""
        return self._at[-1] if self._at else BETWEEN

    def seconds(self) -> dict[str, float]:
        """Seconds by what the thread was at, the most first; to be asked on that thread."""
        _thread.settle()
        spent = {on: total - self._before.get(on, 0.0) for on, total in _thread.seconds.items()}
        return dict(sorted(((on, some) for on, some in spent.items() if some > 0), key=lambda one: -one[1]))
