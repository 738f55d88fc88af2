"""All-pairs neighbours: bf16 shortlists against the machine's bf16 peak, the products alone, fp32, other libraries."""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tasks.encoders.runtime import cpu_count
from tasks.retrieval import shortlist
from tasks.retrieval.knn import Array, blocks, exact_top_k
from tasks.retrieval.shortlist import CELLS, bf16_bits, bf16_top_k
from tests.benchmarks.measured import python
from tests.benchmarks.peak import peaks
from tests.benchmarks.results import record, table

N, WIDTH, K = 100_000, 384, 10
SAMPLE = 1_000  # queries whose neighbours are held against fp32
ASKED = 10_000  # queries of the other libraries
WORK = 2 * N * N * WIDTH


def main() -> None:
    """Measure in processes of their own, and record."""
    rows: list[list[object]] = []
    for kind, cores in (("spread", 1), ("spread", cpu_count()), ("clustered", cpu_count())):
        run = python("tests.benchmarks.knn", kind, str(cores))
        one = run.result
        peak = max(one["torch"], one["openvino"])
        head = [kind, cores]
        rows += [
            [
                *head,
                f"large squares: {'torch' if peak == one['torch'] else 'OpenVINO'}",
                "",
                peak / 1e9,
                100.0,
                *[""] * 4,
            ],
            [*head, "bf16 products alone", *_pace(one, "alone", peak), 1.0, "", "", ""],
            [
                *head,
                "shortlist and fp32 scores",
                *_pace(one, "fast", peak),
                one["fast_cpu"] / one["alone_cpu"],
                one["recall"],
                one["again"],
                run.peak_bytes / 1e9,
            ],
            [
                *head,
                f"fp32, from {SAMPLE:,} queries",
                *_pace(one, "exact", peak),
                one["exact_cpu"] / one["alone_cpu"],
                1.0,
                "",
                "",
            ],
        ]
    columns = [
        "vectors",
        "cores",
        "method",
        "seconds",
        "GFLOP/s",
        "% of peak",
        "ratio of CPU s",
        f"recall@{K}",
        "queries done again",
        "peak GB",
    ]
    others = table(
        ["task", "method", "seconds", "found the same"], python("tests.benchmarks.miners", str(ASKED)).result["rows"]
    )
    told = (
        f"The {K} nearest of {N:,} × {N:,} unit vectors of width {WIDTH}: 2·n·m·d operations, as a share of the most "
        "that torch (oneDNN) or OpenVINO reached on large bf16 squares in the same process. The products alone are in "
        f"the same blocks and threads; the ratio is of CPU seconds. "
        f"Recall on {SAMPLE:,} queries against fp32 throughout. Clustered: 500 random centres with noise of their own "
        "size. A query is done again when the bound on the rounding does not rule out that its shortlist was too "
        "short.\n\n"
    )
    said = (
        f"\n\nThe clustered vectors, all cores, the vectors known: the first {ASKED:,} against all, among themselves, "
        "and with shaken copies of themselves as positives (ranks below 100, margin 0.05, 10 negatives).\n\n"
    )
    record("knn", "Exact neighbours", told + table(columns, rows) + said + others)


def _pace(one: dict[str, float], name: str, peak: float) -> list[float]:
    """Seconds of a method, 10⁹ operations a second, percent of the peak."""
    return [one[name], WORK / one[name] / 1e9, 100 * WORK / one[name] / peak]


def compare(kind: str) -> dict[str, float]:
    """Seconds, CPU seconds and recall for `N` vectors among themselves."""
    x = vectors(kind)
    times: dict[str, list[tuple[float, float]]] = {"alone": [], "fast": []}
    again = 0

    def watched(queries: Array, gallery: Array, size: int, cells: int) -> object:
        nonlocal again
        again += len(queries) if len(queries) < N else 0
        return look(queries, gallery, size, cells)

    bf16_top_k(x[:64], x[:2_000], K)  # torch is in memory
    look, shortlist._shortlist = shortlist._shortlist, watched  # type: ignore[assignment]
    with _Clock(times["alone"]):
        _products(x)
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


def vectors(kind: str) -> Array:
    """`N` unit vectors, spread or clustered."""
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


if __name__ == "__main__":
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[2])])
    print(json.dumps(compare(sys.argv[1]) | peaks()))
