"""An empty flow with the imports of another command: what that command costs before it has done anything.

`python -m tests.benchmarks.imports record FILE WORD …` runs `modalign WORD …` and writes the modules it has imported;
`python -m tests.benchmarks.imports empty FILE` imports the same and runs an empty flow.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from pathlib import Path


def record(path: Path, words: list[str]) -> None:
    """Run the command line, then note what has been imported, in its order."""
    from flows.cli import main

    try:
        main(words)
    finally:
        path.write_text(json.dumps([name for name in sys.modules if not name.startswith("__")]))


def empty(path: Path) -> None:
    """Import what was noted, and run a flow that does nothing."""
    import flows  # noqa: F401 - sets what Prefect reads
    from storage.importing import deferred

    with deferred():  # as the command did
        for name in json.loads(path.read_text()):
            with contextlib.suppress(Exception):  # parts of packages that do not stand by themselves
                importlib.import_module(name)
    from prefect import flow

    @flow(name="empty", persist_result=False)
    def nothing() -> None:
        """Do nothing."""

    nothing()
    print("{}")


if __name__ == "__main__":
    if sys.argv[1] == "record":
        record(Path(sys.argv[2]), sys.argv[3:])
    else:
        empty(Path(sys.argv[2]))
