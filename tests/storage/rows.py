"""Rows for the storage tests, and the children that write or die in other processes."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage import schemas
from storage.signs import bits_column
from storage.tables import Store, vector_column

Array = npt.NDArray[np.float32]
PUBLISHED = schemas.published()
EMBEDDINGS = schemas.embeddings(4, "{}", "fp")


def names(values: Sequence[str], manifest: str = "{}") -> list[dict[str, Any]]:
    """Rows of the table `published`, the smallest there is."""
    return [{"name": value, "manifest": manifest, "published_at": None} for value in values]


def unit(n: int, dim: int = 4, seed: int = 0) -> Array:
    """`n` random vectors of unit length."""
    made = np.random.default_rng(seed).normal(size=(n, dim))
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


def embedded(keys: Sequence[str], vectors: Array) -> pa.Table:
    """Rows of an embeddings table."""
    columns = [pa.array(keys, pa.string()), vector_column(vectors), pa.array([False] * len(keys))]
    return pa.Table.from_arrays(columns, schema=schemas.embeddings(vectors.shape[1], "{}", "fp"))


def spaced(keys: Sequence[str], vectors: Array, **columns: Sequence[str]) -> pa.Table:
    """Rows of a space's table with the text columns given; the others are empty."""
    schema = schemas.space(vectors.shape[1], ("image",), "id")
    made: dict[str, pa.Array] = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    made |= {"key": pa.array(keys, pa.string()), "vector": vector_column(vectors), "bits": bits_column(vectors)}
    made["hubness_image"] = pa.array(np.zeros(len(keys), np.float32))
    empty = pa.array([""] * len(keys), pa.string())
    return pa.Table.from_arrays([made.get(field.name, empty) for field in schema], schema=schema)


def item(key: str, **more: Any) -> dict[str, Any]:
    """A row of the table `items`."""
    row: dict[str, Any] = dict.fromkeys(("text", "lexical", "column", "declared_group", "declared_split"))
    row |= {"key": key, "collection": "c", "modality": "image", "uri": f"{key}.png", "content_hash": f"h{key}"}
    row |= {"row_key": key, "group": "", "split": "", "attributes": "{}", "truncated": False, "bytes": 1, "bucket": 0}
    return row | more


def pair(left: str, right: str, **more: Any) -> dict[str, Any]:
    """A row of the table `pairs`."""
    row: dict[str, Any] = dict.fromkeys(("score", "margin", "method"))
    row |= {"key": f"{left}-{right}", "collection": "c", "left": left, "right": right, "left_modality": "image"}
    row |= {"right_modality": "text", "source": "given", "round": 0, "weight": 1.0, "row_bucket": 0}
    return row | more


def write_same(uri: str, start: Barrier | Any, writer: int) -> None:
    """Write the same 1,000 new keys as every other writer, in four batches, into a table that is not there yet."""
    store = Store(uri)
    store.names()  # connected before the start, so that the writers meet
    start.wait(60)
    for batch in range(4):
        store.upsert("published", PUBLISHED, names([f"{batch}-{i}" for i in range(250)], manifest=str(writer)))


def write_until_killed(uri: str, done: Connection, size: int) -> None:
    """Upsert batch after batch of `size` rows, saying each number when it is written."""
    store = Store(uri)
    first = store.count("published") // size
    for batch in range(first, first + 100_000):
        store.upsert("published", PUBLISHED, names([f"{batch}-{i}" for i in range(size)], manifest=str(batch)))
        done.send(batch)
