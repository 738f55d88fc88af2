"""Other libraries' approximate neighbours by cosine, each built once, kept on disk, and asked along its own ladder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.runtime import cpu_count

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

LINKS, WIDE = 16, 100
"""Of every graph: links a node, and candidates looked at to place one."""
PROBES = (1, 2, 4, 8, 16, 32, 64, 128)
BREADTHS = (10, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Rival:
    """A library's index: how it is made, kept, read again, and asked. All take and give row numbers."""

    name: str
    steps: tuple[int, ...]
    make: Callable[[Array], Any]
    save: Callable[[Any, str], object]
    load: Callable[[str, int], Any]
    ask: Callable[[Any, Array, int, int, int], Indices]
    """Index, queries (n, dim), k, a step of the ladder, threads: rows (n, k)."""

    def built(self, x: Array, folder: Path) -> tuple[Any, float, int]:
        """The index of unit vectors (n, dim), from `folder` if it is there; CPU seconds of its making, bytes on disk.

        CPU seconds: what else ran on the machine at that time, days ago perhaps, is not in them.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path, told = folder / self.name, folder / f"{self.name}.json"
        if not told.exists():
            start = time.process_time()
            index = self.make(x)
            seconds = time.process_time() - start
            self.save(index, str(path))
            told.write_text(json.dumps(seconds), encoding="utf-8")
        return self.load(str(path), x.shape[1]), json.loads(told.read_text(encoding="utf-8")), path.stat().st_size


def _faiss_ivf(x: Array) -> Any:
    import faiss

    lists = int(4 * np.sqrt(len(x)))  # what its guide advises
    index = faiss.index_factory(x.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, 64
    index.train(x)
    index.add(x)
    return index


def _faiss_graph(x: Array) -> Any:
    import faiss

    index = faiss.IndexHNSWFlat(x.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = WIDE
    index.add(x)
    return index


def _faiss_save(index: Any, path: str) -> None:
    import faiss

    faiss.write_index(index, path)


def _faiss_load(path: str, _: int) -> Any:
    import faiss

    return faiss.read_index(path)


def _faiss_ask(index: Any, queries: Array, k: int, step: int, threads: int) -> Indices:
    import faiss

    faiss.omp_set_num_threads(threads)
    if hasattr(index, "nprobe"):
        index.nprobe = step
    else:
        index.hnsw.efSearch = step
    return np.asarray(index.search(queries, k)[1], np.int64)


def _hnswlib(x: Array) -> Any:
    import hnswlib

    index = hnswlib.Index("ip", x.shape[1])
    index.init_index(len(x), M=LINKS, ef_construction=WIDE)
    index.add_items(x, num_threads=cpu_count())
    return index


def _hnswlib_load(path: str, dim: int) -> Any:
    import hnswlib

    index = hnswlib.Index("ip", dim)
    index.load_index(path)
    return index


def _hnswlib_ask(index: Any, queries: Array, k: int, step: int, threads: int) -> Indices:
    index.set_ef(step)
    return np.asarray(index.knn_query(queries, k, num_threads=threads)[0], np.int64)


def _usearch(x: Array) -> Any:
    from usearch.index import Index

    index = Index(ndim=x.shape[1], metric="ip", dtype="bf16", connectivity=LINKS, expansion_add=WIDE)
    index.add(np.arange(len(x)), x, threads=cpu_count())
    return index


def _usearch_load(path: str, _: int) -> Any:
    from usearch.index import Index

    return Index.restore(path)


def _usearch_ask(index: Any, queries: Array, k: int, step: int, threads: int) -> Indices:
    index.expansion_search = step
    return np.asarray(index.search(queries, k, threads=threads).keys, np.int64).reshape(len(queries), k)


RIVALS = (
    Rival("faiss IVF", PROBES, _faiss_ivf, _faiss_save, _faiss_load, _faiss_ask),
    Rival("faiss HNSW", BREADTHS, _faiss_graph, _faiss_save, _faiss_load, _faiss_ask),
    Rival("hnswlib", BREADTHS, _hnswlib, lambda index, path: index.save_index(path), _hnswlib_load, _hnswlib_ask),
    Rival("usearch", BREADTHS, _usearch, lambda index, path: index.save(path), _usearch_load, _usearch_ask),
)
