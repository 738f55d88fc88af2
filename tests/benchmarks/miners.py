"""Other libraries' exact neighbours and mined pairs on the vectors of `knn`: seconds, and if they find the same."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tasks.encoders.runtime import cpu_count
from tasks.mining.negatives import hard_negatives
from tasks.retrieval.knn import Array, Indices
from tasks.retrieval.shortlist import bf16_top_k

K, RANKS = 10, 100
Told = list[str | float]


def measure(x: Array, asked: int) -> list[Told]:
    """Task, method, seconds and agreement with ours, for the first `asked` of `x` (n, d) where no more is said."""
    few = x[:asked]
    size, square = f"{asked:,} × {len(x):,}", f"{asked:,}²"
    (ours, _), took = _timed(lambda: bf16_top_k(few, x, K))
    rows: list[Told] = [[f"top {K} of {size}", "modalign", took, 1.0]]
    for name, search in (("faiss IndexFlatIP", _faiss), ("sentence-transformers semantic_search", _semantic)):
        found, took = _timed(lambda search=search: search(few, x))  # type: ignore[misc]
        rows.append([f"top {K} of {size}", name, took, _overlap(found, ours)])
    (pairs, _), took = _timed(lambda: bf16_top_k(few, few, K + 1))
    nearest = {(min(i, j), max(i, j)) for i, row in enumerate(pairs.tolist()) for j in row if i != j}
    rows.append([f"pairs among {square}", "modalign", took, 1.0])
    found, took = _timed(lambda: _paraphrases(few))
    shared = len({(min(i, j), max(i, j)) for _, i, j in found} & nearest) / len(found)
    rows.append([f"pairs among {square}", "sentence-transformers paraphrase_mining_embeddings", took, shared])
    partners = _partners(few)
    own = np.arange(asked)
    negatives, took = _timed(
        lambda: hard_negatives(few, partners, own, own, own, range_max=RANKS, margin=0.05, count=K)
    )
    mine = np.full((asked, K), -1, np.int64)
    place = np.arange(len(negatives.query)) - np.searchsorted(negatives.query, negatives.query)
    mine[negatives.query, place] = negatives.negative
    rows.append([f"hard negatives, {square}", "modalign", took, 1.0])
    for name, faiss in (("mine_hard_negatives", False), ("mine_hard_negatives, faiss", True)):
        theirs, took = _timed(lambda faiss=faiss: _negatives(few, partners, faiss=faiss))  # type: ignore[misc]
        rows.append([f"hard negatives, {square}", f"sentence-transformers {name}", took, _overlap(theirs, mine)])
    return rows


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    done = work()
    return done, time.perf_counter() - start


def _overlap(found: Indices, ours: Indices) -> float:
    """The mean share of our rows that they have too."""
    shares = [len(set(a) & set(b)) / max(len(b), 1) for a, b in zip(found.tolist(), ours.tolist(), strict=True)]
    return float(np.mean(shares))


def _partners(x: Array) -> Array:
    """Vectors near to those of `x` (n, d): what a query's positive is."""
    y = x + 0.5 * np.random.default_rng(3).standard_normal(x.shape, np.float32) / np.sqrt(x.shape[1])
    return np.asarray(y / np.linalg.norm(y, axis=1, keepdims=True), np.float32)


def _faiss(queries: Array, gallery: Array) -> Indices:
    import faiss

    faiss.omp_set_num_threads(cpu_count())
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery)
    return np.asarray(index.search(queries, K)[1], np.int64)


def _semantic(queries: Array, gallery: Array) -> Indices:
    import torch
    from sentence_transformers.util import semantic_search

    found = semantic_search(torch.from_numpy(queries), torch.from_numpy(gallery), query_chunk_size=1_000, top_k=K)
    return np.array([[one["corpus_id"] for one in row] for row in found])


def _paraphrases(x: Array) -> list[list[float]]:
    import torch
    from sentence_transformers.util import paraphrase_mining_embeddings

    found: list[list[float]] = paraphrase_mining_embeddings(torch.from_numpy(x), top_k=K)
    return found


def _negatives(queries: Array, gallery: Array, *, faiss: bool) -> Indices:
    """Rows (n, K); the texts are row numbers, and the model looks their vectors up."""
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    names = [f"{i}" for i in range(len(queries))]
    found = mine_hard_negatives(
        Dataset.from_dict({"query": names, "positive": [f"p{name}" for name in names]}),
        _Known(queries, gallery), range_max=RANKS, relative_margin=0.05, num_negatives=K, use_faiss=faiss,
        output_format="labeled-list", verbose=False,
    )  # fmt: skip
    out = np.full((len(queries), K), -2, np.int64)
    for query, texts, labels in zip(found["query"], found["positive"], found["labels"], strict=True):
        rows = [int(text[1:]) for text, label in zip(texts, labels, strict=True) if not label]
        out[int(query), : len(rows)] = rows
    return out


class _Known:
    """What mining asks of a model, with vectors that are known already: only the search is to be timed."""

    device = "cpu"

    def __init__(self, queries: Array, gallery: Array) -> None:
        self._queries, self._gallery = queries, gallery

    def get_embedding_dimension(self) -> int:
        return self._queries.shape[1]

    def encode_query(self, texts: list[str], **_: object) -> Array:
        return self._queries[[int(text) for text in texts]]

    def encode_document(self, texts: list[str], **_: object) -> Array:
        return self._gallery[[int(text[1:]) for text in texts]]

    def similarity(self, x: Any, y: Any) -> Any:
        import torch

        return torch.as_tensor(x) @ torch.as_tensor(y).T

    def similarity_pairwise(self, x: Any, y: Any) -> Any:
        import torch

        return (torch.as_tensor(x) * torch.as_tensor(y)).sum(1)


if __name__ == "__main__":
    from tests.benchmarks.knn import vectors

    x = vectors("clustered")
    measure(x[:1_000], 200)  # all is imported
    print(json.dumps({"rows": measure(x, int(sys.argv[1]))}))
