"""All-pairs neighbours: bf16 shortlists against the bf16 products alone and against fp32, and what a million costs."""

from __future__ import annotations

import json
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tasks.encoders.runtime import cpu_count
from tasks.retrieval import shortlist
from tasks.retrieval.knn import Array, blocks, exact_top_k
from tasks.retrieval.shortlist import CELLS, bf16_bits, bf16_top_k
from tests.benchmarks.measured import python
from tests.benchmarks.results import record, table

N, WIDTH, K = 100_000, 384, 10
MILLION, ASKED = 1_000_000, 4_096
SAMPLE = 1_000  # queries whose neighbours are held against fp32
ROUNDS = 3


def main() -> None:
    """Measure in processes of their own, and record."""
    rows = []
    for kind in ("spread", "clustered"):
        run = python("tests.benchmarks.knn", kind)
        one = run.result
        rows += [
            [kind, "bf16 products alone", one["alone"], one["alone_cpu"], 1.0, 1.0, "", "", ""],
            [
                kind,
                "shortlist and fp32 scores",
                *_against(one, "fast"),
                one["recall"],
                one["again"],
                run.peak_bytes / 1e9,
            ],
            [kind, f"fp32, from {SAMPLE:,} queries", *_against(one, "exact"), 1.0, "", ""],
        ]
    large = python("tests.benchmarks.knn", "million").result
    columns = [
        "vectors",
        "method",
        "seconds",
        "CPU s",
        "ratio",
        "ratio of CPU s",
        f"recall@{K}",
        "queries done again",
        "peak GB",
    ]
    told = (
        f"The {K} nearest of {N:,} × {N:,} unit vectors of width {WIDTH}, and the products alone in the same blocks "
        f"and threads, in turns, the fastest of {ROUNDS}. Recall on {SAMPLE:,} queries against fp32 throughout. "
        "CPU seconds do not depend on what else runs on the machine, wall time does. "
        "Clustered: 500 random centres with noise of their own size. A query is done again when the bound on the "
        "rounding does not rule out that its shortlist was too short.\n\n"
    )
    million = (
        f"\n\n{ASKED:,} queries in a gallery of {MILLION:,}: {large['seconds']:.1f} s, {large['grown'] / 1e9:.2f} GB "
        f"beyond the vectors ({large['vectors'] / 1e9:.2f} GB). Of that a query takes {large['a_query']:,} bytes (its "
        f"shortlist, indices and scores), the rest are blocks, whatever the sizes: a million × million takes "
        f"{(large['grown'] + (MILLION - ASKED) * large['a_query']) / 1e9:.2f} GB beyond the vectors, and at this rate "
        f"{large['seconds'] * MILLION / ASKED / 60:.0f} minutes. All scores at once would be 4,000 GB."
    )
    record("knn", "Exact neighbours", told + table(columns, rows) + million)


def _against(one: dict[str, float], name: str) -> list[float]:
    """Seconds and CPU seconds of a method, and both as a multiple of the products alone."""
    pairs = (("alone", name), ("alone_cpu", f"{name}_cpu"))
    return [one[mine] for _, mine in pairs] + [one[mine] / one[base] for base, mine in pairs]


def compare(kind: str) -> dict[str, float]:
    """Seconds, CPU seconds and recall for `N` vectors among themselves."""
    x = _vectors(kind)
    times: dict[str, list[tuple[float, float]]] = {"alone": [], "fast": []}
    again = 0

    def watched(queries: Array, gallery: Array, size: int, cells: int) -> object:
        nonlocal again
        again += len(queries) if len(queries) < N else 0
        return look(queries, gallery, size, cells)

    look, shortlist._shortlist = shortlist._shortlist, watched  # type: ignore[assignment]
    for _ in range(ROUNDS):
        with _Clock(times["alone"]):
            _products(x)
        again = 0
        with _Clock(times["fast"]):
            found, _ = bf16_top_k(x, x, K)
    pick = np.random.default_rng(1).choice(N, SAMPLE, replace=False)
    exact: list[tuple[float, float]] = []
    with _Clock(exact):
        truth, _ = exact_top_k(x[pick], x, K)
    hits = [len(set(a) & set(b)) for a, b in zip(found[pick].tolist(), truth.tolist(), strict=True)]
    out = {"recall": float(np.mean(hits)) / K, "again": again}
    for name, values in (*times.items(), ("exact", [(a * N / SAMPLE, b * N / SAMPLE) for a, b in exact])):
        out[name], out[f"{name}_cpu"] = np.min(np.array(values), axis=0).tolist()
    return out


def million() -> dict[str, float]:
    """Seconds and memory of some queries in a gallery of a million."""
    draw = np.random.default_rng(0)
    gallery = np.empty((MILLION, WIDTH), np.float32)
    for part in blocks(MILLION, WIDTH, 2**22):
        gallery[part] = draw.standard_normal((part.stop - part.start, WIDTH), dtype=np.float32)
        gallery[part] /= np.linalg.norm(gallery[part], axis=1, keepdims=True)
    bf16_top_k(gallery[:8], gallery[:2_000], K)  # torch is in memory
    before = _peak()
    start = time.perf_counter()
    found, scores = bf16_top_k(gallery[:ASKED], gallery, K)
    seconds = time.perf_counter() - start
    a_query = (found.nbytes + scores.nbytes) // ASKED + 8 * 32
    return {"seconds": seconds, "grown": _peak() - before, "vectors": gallery.nbytes, "a_query": a_query}


def _vectors(kind: str) -> Array:
    draw = np.random.default_rng(0)
    x = draw.standard_normal((N, WIDTH), dtype=np.float32)
    if kind == "clustered":
        x += draw.standard_normal((500, WIDTH), dtype=np.float32)[draw.integers(0, 500, N)]
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), np.float32)


def _products(x: Array) -> None:
    """The bf16 products of all rows, block by block, as the search takes them."""
    import torch

    rounded = torch.from_numpy(bf16_bits(x)).view(torch.bfloat16)
    threads = cpu_count()
    rows = max(1, CELLS // threads // shortlist._COLUMNS)

    def run(first: int) -> None:
        for columns in blocks(len(x), 1, shortlist._COLUMNS):
            right = rounded[columns].T
            out = torch.empty((rows, right.shape[1]), dtype=torch.bfloat16)
            for part in [*blocks(len(x), 1, rows)][first::threads]:
                left = rounded[part]
                torch.mm(left, right, out=out[: len(left)])

    before = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(run, range(threads)))
    torch.set_num_threads(before)


class _Clock:
    """Adds the wall and CPU seconds of its block to a list."""

    def __init__(self, into: list[tuple[float, float]]) -> None:
        self._into = into

    def __enter__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self._into.append((time.perf_counter() - self._start[0], time.process_time() - self._start[1]))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    print(json.dumps(million() if sys.argv[1] == "million" else compare(sys.argv[1])))
