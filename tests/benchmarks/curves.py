"""Recall against time of a search: ours beside faiss, hnswlib and usearch, on clustered vectors and on real ones.

The indexes are built once and kept in MODALIGN_BENCH_CACHE: `python -m tests.benchmarks.curves build`. Real vectors are
those of the Flickr8k space in the workspace MODALIGN_BENCH_WORKSPACE; without it they are left out.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage import ann, schemas
from storage.ann import Index, Kind, build_index, kind_for
from storage.filters import eq
from storage.signs import bits_column
from storage.tables import Store, matrix, vector_column
from storage.workspace import Workspace
from tasks.encoders.runtime import cpu_count
from tasks.galleries import Galleries
from tasks.narrowing import Narrowed
from tasks.reports import plots
from tasks.reports.raster import png
from tasks.retrieval.shortlist import bf16_top_k
from tests.benchmarks.results import record, table
from tests.benchmarks.rivals import RIVALS

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Ask = Callable[[Array, int], Indices]
"""Queries (n, dim) and threads: the ten best rows (n, 10) of each."""

CACHE = Path(os.environ.get("MODALIGN_BENCH_CACHE", str(Path(tempfile.gettempdir()) / "modalign-bench")))
BATCH, SINGLE, K = 1_000, 200, 10
SIZES = {"clustered-100k": (100_000, 384), "clustered-1m": (1_000_000, 256)}
FLICKR = "flickr8k"
TITLES = {
    "clustered-100k": "100,000 clustered vectors of width 384",
    "clustered-1m": "1,000,000 clustered vectors of width 256",
    FLICKR: "captions of Flickr8k, asked by pictures",
}
OURS: tuple[Kind, ...] = ("IVF_FLAT", "IVF_RQ", "IVF_HNSW_SQ")  # of the million the default alone: builds are long
TARGET, ENOUGH = 0.95, 0.99  # the ladders are climbed up to the second
DRAWN = 0.8  # from this recall on
TRAPS = (256, 257, 300, 1_024)
TEXT = eq("modality", "text")


class Step(NamedTuple):
    """A point of a curve: the setting, recall@10, milliseconds of one query alone and of one in a batch."""

    setting: str
    recall: float
    single: float
    batch: float


class Curve(NamedTuple):
    """An engine's steps on a data set, CPU seconds of its build, bytes on disk."""

    name: str
    steps: list[Step]
    built: float
    size: int


def main(names: list[str] | None = None) -> None:
    """Measure and record; of the data sets and the `partitions`, those named."""
    for name in names or [*_sets(), "partitions"]:
        if name == "partitions":
            _partitions()
        else:
            _record(name, [*_ours(name), *_rivals(name)])


def build(names: list[str]) -> None:
    """Make the data and all indexes that are not there yet, of these sets or all, and print what they took."""
    for name in names or _sets():
        for kind in _kinds(name):
            _, index, seconds, size = _indexed(name, kind)
            print(name, index.kind, f"{seconds:.0f} CPU s, {size / 1e6:.0f} MB, recall {index.recall:.3f}", flush=True)
        for rival in RIVALS:
            _, seconds, size = rival.built(vectors(name)[0], CACHE / name)
            print(name, rival.name, f"{seconds:.0f} CPU s, {size / 1e6:.0f} MB", flush=True)


def clustered(n: int, dim: int, seed: int = 0) -> tuple[Array, Array]:
    """Unit vectors (n, dim), and queries of the same law that are not among them.

    A thousand centres, with noise of their own size about each; both lie mostly in the first directions (variance 1/i),
    as embeddings do, so that clusters run into each other.
    """
    draw = np.random.default_rng(seed)
    spread = (1 / np.sqrt(np.arange(1, dim + 1))).astype(np.float32)
    centres = draw.standard_normal((1_000, dim), dtype=np.float32)
    out = np.empty((n + BATCH + SINGLE, dim), np.float32)
    for start in range(0, len(out), 2**16):
        part = out[start : start + 2**16]
        part[:] = (centres[draw.integers(0, 1_000, len(part))] + draw.standard_normal(part.shape, np.float32)) * spread
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return out[:n], out[n:]


def vectors(name: str) -> tuple[Array, Array, Indices]:
    """Gallery, queries and the true ten nearest of a data set, made once and kept; queries tell whom to tune on too."""
    folder = CACHE / name
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{kind}.npy" for kind in ("gallery", "queries")]
    if not all(file.exists() for file in files):
        for file, rows in zip(files, clustered(*SIZES[name]) if name in SIZES else _flickr(), strict=True):
            np.save(file, rows)
    gallery, queries = (np.load(file, mmap_mode="r") for file in files)
    truth = folder / "truth.npy"
    if not truth.exists():
        np.save(truth, bf16_top_k(queries, gallery, K)[0])
    return gallery, np.array(queries), np.load(truth)


def _sets() -> list[str]:
    return [*SIZES, *([FLICKR] if "MODALIGN_BENCH_WORKSPACE" in os.environ else ())]


def _kinds(name: str) -> tuple[Kind, ...]:
    return OURS if name != "clustered-1m" else OURS[:1]


def _flickr() -> tuple[Array, Array]:
    """The captions of the workspace's space, and some of its pictures as queries."""
    store = Workspace(root=Path(os.environ["MODALIGN_BENCH_WORKSPACE"])).store
    name = next(one for one in store.names() if one.startswith("space_flickr8k_"))
    texts, images = (
        np.array(matrix(store.read(name, ["vector"], eq("modality", one))["vector"].combine_chunks()))
        for one in ("text", "image")
    )
    return texts, images[np.random.default_rng(0).choice(len(images), BATCH + SINGLE, replace=False)]


def _indexed(name: str, kind: Kind) -> tuple[Store, Index, float, int]:
    """A table of a space with an index of ours, kept; CPU seconds of its making and tuning, bytes of its folder."""
    gallery, queries, _ = vectors(name)
    folder = CACHE / name / f"ours-{kind}"
    store, told = Store(folder / "tables"), folder / "index.json"
    if not told.exists():
        _fill(store, gallery)
        begun = time.process_time()
        index = build_index(store, "space", [(queries[BATCH:], TEXT)], kind=kind)
        told.write_text(json.dumps([index.model_dump(), time.process_time() - begun]), encoding="utf-8")
    made, seconds = json.loads(told.read_text(encoding="utf-8"))
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and "_indices" in file.parts)
    return store, Index.model_validate(made), seconds, size


def _fill(store: Store, gallery: Array) -> None:
    schema = schemas.space(gallery.shape[1], ("text",), "bench")
    for start in range(0, len(gallery), 50_000):
        part = np.asarray(gallery[start : start + 50_000])
        columns: dict[str, object] = {
            "key": pa.array([f"{start + i:08}" for i in range(len(part))]),
            "modality": pa.array(["text"] * len(part)),
            "vector": vector_column(part),
            "bits": bits_column(part),
            "hubness_text": pa.array(np.zeros(len(part), np.float32)),
        }
        blank = pa.array([""] * len(part))
        rows = pa.Table.from_arrays([columns.get(field.name, blank) for field in schema], schema=schema)
        store.upsert("space", schema, rows)


def _ours(name: str) -> Iterator[Curve]:
    if name == FLICKR:  # what a user gets: below 50,000 items they are held in memory
        store, index, _, _ = _indexed(name, "IVF_FLAT")
        exact = index.model_copy(update={"kind": "exact", "query": {}})
        held = Galleries(store, "space", store.version("space"), exact, ("text",))
        yield Curve("modalign, held in memory (default)", [_step(name, "", partial(_by_galleries, held))], 0, 0)
    for kind in _kinds(name):
        store, index, seconds, size = _indexed(name, kind)
        galleries = partial(Galleries, store, "space", store.version("space"), modalities=("text",))
        steps = []
        for query in ann._LADDERS[kind]:
            asked = index.model_copy(update={"query": query})
            setting = ", ".join(f"{key} {value}" for key, value in query.items())
            steps.append(_step(name, setting, partial(_by_galleries, galleries(index=asked))))
            if steps[-1].recall >= ENOUGH:
                break
        default = " (default)" if kind == kind_for(index.rows, 50_000) else ""
        yield Curve(f"modalign {kind}{default}", steps, seconds, size)


def _by_galleries(galleries: Galleries, queries: Array, _: int) -> Indices:
    """As a search asks, under the filter of a modality, with the keys and hubness terms of what is found."""
    found = galleries.nearest(queries, "text", K, Narrowed(TEXT))
    return np.array([[int(key) for key in one.keys] + [-1] * (K - len(one.keys)) for one in found])


def _rivals(name: str) -> Iterator[Curve]:
    gallery, _, _ = vectors(name)
    for rival in RIVALS:
        index, seconds, size = rival.built(gallery, CACHE / name)
        steps = []
        for step in rival.steps:
            ask = partial(lambda queries, threads, index, step, rival: rival.ask(index, queries, K, step, threads),
                          index=index, step=step, rival=rival)  # fmt: skip
            steps.append(_step(name, str(step), ask))
            if steps[-1].recall >= ENOUGH:
                break
        yield Curve(rival.name, steps, seconds, size)


def _step(name: str, setting: str, ask: Ask) -> Step:
    """Recall on the batch; the faster of two batches on all cores; the median of one query at a time on one."""
    _, queries, truth = vectors(name)
    many, few = queries[:BATCH], queries[BATCH:]
    ask(many[:100], cpu_count())
    batches = []
    for _ in range(2):
        begun = time.perf_counter()
        found = ask(many, cpu_count())
        batches.append(time.perf_counter() - begun)
    singles = []
    for query in few:
        begun = time.perf_counter()
        ask(query[None], 1)
        singles.append(time.perf_counter() - begun)
    hits = [len(set(a) & set(b)) for a, b in zip(found.tolist(), truth[:BATCH].tolist(), strict=True)]
    return Step(setting, float(np.mean(hits)) / K, 1_000 * statistics.median(singles), 1_000 * min(batches) / BATCH)


def _record(name: str, curves: list[Curve]) -> None:
    gallery, _, _ = vectors(name)
    rows: list[list[object]] = []
    (base,) = (one for one in curves if one.name == "hnswlib")
    for curve in curves:
        step = _at_target(curve)
        ratio = _batch_at(curve) / _batch_at(base)
        rows.append(
            [curve.name, step.setting, step.recall, step.single, step.batch, ratio, curve.built, curve.size / 1e6]
        )
    columns = ["engine", "setting", "recall@10", "ms alone", "ms in a batch", "× hnswlib", "build CPU s", "index MB"]
    told = (
        f"{len(gallery):,} × {gallery.shape[1]}, cosine, {BATCH:,} queries in a batch on {cpu_count()} cores (the "
        f"faster of 2) and {SINGLE} alone on one (median); recall against exact search. Of each engine the cheapest "
        f"setting with recall@10 ≥ {TARGET}, or its best; × hnswlib: milliseconds in a batch at recall {TARGET}, "
        "between the two nearest settings. Ours asks through the space's table, under the filter of a modality, and "
        "gives keys and hubness terms; the others give row numbers of arrays in memory. Graphs: 16 links, 100 "
        "candidates.\n\n"
    )
    picture = Path(__file__).with_name(f"curves-{name}.png")
    picture.write_bytes(_drawn(name, curves))
    shown = f"\n\n![Recall by time]({picture.name})"
    record(f"curves-{name}", f"Recall by time: {TITLES[name]}", told + table(columns, rows) + shown, command="curves")


def _at_target(curve: Curve) -> Step:
    enough = [step for step in curve.steps if step.recall >= TARGET]
    return min(enough, key=lambda step: step.batch) if enough else max(curve.steps, key=lambda step: step.recall)


def _batch_at(curve: Curve) -> float:
    """Milliseconds of a query in a batch at the target, between the settings about it; of the cheapest if all reach it.

    NaN where none does.
    """
    steps = sorted(curve.steps, key=lambda step: step.recall)
    if steps[0].recall >= TARGET:
        return min(step.batch for step in steps)
    for low, high in pairwise(steps):
        if low.recall < TARGET <= high.recall:
            share = (TARGET - low.recall) / (high.recall - low.recall)
            return float(np.exp(np.log(low.batch) + share * np.log(high.batch / low.batch)))
    return float("nan")


def _drawn(name: str, curves: list[Curve]) -> bytes:
    shown = [
        one for one in curves if not one.name.startswith("modalign") or one.name == f"modalign {_drawn_kind(curves)}"
    ]
    series = [
        plots.Series(
            "ours" if one.name.startswith("modalign") else one.name,
            [plots.Point(1_000 * step.batch, step.recall, "") for step in one.steps if step.recall >= DRAWN],
        )
        for one in shown
    ]
    return png(
        plots.curves(
            TITLES[name], "", series, x_label="microseconds a query in a batch", y_label="recall@10", log_x=True,
            y_range=(DRAWN, 1.0),
        )
    )  # fmt: skip


def _drawn_kind(curves: list[Curve]) -> str:
    return "IVF_FLAT (default)" if any(one.name.endswith("IVF_FLAT (default)") for one in curves) else "IVF_FLAT"


def _partitions() -> None:
    """Recall at equal probes with LanceDB's own centroids and with ours, below and beyond 256 partitions."""
    from lancedb.index import IvfFlat

    gallery, queries, truth = vectors("clustered-100k")
    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        _fill(store, gallery)
        for partitions in TRAPS:
            row: list[object] = [partitions]
            config = IvfFlat(distance_type="cosine", num_partitions=partitions)
            begun = time.process_time()
            store.open("space").create_index("vector", config=config, replace=True, name="vector_idx")
            theirs = time.process_time() - begun
            index = Index(
                kind="IVF_FLAT", metric="cosine", partitions=partitions, query={}, recall=0, target=TARGET,
                rows=len(gallery), seconds=theirs, tried=[],
            )  # fmt: skip
            row += _recalls(store, index, queries, truth)
            row.append(theirs)
            begun = time.process_time()
            ann._build(store.open("space"), "IVF_FLAT", "cosine", partitions, len(gallery), 0)
            ours = time.process_time() - begun
            row += _recalls(store, index, queries, truth)
            row.append(ours)
            rows.append(row)
            print(row, flush=True)
    columns = ["partitions"]
    columns += [f"{who}, {what}" for who in ("LanceDB's", "ours") for what in ("8 probes", "32 probes", "CPU s")]
    told = (
        "recall@10 of an IVF_FLAT index on the 100,000 clustered vectors, with centroids by LanceDB's own k-means "
        "and by ours, at equal probes.\n\n"
    )
    record("curves-partitions", "Partitions beyond 256", told + table(columns, rows), command="curves")


def _recalls(store: Store, index: Index, queries: Array, truth: Indices) -> list[object]:
    out: list[object] = []
    for nprobes in (8, 32):
        asked = index.model_copy(update={"query": {"nprobes": nprobes}})
        galleries = Galleries(store, "space", store.version("space"), asked, ("text",))
        found = _by_galleries(galleries, queries[:BATCH], 0)
        hits = [len(set(a) & set(b)) for a, b in zip(found.tolist(), truth[:BATCH].tolist(), strict=True)]
        out.append(float(np.mean(hits)) / K)
    return out


if __name__ == "__main__":
    if sys.argv[1:2] == ["build"]:
        build(sys.argv[2:])
    else:
        main(sys.argv[1:])
