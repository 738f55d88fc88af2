"""From measured costs to 10 million, 100 million and 10 billion items: the figures of storage/SCALE.md, by formula."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from storage import schemas
from storage.tables import Store
from tests.benchmarks.results import record, table
from tests.storage.rows import embedded, unit

SIZES = (42_000, 1_000_000, 10_000_000, 100_000_000, 10_000_000_000)
WIDTH, BATCH = 384, 4_096

# of other sections, of README.md and of tasks/README.md: profile small on this kind of core
PICTURES, TEXTS = 1 / 6, 5 / 6  # shares of the items of Flickr8k: a photo and five captions
PICTURE_SECONDS = 2 / 129  # of a core, for reader and encoder of a 300 px picture (lite2, OpenVINO bf16)
TEXT_SECONDS = 2 / 990  # of a core, for a caption (MiniLM, OpenVINO bf16)
PAIR_SECONDS = 24.6 / 100_000**2  # of a core, for one product in the exact top 10 (knn)
HNSW_SECONDS = 54 / 100_000  # of a core, for a row of an index of 100,000
BATCH_QUERY_SECONDS = 0.91e-3  # of a core, for a query in a batch against such an index, recall .984
LOOK_SECONDS = (0.0147 * 179.5) / 42_000  # of a core, for an item of an update with nothing new, net of start-up

# bytes of a row, measured on Flickr8k (42,000 items, compacted)
PICTURE_VECTOR, TEXT_VECTOR = 5_159, 1_558  # 1,280 and 384 numbers and the key
SPACE_ROW = 2_225 - 4 * 512 - 512 // 8 + 4 * WIDTH + WIDTH // 8  # measured at width 512
ITEM_ROW, PAIR_ROW, FILE_ROW, TEXT_INDEX = 111, 51, 77, 27
BANK = 5_000  # queries behind the hubness terms
GROUP_RAM = 20  # bytes an item while groups and splits are computed


def main() -> None:
    """Measure what depends on the number of rows, extrapolate, and record."""
    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory() as folder:
        few, many = (_at(Path(folder), n, rows) for n in (100_000, 1_000_000))
        graph = _graph_bytes(Path(folder))
        manifest = _manifest_bytes(Path(folder))
    columns = ["rows in the table", "index on the key", "upsert of 4,096 new keys, CPU s", "their anti-join, CPU s"]
    known = table(columns, rows)
    columns = ["items", *(f"{n:,}" for n in SIZES)]
    told = (
        f"{known}\n\nA row of an IVF_HNSW_SQ index of width {WIDTH} takes {graph:.0f} bytes; a version's manifest "
        f"{manifest:.0f} bytes a fragment. Extrapolated from these and from the figures in tests/benchmarks/scale.py, "
        "profile small, a sixth of the items pictures; core-hours of one core of this machine:\n\n"
        f"{table(columns, _extrapolated(graph, manifest, (many - few) / 900_000))}"
    )
    record("scale", "What grows with the number of items", told)


def _extrapolated(graph: float, manifest: float, scan_seconds: float) -> list[list[object]]:
    """A row a figure, a column a size."""
    shards = 4_096  # as many as there are buckets, at most

    def short(value: float) -> str:
        return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"

    def hours(seconds: float) -> str:
        return short(seconds / 3600)

    def size(count: float) -> str:
        return f"{short(count / 1e9)} GB" if count < 1e12 else f"{short(count / 1e12)} TB"

    def shards_of(n: int) -> int:
        return min(shards, 2 ** math.ceil(math.log2(max(n / BATCH, 1))))

    figures: dict[str, Callable[[int], str]] = {
        "embeddings": lambda n: size(n * (PICTURES * PICTURE_VECTOR + TEXTS * TEXT_VECTOR)),
        "the space": lambda n: size(n * (SPACE_ROW + TEXT_INDEX)),
        "its index, as IVF_HNSW_SQ": lambda n: size(n * graph),
        "items, pairs, files": lambda n: size(n * (ITEM_ROW + TEXTS * PAIR_ROW + PICTURES * FILE_ROW)),
        "memory for groups": lambda n: size(n * GROUP_RAM),
        "memory for the vectors of a fit": lambda n: size(n * 4 * (PICTURES * 1_280 + TEXTS * WIDTH)),
        "encode, core-hours": lambda n: hours(n * (PICTURES * PICTURE_SECONDS + TEXTS * TEXT_SECONDS)),
        "such an index, core-hours": lambda n: hours(n * HNSW_SECONDS * max(1.0, math.log(n) / math.log(1e5))),
        "hubness terms, core-hours": lambda n: hours(n * 2 * BANK * PAIR_SECONDS),
        "rank a held-out fifth, core-hours": lambda n: hours((n / 5) ** 2 * PICTURES * TEXTS * PAIR_SECONDS),
        "mine all pairs, core-hours": lambda n: hours(n**2 * PICTURES * TEXTS * PAIR_SECONDS),
        "mine by the index, core-hours": lambda n: hours(
            n * BATCH_QUERY_SECONDS * max(1.0, math.log(n) / math.log(1e5))
        ),
        "an update with nothing new, core-hours": lambda n: hours(n * LOOK_SECONDS),
        "items that a changed row reads again": lambda n: f"{max(1, n // shards):,}",
        "tasks of a stage (now)": lambda n: f"{shards_of(n):,}",
        "items a task (now)": lambda n: f"{n // shards_of(n):,}",
        "scans of the key, without an index, core-hours": lambda n: hours(n / BATCH * n * scan_seconds),
        "manifest before compaction": lambda n: size(shards_of(n) * manifest),
    }
    return [[name, *(figure(n) for n in SIZES)] for name, figure in figures.items()]


def _at(folder: Path, n: int, rows: list[list[object]]) -> float:
    """Upserts and anti-joins in a table of `n` keys like content hashes; seconds of both without an index."""
    from lancedb.index import BTree

    store = Store(folder / f"t{n}")
    random = np.random.default_rng(0)
    made = 0
    while made < n:
        count = min(100_000, n - made)
        store.create("e", schemas.embeddings(4, "{}", "fp")).add(embedded(_keys(random, count), unit(count)))
        made += count
    store.open("e").to_lance().optimize.compact_files()
    plain = 0.0
    for kind in ("none", "BTREE"):
        if kind == "BTREE":
            store.open("e").create_index("content_hash", config=BTree())
        took = [_seconds(store, random) for _ in range(3)]
        upsert, look = np.median(np.asarray(took), axis=0).tolist()
        plain = plain or upsert + look
        rows.append([f"{n:,}", kind, round(upsert, 3), round(look, 3)])
    return plain


def _seconds(store: Store, random: np.random.Generator) -> tuple[float, float]:
    """CPU seconds of this process of an upsert, and of an anti-join of a shard of neighbouring keys."""
    keys = _keys(random, BATCH)
    begun = time.process_time()
    store.upsert("e", schemas.embeddings(4, "{}", "fp"), embedded(keys, unit(BATCH)))
    middle = time.process_time()
    store.missing("e", sorted("7" + key[2:] + key[:1] for key in keys))
    return middle - begun, time.process_time() - middle


def _keys(random: np.random.Generator, count: int) -> list[str]:
    raw = random.bytes(16 * count).hex()
    return [raw[32 * place : 32 * (place + 1)] for place in range(count)]


def _graph_bytes(folder: Path, rows: int = 10_000) -> float:
    """Bytes a row of the index alone."""
    from lancedb.index import HnswSq

    store = Store(folder / "graph")
    keys = _keys(np.random.default_rng(1), rows)
    store.upsert("e", schemas.embeddings(WIDTH, "{}", "fp"), embedded(keys, unit(rows, WIDTH)))
    config = HnswSq(distance_type="cosine", num_partitions=1, m=20, ef_construction=300)
    store.open("e").create_index("vector", config=config)
    files = (Path(store.uri) / "e.lance" / "_indices").rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file()) / rows


def _manifest_bytes(folder: Path, fragments: int = 60) -> float:
    """Bytes that a fragment adds to the description of a version."""
    store = Store(folder / "manifest")
    for number in range(fragments):
        store.upsert("e", schemas.embeddings(4, "{}", "fp"), embedded([f"{number:032x}"], unit(1)))
    sizes = sorted(path.stat().st_size for path in (Path(store.uri) / "e.lance" / "_versions").glob("*.manifest"))
    return (sizes[-1] - sizes[-1 - fragments // 2]) / (fragments // 2)
