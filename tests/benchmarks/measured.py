"""A command, run to its end, with the wall time, CPU time and the peak memory of its process tree."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil


@dataclass(frozen=True)
class Measured:
    """`result` is the JSON that the command printed; seconds, CPU seconds of the tree, bytes at its peak."""

    result: dict[str, Any]
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    log: str


def modalign(words: Sequence[str]) -> Measured:
    """Run `python -m flows …  --json` and watch it. Raises `RuntimeError` with its last lines when it fails."""
    return python("flows", *words, "--json")


def python(module: str, *words: str, interpreter: str = sys.executable) -> Measured:
    """Run a module that prints JSON, and watch it, as `modalign` does."""
    start = time.perf_counter()
    command = [interpreter, "-m", module, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watch = _Watch(psutil.Process(process.pid))
    out, err = watch.until(process)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{err[-2_000:]}")
    return Measured(json.loads(out), seconds, watch.cpu, watch.peak, err)


class _Watch:
    def __init__(self, root: psutil.Process) -> None:
        self._root = root
        self._cpu: dict[int, float] = {}
        self.peak = 0

    @property
    def cpu(self) -> float:
        return sum(self._cpu.values())

    def until(self, process: subprocess.Popen[str]) -> tuple[str, str]:
        while True:
            self._look()
            try:
                return process.communicate(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue

    def _look(self) -> None:
        total = 0
        try:
            tree = [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for one in tree:
            try:
                total += one.memory_info().rss
                times = one.cpu_times()
                self._cpu[one.pid] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
        self.peak = max(self.peak, total)
