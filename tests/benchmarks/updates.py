"""What an update costs on Flickr8k: nothing changed, and 1% changed, as shares of the full build.

From each the cost of an empty flow with the same imports is taken off, measured in the same run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.benchmarks.changing import Changing
from tests.benchmarks.flickr8k import data
from tests.benchmarks.measured import Measured, python
from tests.benchmarks.results import record, table

REPEATS = 3


def main() -> None:
    """Measure and record."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source = Changing(data(), root / "flickr8k", seed=0)
        workspace = ["-w", str(root / "workspace")]
        build = _recorded(root / "build.json", "run", str(source.root), "--profile", "small", *workspace)
        bare_build = _empty(root / "build.json")
        calm = [_recorded(root / "calm.json", "update", *workspace) for _ in range(REPEATS)]
        bare_calm = [_empty(root / "calm.json") for _ in range(REPEATS)]
        busy = []
        for _ in range(REPEATS):
            source.change(0.01)
            busy.append(_recorded(root / "busy.json", "update", *workspace))
        bare_busy = [_empty(root / "busy.json") for _ in range(REPEATS)]
    whole = build.cpu_seconds - bare_build.cpu_seconds
    rows = [["full build", build.seconds, build.cpu_seconds, bare_build.seconds, bare_build.cpu_seconds, 1.0]]
    for name, runs, bare in (("nothing changed", calm, bare_calm), ("1% changed", busy, bare_busy)):
        for number, (one, other) in enumerate(zip(runs, bare, strict=True), 1):
            share = (one.cpu_seconds - other.cpu_seconds) / whole
            rows.append([f"{name} {number}", one.seconds, one.cpu_seconds, other.seconds, other.cpu_seconds, share])
    columns = ["run", "seconds", "CPU s", "empty flow: seconds", "CPU s ", "share of the full build's CPU"]
    net = [(_net(*pair, _cpu) / whole, _net(*pair, _wall)) for pair in ((calm, bare_calm), (busy, bare_busy))]
    told = (
        "7,000 photos and 35,000 captions, lite2 × MiniLM. 1% is 70 rows: captions changed, pictures replaced, moved "
        f"and removed. Net of an empty flow with the same imports, median of {REPEATS}: nothing changed "
        f"{net[0][0]:.2%} of the full build's CPU time and {net[0][1]:.1f} s; 1% changed {net[1][0]:.2%} and "
        f"{net[1][1]:.1f} s.\n\n"
    )
    record("updates", "Updates", told + table(columns, rows))


def _net(runs: list[Measured], bare: list[Measured], of: Callable[[Measured], float]) -> float:
    return median(of(one) for one in runs) - median(of(one) for one in bare)


def _cpu(one: Measured) -> float:
    return one.cpu_seconds


def _wall(one: Measured) -> float:
    return one.seconds


def _recorded(modules: Path, *words: str) -> Measured:
    return python("tests.benchmarks.imports", "record", str(modules), *words, "--json")


def _empty(modules: Path) -> Measured:
    return python("tests.benchmarks.imports", "empty", str(modules))
