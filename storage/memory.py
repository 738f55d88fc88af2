"""Memory of this process: now, and the most that it took inside a block."""

from __future__ import annotations

import resource
import sys
import threading
from pathlib import Path

_EVERY = 0.2  # seconds between two looks


def resident() -> int:
    """Bytes of memory that this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def _highest() -> int:
    """The most that this process has ever held, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Peak:
    """The most memory that the process holds while the block runs, in bytes: `peak.bytes`, also meanwhile.

    The system's own mark tells it to the byte where the block goes beyond all before it. A process that has held more
    in an earlier run is looked at five times a second.
    """

    def __init__(self) -> None:
        self._before = _highest()
        self._seen = resident()
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, name="memory", daemon=True)

    @property
    def bytes(self) -> int:
        """The peak so far."""
        highest = _highest()
        return highest if highest > self._before else max(self._seen, resident())

    def __enter__(self) -> Peak:
        self._watch.start()
        return self

    def _look(self) -> None:
        while not self._over.wait(_EVERY):
            self._seen = max(self._seen, resident())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()
