"""Fifty updates of 1% on Flickr8k: disk, index recall and query latency against a fresh build of the same folder."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

from storage.workspace import Workspace
from tasks.search import Query, Searcher
from tests.benchmarks.changing import Changing
from tests.benchmarks.flickr8k import data
from tests.benchmarks.measured import modalign
from tests.benchmarks.results import record, table

UPDATES = 50
QUERIES = ("a dog in the snow", "two children at the sea", "a man on a bicycle", "red car", "people at a table")


def main() -> None:
    """Measure and record."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source = Changing(data(), root / "flickr8k", seed=1)
        old, new = root / "old", root / "new"
        # an index instead of an exact scan, so that there is something to fold and to measure
        options = ["--profile", "small", "--set", "index.kind=IVF_HNSW_SQ"]
        modalign(["run", str(source.root), *options, "-w", str(old)])
        seconds, refits = [], 0
        for _ in range(UPDATES):
            source.change(0.01)
            done = modalign(["update", "-w", str(old)])
            seconds.append(done.seconds)
            space = done.result["update"]["spaces"][0]
            refits += space["decision"] is not None
        recall = space["aligned"]["index"]["index"]["recall"]
        fresh = modalign(["run", str(source.root), *options, "-w", str(new)])
        latency = _latency(old, new)
        sizes = [_bytes(one) / 1e6 for one in (old, new)]
    rows = [
        ["disk, MB", *sizes, sizes[0] / sizes[1]],
        ["recall@10 of the index", recall, fresh.result["metrics"]["ann"]["recall"], ""],
        ["query, ms", *latency, latency[0] / latency[1]],
    ]
    told = (
        f"{UPDATES} updates of 1% (70 rows each: captions changed, pictures replaced, moved, removed, brought back), "
        f"median {median(seconds):.1f} s each, {refits} of them fitted a new space; then a fresh build of the same "
        "folder. The workspace keeps the space in force and the one before it.\n\n"
    )
    record("fifty", "Fifty updates", told + table(["", "after fifty updates", "fresh build", "ratio"], rows))


def _latency(old: Path, new: Path) -> list[float]:
    """Median milliseconds of a hybrid text query in each workspace, measured in turns."""
    searchers = [Searcher(Workspace(root=one)) for one in (old, new)]
    times: list[list[float]] = [[], []]
    for turn in range(40):
        for which in (0, 1) if turn % 2 else (1, 0):
            for words in QUERIES:
                start = time.perf_counter()
                searchers[which].search(Query(text=words), k=10)
                if turn >= 4:
                    times[which].append(1_000 * (time.perf_counter() - start))
    return [median(one) for one in times]


def _bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
