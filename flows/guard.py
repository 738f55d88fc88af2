"""Our top-level names are common ones: fail early, in one line, when another package shadows them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

NAMES = ("flows", "tasks", "storage", "config")


def shadowed() -> list[tuple[str, str]]:
    """The names that Python would import from elsewhere, and from where; [] when all is well."""
    home = Path(__file__).resolve().parent.parent
    out: list[tuple[str, str]] = []
    for name in NAMES:
        spec = importlib.util.find_spec(name)
        found = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if found != home / name / "__init__.py":
            out.append((name, str(found or "nowhere")))
    return out


def check_names() -> None:
    """Raise `ImportError` naming what shadows us and what to do."""
    for name, where in shadowed():
        raise ImportError(
            f"modalign's package {name!r} is shadowed by {where}; run modalign in a virtual environment of its own, "
            f"from a folder that holds no {name!r}"
        )
