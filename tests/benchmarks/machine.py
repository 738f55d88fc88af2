"""Where figures were measured: processor, memory, and the versions that decide."""

from __future__ import annotations

import importlib.metadata
import platform
from datetime import UTC, datetime
from pathlib import Path

import psutil

from tasks.encoders.runtime import cpu_count, has_amx, has_bf16


def describe() -> str:
    """One line for people: date, processor, cores, memory, matrix instructions, versions."""
    names = ("prefect", "lancedb", "torch", "openvino", "transformers")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    bf16 = "AMX" if has_amx() else "AVX-512 bf16" if has_bf16() else "no bf16"
    memory = psutil.virtual_memory().total / 2**30
    day = datetime.now(UTC).date().isoformat()
    return (
        f"{day}, {_processor()}, {cpu_count()} cores ({bf16}), {memory:.0f} GiB, "
        f"Python {platform.python_version()}, {versions}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
