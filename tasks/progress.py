"""Progress of long work: a stage reports what it has done, whoever runs it decides how to show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Display(Protocol):
    """Shows the progress of one stage at a time."""

    def start(self, label: str, total: int) -> None:
        """A stage named `label` begins, with `total` units of work (0: nobody knows)."""

    def advance(self, done: int) -> None:
        """`done` more units are finished."""

    def stop(self) -> None:
        """The stage has ended, well or not."""


_display: Display | None = None
_others: list[Display] = []


def show_on(display: Display | None) -> None:
    """Send progress to `display` from now on; `None` (the default) keeps quiet."""
    global _display  # noqa: PLW0603 - one terminal a process, so one display
    _display = display


@contextmanager
def also_on(display: Display) -> Iterator[None]:
    """Send the progress of the stages inside the block to `display` as well."""
    _others.append(display)
    try:
        yield
    finally:
        _others.remove(display)


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Report the progress of one stage: call the yielded function with the units just finished.

    >>> with progress("count", 3) as advance:
    ...     advance(3)
    """
    displays = [*([] if _display is None else [_display]), *_others]

    def advance(done: int) -> None:
        for display in displays:
            display.advance(done)

    for display in displays:
        display.start(label, total)
    try:
        yield advance
    finally:
        for display in displays:
            display.stop()
