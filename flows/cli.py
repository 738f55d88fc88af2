"""The command line `modalign`. Each command is thin: read the options, start a flow or ask the query core, show the answer."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Group, Parameter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from config.params import PipelineParams
    from config.settings import Settings

_COMMON = Group("Common options", sort_key=9)

app = App(
    name="modalign",
    help="Bring frozen encoders of different modalities into one searchable joint space.",
    help_format="markdown",
    version_flags=["--version"],
)


@Parameter(name="*", group=_COMMON)
@dataclass(frozen=True)
class Common:
    """Options that every command takes."""

    workspace: Annotated[Path | None, Parameter(alias="-w")] = None
    """Folder of tables, spaces, results cache and reports (default: ./modalign-data)."""
    profile: str | None = None
    """Params by name (demo, small, best, classic, strong) or a TOML file."""
    set: Annotated[list[str], Parameter(negative="")] = field(default_factory=list)
    """Override one param: --set align.method=ridge (repeatable)."""
    json: Annotated[bool, Parameter(negative="")] = False
    """Print the result as JSON, and nothing else, on standard output."""
    debug: Annotated[bool, Parameter(negative="")] = False
    """Show tracebacks."""


_DEFAULT = Common()


def main() -> None:
    """Run the command line; exit code 0 for success, 2 for bad input, 1 for a failed run."""
    debug = "--debug" in sys.argv
    try:
        app()
    except KeyboardInterrupt:
        print("modalign: stopped; the same command goes on where it was", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        sys.exit(_report(error))


def _report(error: Exception) -> int:
    from flows.errors import explain

    code, line = explain(error)
    print(f"modalign: {line}", file=sys.stderr)
    return code
