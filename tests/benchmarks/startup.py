"""How long commands take before they do anything: --help, a cold search, an update with nothing to do."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import psutil

from tests.benchmarks.measured import modalign
from tests.benchmarks.results import record, table

REPEATS = 5


def main() -> None:
    """Measure on the demo and record."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = ["-w", str(Path(folder) / "workspace")]
        modalign(["demo", *workspace])
        measure(workspace, Path(folder) / "modules.json")


def measure(workspace: Sequence[str], modules: Path) -> None:
    """Measure on a workspace that holds the demo, and record; `modules` is a file to write to."""
    commands = {
        "`modalign --help`": ["flows", "--help"],
        '`modalign search "a red heart"`': ["flows", "search", "a red heart", *workspace],
        "`modalign update`, nothing to do": [
            "tests.benchmarks.imports", "record", str(modules), "update", "--json", *workspace,
        ],
        "an empty flow with the same imports": ["tests.benchmarks.imports", "empty", str(modules)],
    }  # fmt: skip
    rows = []
    seconds = {}
    for name, words in commands.items():
        runs = [_timed(words) for _ in range(REPEATS + 1)][1:]  # the first one brings the files into memory
        seconds[name] = median(wall for wall, _ in runs)
        rows.append([name, seconds[name], max(wall for wall, _ in runs), median(cpu for _, cpu in runs)])
    *_, update, empty = seconds.values()
    told = (
        f"On the demo's workspace, each a fresh process, files in the page cache, median of {REPEATS}. The update "
        f"takes {update - empty:.1f} s besides the empty flow, which starts Prefect's server too.\n\n"
    )
    record("startup", "Start-up", told + table(["command", "seconds", "at most", "CPU s"], rows))


def _timed(words: Sequence[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a Python module; raises `CalledProcessError` when it fails."""
    before, start = psutil.Process().cpu_times(), time.perf_counter()
    subprocess.run([sys.executable, "-m", *words], check=True, capture_output=True)
    wall, after = time.perf_counter() - start, psutil.Process().cpu_times()
    spent = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return wall, spent


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        measure(["-w", sys.argv[1]], Path(scratch) / "modules.json")
