"""What the terminal shows: progress bars, quiet logs, one-line errors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from tasks.progress import show_on


class _Rate(ProgressColumn):
    """Units a second, as a person reads it."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class Bars:
    """One progress bar for the running stage, with its rate and the time that remains."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._tasks: list[int] = []

    def start(self, label: str, total: int) -> None:
        """Show a new bar."""
        if not self._tasks:
            self._bars.start()
        self._tasks.append(int(self._bars.add_task(label, total=total)))

    def advance(self, done: int) -> None:
        """Move the newest bar on."""
        self._bars.advance(self._tasks[-1], done)  # type: ignore[arg-type]  # rich's TaskID is an int

    def stop(self) -> None:
        """Take the newest bar away."""
        self._bars.remove_task(self._tasks.pop())  # type: ignore[arg-type]  # rich's TaskID is an int
        if not self._tasks:
            self._bars.stop()


class _OneLine(logging.Formatter):
    """Another formatter's line without the traceback: that one stands in Prefect's log, and behind --debug."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        plain = logging.makeLogRecord(record.__dict__ | {"exc_info": None, "exc_text": None, "stack_info": None})
        return self._inner.format(plain)


@contextmanager
def terminal(*, debug: bool) -> Iterator[Console]:
    """Give the console for messages (standard error) and show progress on it if it is a terminal.

    Prefect's own log lines go through the same console, so that they scroll above a running bar.
    """
    console = Console(stderr=True)
    for handler in _console_handlers():
        if hasattr(handler, "console") and console.is_terminal:
            handler.console = console
        if not debug and handler.formatter is not None:
            handler.setFormatter(_OneLine(handler.formatter))
    show_on(Bars(console) if console.is_terminal else None)
    try:
        yield console
    finally:
        show_on(None)


def _console_handlers() -> Iterator[logging.Handler]:
    import prefect.main  # noqa: F401 - it makes the handlers
    from prefect.logging.handlers import PrefectConsoleHandler

    seen: set[int] = set()
    for logger in [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]:
        for handler in logger.handlers:
            if isinstance(handler, PrefectConsoleHandler) and id(handler) not in seen:
                seen.add(id(handler))
                yield handler
