"""Searches on Flickr8k's space: in a fresh process, warm, in a batch, and with all that can be asked for."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from storage.filters import eq
from storage.workspace import Workspace
from tasks.conditions import parse
from tasks.search import Mode, Query, Searcher
from tests.benchmarks.flickr8k import data
from tests.benchmarks.measured import modalign
from tests.benchmarks.results import record, table

COLD, WARM, BATCH = 7, 50, 100
MODES: tuple[Mode, ...] = ("vector", "text", "hybrid")


def main() -> None:
    """Measure and record; MODALIGN_BENCH_WORKSPACE names a workspace that holds the space already."""
    known = os.environ.get("MODALIGN_BENCH_WORKSPACE")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(known or folder)
        if known is None:
            modalign(["run", str(data()), "--profile", "best", "-w", str(root)])
        _measure(root)


def _measure(root: Path) -> None:
    rows: list[list[object]] = []
    cold = [modalign(["search", "a dog", "-w", str(root)]) for _ in range(COLD + 1)][1:]  # the first warms the disk
    rows.append(["cold, by words", 1_000 * statistics.median(one.seconds for one in cold), "", ""])
    searcher = Searcher(Workspace(root=root))
    texts = _captions(searcher, root)
    encoded = _encode_once(searcher, texts)
    queries = [Query(text=text) for text in texts]
    for target in ("image", "text"):
        for mode in MODES:
            ask = partial(searcher.search, target=target, mode=mode)
            rows.append([f"text → {target}, {mode}", "", _warm(ask, queries), _batch(searcher, queries, target, mode)])
    where = parse(["split=val"])
    others: dict[str, Callable[[Query], object]] = {
        "text → image, of one split": lambda query: searcher.search(query, target="image", where=where),
        "text → image, folded": lambda query: searcher.search(query, target="image", fold=True),
        "text → image, page 5": lambda query: searcher.search(query, target="image", offset=40),
    }
    rows += [[name, "", _warm(ask, queries), ""] for name, ask in others.items()]
    hits = {id(query): searcher.search(query, target="image", k=1).hits[0].key for query in queries}
    rows.append(["why, one hit", "", _warm(lambda query: searcher.why(query, hits[id(query)]), queries), ""])
    rows.append(["item → text", "", _warm(lambda query: searcher.search(Query(item=hits[id(query)])), queries), ""])
    seconds = statistics.median(one.cpu_seconds for one in cold)
    kind = searcher._galleries._index.kind
    told = (
        f"42,000 items, width {searcher._space.dim}, profile best, {kind} index. Medians. Cold: `modalign search` in "
        f"{COLD} fresh processes, wall time from start to end, warm disk, encoders loaded anew: {seconds:.1f} CPU "
        f"seconds, {max(one.peak_bytes for one in cold) / 1e9:.1f} GB at most. Warm: {WARM} val captions one after "
        f"the other, and {BATCH} together, milliseconds a query besides the encoder: that takes {encoded:.0f} ms.\n\n"
    )
    record("searching", "Searches", told + table(["search", "cold ms", "warm ms", f"each of {BATCH}, ms"], rows))


def _captions(searcher: Searcher, root: Path) -> list[str]:
    store = Workspace(root=root).store
    held = eq("modality", "text") & eq("split", "val")
    texts = sorted(set(store.strings(searcher._manifest["space"]["table"], "text", held)))
    return [texts[place] for place in np.random.default_rng(0).choice(len(texts), BATCH, replace=False)]


def _encode_once(searcher: Searcher, texts: list[str]) -> float:
    """Have the searcher look the texts' vectors up from now on; milliseconds of the encoder for one."""
    encode = searcher._embedder._encode
    took = []
    for text in texts[: WARM // 5]:
        encode("text", [text])  # its shapes are compiled
        begun = time.perf_counter()
        encode("text", [text])
        took.append(time.perf_counter() - begun)
    known = dict(zip(texts, encode("text", texts), strict=True))
    searcher._embedder._encode = lambda _, contents: np.stack([known[one] for one in contents])  # type: ignore[method-assign]
    return 1_000 * statistics.median(took)


def _warm(ask: Callable[[Query], object], queries: list[Query]) -> float:
    took = []
    ask(queries[0])
    for query in queries[:WARM]:
        begun = time.perf_counter()
        ask(query)
        took.append(time.perf_counter() - begun)
    return 1_000 * statistics.median(took)


def _batch(searcher: Searcher, queries: list[Query], target: str, mode: Mode) -> float:
    searcher.search_many(queries[:2], target=target, mode=mode)
    begun = time.perf_counter()
    searcher.search_many(queries, target=target, mode=mode)
    return 1_000 * (time.perf_counter() - begun) / len(queries)
