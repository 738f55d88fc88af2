"""The terminal that commands print to."""

from __future__ import annotations

from rich.console import Console


def console_for() -> Console:
    """A console as wide as the terminal, or 120 columns where the output is none."""
    console = Console()
    return console if console.is_terminal else Console(width=120)
