"""Progress of long work: a stage reports what it has done, whoever runs it decides how to show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Display(Protocol):
    """Shows the progress of one stage at a time."""

    def start(self, label: str, total: int) -> None:
        """A stage named `label` begins, with `total` units of work."""

    def advance(self, done: int) -> None:
        """`done` more units are finished."""

    def stop(self) -> None:
        """The stage has ended, well or not."""


_display: Display | None = None


def show_on(display: Display | None) -> None:
    """Send progress to `display` from now on; `None` (the default) keeps quiet."""
    global _display  # noqa: PLW0603 - one terminal a process, so one display
    _display = display


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Report the progress of one stage: call the yielded function with the units just finished.

    >>> with progress("count", 3) as advance:
    ...     advance(3)
    """
    display = _display
    if display is None:
        yield lambda _: None
        return
    display.start(label, total)
    try:
        yield display.advance
    finally:
        display.stop()
