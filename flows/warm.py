"""What every run needs beyond Prefect, loaded while Prefect's server, another process, is starting."""

from __future__ import annotations

from importlib import import_module
from threading import Thread


def load_meanwhile() -> None:
    """Import LanceDB in a thread. To be called when all else is imported, just before a flow."""
    Thread(target=import_module, args=("lancedb",), name="warm", daemon=True).start()
