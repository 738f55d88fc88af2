"""What runs tell of themselves: each at work in a small file that is replaced whole, the last ones in a list."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from storage.errors import StorageError
from storage.folders import whole_file
from storage.runs import FOLDER

_LAST = "last.jsonl"
_KEPT = 50  # runs

Told = dict[str, Any]


def tell_now(root: Path, run_id: str, told: Told) -> None:
    """Say how far a run is; what it said before is gone. A disk that refuses costs the display, never the run."""
    with suppress(OSError, StorageError), whole_file(_now(root, run_id)) as fresh:
        fresh.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")


def told_now(root: Path, run_id: str) -> Told | None:
    """How far a run is by its own word; None if it has not said yet, or is over."""
    with suppress(OSError, ValueError):
        told: Told = json.loads(_now(root, run_id).read_text(encoding="utf-8"))
        return told
    return None


def forget_now(root: Path, run_id: str) -> None:
    """The run is over, well or not."""
    with suppress(OSError):
        _now(root, run_id).unlink(missing_ok=True)


def add_last(root: Path, told: Told) -> None:
    """Keep what a run that has ended says of itself, the last fifty of them."""
    kept = [*last_told(root), told][-_KEPT:]
    with suppress(OSError, StorageError), whole_file(root / FOLDER / _LAST) as fresh:
        fresh.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in kept), encoding="utf-8")


def last_told(root: Path) -> list[Told]:
    """What the last runs said, oldest first. A line that cannot be read is passed over."""
    found: list[Told] = []
    with suppress(OSError):
        for line in (root / FOLDER / _LAST).read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
    return found


def _now(root: Path, run_id: str) -> Path:
    return root / FOLDER / f"{run_id}.now"
