"""Defaults for the libraries that read the environment at import. Whatever the user has set stays."""

from __future__ import annotations

import os
from pathlib import Path

# our own loggers and the libraries whose warnings belong to a run, shown in Prefect beside it
LOGGERS = "flows,tasks,storage,lancedb,transformers,torch"

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_EXTRA_LOGGERS": LOGGERS,
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def prepare() -> None:
    """Set what must stand in the environment before Prefect is imported: no telemetry, room for a slow start."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def keep_results_in(folder: Path) -> None:
    """Let Prefect persist results under `folder` (absolute): the workspace carries its own cache."""
    os.environ.setdefault("PREFECT_RESULTS_LOCAL_STORAGE_PATH", str(folder))
