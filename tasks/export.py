"""Take a space out of its workspace, in files that other tools read. Tables are streamed. No Prefect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from config.errors import RunError, UserError
from storage import schemas
from storage.filters import isin
from storage.folders import whole_file
from storage.tables import Store, matrix
from storage.workspace import Workspace
from tasks.exports.trec import order, qrel_lines, run_lines
from tasks.heldout import Direction, every_way
from tasks.nearest import nearest
from tasks.refs import Aligned
from tasks.reports.layout import among, plane
from tasks.retrieval.knn import blocks
from tasks.score import held_out_splits

Array = npt.NDArray[np.float32]

_SAMPLE = 2_000  # items that t-SNE lays out; all others are placed among them
_ROWS = 4_096  # written at once
_SHOWN = ("key", "collection", "modality", "split", "group", "uri", "text", "attributes")
_ENDS = ("modality", "uri", "text", "split")


def export_atlas(workspace: Workspace, aligned: Aligned, out: Path, *, neighbours: int = 15, seed: int = 0) -> int:
    """All items of a space as Parquet for embedding-atlas; gives their number.

    Columns: those of the item, `vector`, `x` and `y`, and `neighbors`: {ids, distances} of the nearest items by row
    number and cosine distance. A sample is laid out by t-SNE, all others are placed among it.
    """
    store, table = workspace.store, aligned.space.table
    keys, sample = _first_look(store, table, seed)
    if not len(keys):
        raise UserError(f"the space {aligned.space.name} holds no item", "run `modalign run SOURCE` first")
    places = plane(sample, seed)
    rank = np.argsort(keys, kind="stable")
    done = 0
    with whole_file(out) as fresh, pq.ParquetWriter(fresh, _atlas_schema(store, table)) as writer:
        for rows in _by_rows(store, table):
            names = np.asarray(rows["key"].to_pylist(), dtype=np.str_)
            if not np.array_equal(names, keys[done : done + len(names)]):
                raise RunError(f"{table} has changed meanwhile", "export again")
            vectors = np.asarray(matrix(rows["vector"].combine_chunks()), np.float32)
            found = nearest(store, table, vectors, neighbours + 1, aligned.index.index)
            flat = among(vectors, sample, places)
            near = _neighbours(found.keys, found.scores, names, keys, rank, neighbours)
            columns = [rows[name] for name in _SHOWN] + [
                rows["vector"],
                pa.array(flat[:, 0]),
                pa.array(flat[:, 1]),
                near,
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=writer.schema))
            done += len(names)
    return done


def _first_look(store: Store, table: str, seed: int) -> tuple[npt.NDArray[np.str_], Array]:
    """All keys in the order of the table, and the vectors of a sample of the rows."""
    count = store.count(table)
    chosen = np.random.default_rng(seed).permutation(count)[:_SAMPLE]
    keys: list[str] = []
    vectors: list[Array] = []
    for batch in store.stream(table, ["key", "vector"]):
        here = chosen[(chosen >= len(keys)) & (chosen < len(keys) + batch.num_rows)] - len(keys)
        vectors.append(np.asarray(matrix(batch.column(1))[np.sort(here)], np.float32))
        keys += batch.column(0).to_pylist()
    return np.asarray(keys, dtype=np.str_), np.concatenate(vectors) if vectors else np.empty((0, 1), np.float32)


def _by_rows(store: Store, table: str) -> Iterator[pa.Table]:
    """The rows of a space, some thousand at a time, in their order."""
    held: list[pa.RecordBatch] = []
    for batch in store.stream(table, [*_SHOWN, "vector"]):
        held.append(batch)
        if sum(one.num_rows for one in held) >= _ROWS:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def _atlas_schema(store: Store, table: str) -> pa.Schema:
    own = store.schema(table)
    near = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))])
    return pa.schema(
        [pa.field(name, own.field(name).type) for name in (*_SHOWN, "vector")]
        + [pa.field("x", pa.float32()), pa.field("y", pa.float32()), pa.field("neighbors", near)]
    )


def _neighbours(
    found: npt.NDArray[np.str_],
    scores: Array,
    own: npt.NDArray[np.str_],
    keys: npt.NDArray[np.str_],
    rank: npt.NDArray[np.int64],
    most: int,
) -> pa.Array:
    """Row numbers and distances of the items found (n, k), without an item itself and places that hold none."""
    there = (found != "") & (found != own[:, None])
    ordered = keys[rank]
    at = rank[np.minimum(np.searchsorted(ordered, found), len(keys) - 1)]
    there &= keys[at] == found
    rows = [
        {"ids": at[n][there[n]][:most].tolist(), "distances": (1 - scores[n][there[n]][:most]).tolist()}
        for n in range(len(found))
    ]
    return pa.array(rows, pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))]))


def export_trec(workspace: Workspace, aligned: Aligned, out: Path, *, split: str, depth: int) -> list[Path]:
    """A run and qrels of the held-out queries of every direction, under the folder `out`; gives the files."""
    splits = held_out_splits(aligned.groups, split)
    measured, _ = every_way(workspace.store, aligned.space, aligned.collections, splits, 1, 0)
    files = []
    for ways, _, _ in measured:
        for way in ways:
            for kind, lines in (("run", _run(way, depth, aligned.space.space_id)), ("qrels", _qrels(way))):
                path = out / f"{way.name}.{kind}"
                _write_lines(path, lines)
                files.append(path)
    return files


def _run(way: Direction, depth: int, tag: str) -> Iterator[str]:
    queries, gallery = way.query.keys[way.asked], way.gallery.keys
    for part in blocks(len(queries), len(gallery)):
        places, scores = order(way.scores(part), way.relevant[part], depth)
        yield from run_lines(queries[part], gallery, places, scores, f"modalign-{tag}")


def _qrels(way: Direction) -> Iterator[str]:
    return qrel_lines(way.query.keys[way.asked], way.gallery.keys, way.relevant)


def export_pairs(workspace: Workspace, aligned: Aligned, out: Path) -> int:
    """All pairs of a space's collections as Parquet, with the file or text of both ends; gives their number.

    An end that could not be read has none.
    """
    store, done = workspace.store, 0
    own = schemas.pairs()
    names = [name for name in own.names if name != "row_bucket"]
    ends = [pa.field(f"{side}_{name}", pa.string()) for side in ("left", "right") for name in _ENDS[1:]]
    schema = pa.schema([pa.field(name, own.field(name).type) for name in names] + ends)
    with whole_file(out) as fresh, pq.ParquetWriter(fresh, schema) as writer:
        for batch in store.stream(schemas.PAIRS, names, isin("collection", aligned.collections)):
            for start in range(0, batch.num_rows, _ROWS):
                rows = pa.Table.from_batches([batch.slice(start, _ROWS)])
                writer.write_table(pa.Table.from_arrays([*rows.columns, *_both_ends(store, rows)], schema=schema))
                done += rows.num_rows
    return done


def _both_ends(store: Store, pairs: pa.Table) -> list[pa.Array]:
    """File, text and split of the left and of the right item of each pair."""
    columns = []
    for side in ("left", "right"):
        keys = pairs[side].to_pylist()
        known: dict[str, dict[str, Any]] = {}
        for start in range(0, len(keys), _ROWS // 2):
            wanted = sorted(set(keys[start : start + _ROWS // 2]))
            rows = store.read(schemas.ITEMS, ["key", *_ENDS[1:]], isin("key", wanted)).to_pylist()
            known |= {row["key"]: row for row in rows}
        columns += [pa.array([known.get(key, {}).get(name) for key in keys], pa.string()) for name in _ENDS[1:]]
    return columns


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with whole_file(path) as fresh, fresh.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
