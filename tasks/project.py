"""Project every item of a space's collections with its heads into the space's own table."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator

import pyarrow as pa
from prefect import task

from storage import schemas
from storage.ann import bits_column
from storage.filters import Filter, eq, isin
from storage.tables import Store, vector_column
from storage.workspace import Workspace
from tasks.align import open_space, vectors_of
from tasks.alignment.space import JointSpace
from tasks.media.text import cjk_runs
from tasks.policies import by_content
from tasks.progress import progress
from tasks.refs import EncoderRef, Projected, SpaceRef

_CODE = ("tasks/project.py", "tasks/alignment/space.py", "tasks/alignment/features.py", "tasks/retrieval/hubness.py")
_COLUMNS = ("key", "collection", "modality", "content_hash", "group", "split", "uri", "text", "lexical", "attributes")
_BATCH = 50_000
_WORDS = 2_000  # characters of known words kept with an item


@task(name="project items", task_run_name="project items into {space.name}", **by_content(*_CODE))
def project_items(
    workspace: Workspace,
    space: SpaceRef,
    collections: tuple[str, ...],
    content: str,  # noqa: ARG001 - stands in the cache key
    encoded: tuple[EncoderRef, ...],
) -> Projected:
    """Write one row an item: its vector, its hubness terms, the words known for it. Nothing is encoded anew.

    A table that is there already, whole or half-written, is brought to the same state without being emptied: readers
    may hold it open.
    """
    start = time.perf_counter()
    store = workspace.store
    joint, _ = open_space(space.path)
    schema = schemas.space(joint.dim, tuple(joint.heads), space.space_id)
    store.create(space.table, schema)
    here = isin("collection", collections)
    total = store.count(schemas.ITEMS, here & isin("modality", tuple(joint.heads)))
    rows = 0
    with progress(f"project into {space.name}", total) as advance:
        for modality in joint.heads:
            for items in _batches(store, collections, modality):
                rows += store.upsert(space.table, schema, _rows(store, joint, modality, items, encoded, schema))
                advance(items.num_rows)
    if store.count(space.table) != rows:
        _delete_gone(store, space.table, here)
    return Projected(table=space.table, rows=rows, seconds=time.perf_counter() - start)


def _delete_gone(store: Store, table: str, here: Filter) -> None:
    """Delete the rows of items that are gone."""
    keys = set(store.strings(schemas.ITEMS, "key", here))
    store.delete_keys(table, [key for key in store.strings(table, "key") if key not in keys])


def _batches(store: Store, collections: tuple[str, ...], modality: str) -> Iterator[pa.Table]:
    """The items of a modality in tables of about `_BATCH` rows."""
    held: list[pa.RecordBatch] = []
    for batch in store.stream(schemas.ITEMS, _COLUMNS, isin("collection", collections) & eq("modality", modality)):
        held.append(batch)
        if sum(one.num_rows for one in held) >= _BATCH:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def _rows(
    store: Store, joint: JointSpace, modality: str, items: pa.Table, encoded: tuple[EncoderRef, ...], schema: pa.Schema
) -> pa.Table:
    vectors, found = vectors_of(store, modality, items["content_hash"].to_pylist(), encoded)
    items = items.filter(pa.array(found))
    z = joint.project(modality, {name: one[found] for name, one in vectors.items()})
    words = _words(store, items)
    grams = [cjk_runs(text) for text in words]
    columns = {
        name: items[name]
        for name in ("key", "collection", "modality", "content_hash", "group", "split", "uri", "attributes")
    }
    columns |= {"text": pa.array(words, pa.string()), "grams": pa.array(grams, pa.string())}
    columns |= {"vector": vector_column(z), "bits": bits_column(z)}
    columns |= {f"hubness_{query}": pa.array(joint.hubness(z, query)) for query in joint.heads}
    return pa.Table.from_arrays([columns[field.name] for field in schema], schema=schema)


def _words(store: Store, items: pa.Table) -> list[str]:
    """What full text finds an item by: its own text, or the texts of its known pairs, and its lexical columns."""
    keys = items["key"].to_pylist()
    own = items["text"].to_pylist()
    silent = {key for key, text in zip(keys, own, strict=True) if text is None}
    partners: defaultdict[str, list[str]] = defaultdict(list)
    if silent:
        for batch in store.stream(
            schemas.PAIRS, ["left", "right"], eq("source", "given") & eq("right_modality", "text")
        ):
            for left, right in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                if left in silent:
                    partners[right].append(left)
    said: defaultdict[str, list[str]] = defaultdict(list)
    if partners:
        for batch in store.stream(schemas.ITEMS, ["key", "text"], eq("modality", "text")):
            for key, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                for media in partners.get(key, ()):
                    said[media].append(text)
    lexical = items["lexical"].to_pylist()
    return [
        " · ".join(filter(None, [text, *sorted(said[key]), extra]))[:_WORDS]
        for key, text, extra in zip(keys, own, lexical, strict=True)
    ]
