"""Mining among a million items and a hundred thousand, from Lance tables, in memory that neither side sets."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from storage import schemas
from storage.scratch import Scratch
from storage.tables import Store, matrix, vector_column
from tasks.encoders.runtime import cpu_count
from tasks.mining.pairs import Matches, mutual_neighbours
from tasks.retrieval.knn import Array, blocks
from tasks.retrieval.shortlist import bf16_top_k
from tests.benchmarks.curves import CACHE, vectors
from tests.benchmarks.measured import python
from tests.benchmarks.peak import peaks
from tests.benchmarks.results import record

ITEMS, OTHERS = "clustered-1m", 100_000
SAMPLE = 200  # items whose pairs are looked for once more in fp32
TABLES = CACHE / "million"


def main() -> None:
    """Measure in processes of their own, and record."""
    python("tests.benchmarks.million", "fill")
    one = python("tests.benchmarks.million", "mine").result
    n, m, dim = (int(one[name]) for name in ("left", "right", "dim"))
    work, peak = 2 * 2 * n * m * dim, max(one["torch"], one["openvino"])
    record(
        "million",
        "Mining a million",
        f"{n:,} clustered vectors of width {dim} and {m:,}, which are shaken copies of some of them, read from two "
        f"Lance tables into scratch files ({one['read']:.0f} s), then mutual nearest neighbours by cosine, range by "
        f"range on {cpu_count()} cores: {one['seconds']:.0f} s, {work / one['seconds'] / 1e9:.0f} GFLOP/s in both "
        f"directions, {100 * work / one['seconds'] / peak:.0f}% of what large bf16 squares reached in the same "
        f"process ({peak / 1e9:.0f} GFLOP/s). {one['mined']:,} pairs. The process grew by {one['grown'] / 1e9:.2f} GB, "
        f"of which {one['results'] / 1e9:.2f} GB are neighbours and scores of every item; the vectors are "
        f"{4 * (n + m) * dim / 1e9:.2f} GB, all scores {4 * n * m / 1e9:.0f} GB. Of {SAMPLE} items looked at once more "
        f"in fp32, {one['agreed']} have the same pair, or none as well. CSLS, which looks for the terms first, "
        "takes twice as long.",
    )


def fill() -> dict[str, int]:
    """Two tables of vectors, if they are not there yet."""
    store = Store(TABLES)
    gallery, _, _ = vectors(ITEMS)
    draw = np.random.default_rng(2)
    picked = np.sort(draw.choice(len(gallery), OTHERS, replace=False))
    for name, rows in (("left", np.arange(len(gallery))), ("right", picked)):
        schema = schemas.embeddings(gallery.shape[1], "{}", "bench")
        if store.count(name) == len(rows):
            continue
        for part in blocks(len(rows), 1, 50_000):
            x = np.array(gallery[rows[part]])
            if name == "right":
                x += 0.5 * draw.standard_normal(x.shape, np.float32) / np.sqrt(x.shape[1])
                x /= np.linalg.norm(x, axis=1, keepdims=True)
            keys = pa.array([f"{row:08}" for row in range(part.start, part.start + len(x))])
            columns = {"content_hash": keys, "vector": vector_column(x), "truncated": pa.array([False] * len(x))}
            store.upsert(name, schema, pa.Table.from_arrays([columns[f.name] for f in schema], schema=schema))
    return {"rows": len(gallery)}


def mine() -> dict[str, float]:
    """Seconds and memory of mining these tables, and whether a sample's pairs are the right ones."""
    store = Store(TABLES)
    dim = store.schema("left").field("vector").type.list_size
    warm = np.eye(dim, dtype=np.float32)
    bf16_top_k(np.tile(warm, (8, 1)), np.tile(warm, (8, 1)), 2)  # torch is in memory
    before = _peak()
    with tempfile.TemporaryDirectory() as place, Scratch(Path(place), dim) as a, Scratch(Path(place), dim) as b:
        begun = time.perf_counter()
        for name, side in (("left", a), ("right", b)):
            for batch in store.stream(name, ["vector"]):
                side.append(matrix(batch.column(0)))
        read = time.perf_counter() - begun
        begun = time.perf_counter()
        found = mutual_neighbours(a, b, score="cosine")
        seconds = time.perf_counter() - begun
        grown = _peak() - before
        agreed = _agreed(found, a, b)
        results = (len(a) * 2 + len(b)) * 12
        told = {"left": len(a), "right": len(b), "dim": dim, "read": read, "seconds": seconds, "grown": grown}
    return told | {"results": results, "mined": len(found.left), "agreed": agreed} | peaks()


def _agreed(found: Matches, a: Scratch, b: Scratch) -> int:
    """How many of some items have the pair that fp32 finds, or none as it does."""
    rows = np.random.default_rng(3).choice(len(a), SAMPLE, replace=False)
    picked = np.concatenate([a[row : row + 1] for row in rows.tolist()])
    near = (picked @ b[:].T).argmax(1)
    back = _best(np.concatenate([b[row : row + 1] for row in near.tolist()]), a)
    ours = dict(zip(found.left.tolist(), found.right.tolist(), strict=True))
    right = [j if i == k else None for i, j, k in zip(rows.tolist(), near.tolist(), back.tolist(), strict=True)]
    return sum(ours.get(i) == j for i, j in zip(rows.tolist(), right, strict=True))


def _best(queries: Array, rows: Scratch) -> np.ndarray:
    best, where = np.full(len(queries), -np.inf, np.float32), np.zeros(len(queries), np.int64)
    for part in blocks(len(rows), 1, 100_000):
        scores = queries @ rows[part].T
        better = scores.max(1) > best
        best, where = np.where(better, scores.max(1), best), np.where(better, part.start + scores.argmax(1), where)
    return where


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    print(json.dumps(fill() if sys.argv[1] == "fill" else mine()))
