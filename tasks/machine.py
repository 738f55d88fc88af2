"""The machine that figures were measured on: processor, memory, and the versions that decide."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

import psutil

from tasks.encoders.runtime import cpu_count, has_amx, has_bf16

_PACKAGES = ("modalign", "prefect", "lancedb", "torch", "openvino", "transformers", "numpy")


def machine() -> dict[str, str]:
    """Processor, cores, memory, system, Python and the packages that decide, by what people call them."""
    bf16 = "AMX" if has_amx() else "AVX-512 bf16" if has_bf16() else "no bf16"
    return {
        "processor": processor(),
        "cores": f"{cpu_count()} ({bf16})",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
    } | {name: version for name in _PACKAGES if (version := _version(name))}


def processor() -> str:
    """The name of the first processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
