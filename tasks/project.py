"""Project the items of a space's collections with its heads into the space's own table: what is new, and only that."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task

from storage import schemas
from storage.filters import Filter, between, eq, isin, ne
from storage.generated import texts_of
from storage.marks import remembered
from storage.signs import bits_column
from storage.tables import Store, vector_column
from storage.workspace import Workspace
from tasks.align import open_space, vectors_of
from tasks.alignment.space import Head, JointSpace
from tasks.media.text import cjk_runs
from tasks.policies import RETRY, code_version
from tasks.progress import progress
from tasks.refs import EncoderRef, Projected, SpaceRef
from tasks.spent import spending

_CODE = (
    *("tasks/project.py", "tasks/alignment/space.py", "tasks/alignment/features.py", "tasks/alignment/maps.py"),
    *("tasks/alignment/tokens.py", "tasks/retrieval/hubness.py"),
)
_COLUMNS = ("key", "collection", "modality", "content_hash", "group", "split", "uri", "text", "lexical", "attributes")
_PLAIN = ("key", "collection", "modality", "content_hash", "group", "split", "uri", "text", "grams", "attributes")
_RANGE = 50_000  # items compared at once
_TOKENS = 2_000  # items whose tokens are read at once
_WORDS = 2_000  # characters of known words kept with an item


@task(name="project items", task_run_name="project items into {space.name} {space.space_id}", **RETRY)
@spending("project")
def project_items(
    workspace: Workspace,
    space: SpaceRef,
    collections: tuple[str, ...],
    encoded: tuple[EncoderRef, ...],
    refresh: bool = False,  # noqa: FBT001, FBT002 - a task's parameters are its form
) -> Projected:
    """Bring the space's table to one row an item that has vectors: its own vector, hubness terms, known words.

    Nothing is encoded. Only new or changed contents are projected; of the others what differs is written. A table that
    is there already, whole or half-written, is never emptied: readers may hold it open.
    """
    store = workspace.store
    tables = (schemas.ITEMS, schemas.PAIRS, schemas.GENERATED, *(one.table for one in encoded))
    return remembered(
        store,
        f"project {space.table}",
        tables,
        # the table's version does not count: indexes and compaction raise it, its rows are written here alone
        f"{' '.join(collections)} {store.identity(space.table)} {code_version(*_CODE)}",
        Projected,
        lambda: project(store, space, collections, encoded, anew=refresh),
        anew=refresh,
    )


def project(
    store: Store, space: SpaceRef, collections: tuple[str, ...], encoded: tuple[EncoderRef, ...], *, anew: bool = False
) -> Projected:
    """As `project_items`; `anew` projects every content again."""
    start = time.perf_counter()
    joint, _ = open_space(space.path)
    store.create(space.table, schemas.space(joint.dim, tuple(joint.heads), space.space_id))
    here = isin("collection", collections) & isin("modality", tuple(joint.heads))
    total = store.count(schemas.ITEMS, here)
    counts = {"rows": 0, "projected": 0, "edited": 0, "removed": 0}
    with progress(f"project into {space.name}", total) as advance:
        for part in _ranges(total):
            items = store.read(schemas.ITEMS, _COLUMNS, here & part)
            old = store.read(space.table, _PLAIN, part)
            change = compare(_plain(store, items), old, _encoded(store, items, encoded), anew=anew)
            store.delete_keys(space.table, change.gone)
            _edit(store, space.table, change.edited)
            for modality, head in joint.heads.items():
                of = change.fresh.filter(pc.equal(change.fresh["modality"], modality))
                for rows in portions(of, head):
                    counts["projected"] += _insert(store, space.table, joint, modality, rows, encoded)
            counts["rows"] += change.rows
            counts["edited"] += change.edited.num_rows
            counts["removed"] += len(change.gone)
            advance(items.num_rows)
    return Projected(table=space.table, seconds=time.perf_counter() - start, **counts)


@dataclass(frozen=True)
class Change:
    """What a range of the table lacks: rows to project, rows whose other columns differ, keys to delete."""

    rows: int
    fresh: pa.Table
    edited: pa.Table
    gone: list[str]


def compare(wanted: pa.Table, old: pa.Table, encoded: npt.NDArray[np.bool_], *, anew: bool = False) -> Change:
    """The change from the rows `old` to the rows `wanted` of which those `encoded` (n,) have a vector; keys are unique.

    With `anew` every wanted row counts as fresh.
    """
    wanted = wanted.filter(pa.array(encoded))
    place = pc.index_in(wanted["key"], old["key"].combine_chunks())
    before = old.take(place)  # null where a row is new
    same = {name: pc.fill_null(pc.equal(wanted[name], before[name]), False) for name in _PLAIN}
    known = pc.is_valid(place)
    stays = pc.and_(known, same["content_hash"]) if not anew else pa.chunked_array([pa.array([False] * len(wanted))])
    equal = stays
    for one in same.values():
        equal = pc.and_(equal, one)
    gone = old["key"].filter(pc.invert(pc.is_in(old["key"], wanted["key"].combine_chunks())))
    return Change(
        wanted.num_rows,
        wanted.filter(pc.invert(stays)),
        wanted.filter(pc.and_(stays, pc.invert(equal))),
        gone.to_pylist(),
    )


def _ranges(total: int) -> Iterator[Filter]:
    """Ranges of keys with about `_RANGE` items each; keys are digests, so equal widths do."""
    count = 1
    while count < min(4_096, -(-total // _RANGE)):
        count *= 16
    digits = len(f"{count:x}") - 1
    for number in range(count):
        lo = f"{number:0{digits}x}" if digits else ""
        hi = f"{number + 1:0{digits}x}" if number + 1 < count else "g"  # "g" sorts after every hex digit
        yield between("key", lo, hi)


def _encoded(store: Store, items: pa.Table, encoded: tuple[EncoderRef, ...]) -> npt.NDArray[np.bool_]:
    """(n,) bool: the content has a vector under every encoder of its modality."""
    contents = items["content_hash"].to_pylist()
    modality = np.asarray(items["modality"].to_pylist(), dtype=np.str_)
    out = np.zeros(len(contents), np.bool_)
    for name in {one.modality for one in encoded}:
        rows = np.flatnonzero(modality == name)
        own = [contents[row] for row in rows.tolist()]
        missing: set[str] = set()
        for one in encoded:
            if one.modality == name:
                missing |= set(store.missing(one.table, sorted(set(own))))
        out[rows] = [content not in missing for content in own]
    return out


def _plain(store: Store, items: pa.Table) -> pa.Table:
    """The columns of a space's table that are no vectors."""
    words = _words(store, items)
    grams = [cjk_runs(text) for text in words]
    made = {"text": pa.array(words, pa.string()), "grams": pa.array(grams, pa.string())}
    return pa.table({name: made[name] if name in made else items[name] for name in _PLAIN})


def portions(rows: pa.Table, head: Head) -> Iterator[pa.Table]:
    """Rows of items, as many at once as a head projects together: vectors of tokens take more memory."""
    size = _TOKENS if head.tokens else _RANGE
    for start in range(0, rows.num_rows, size):
        yield rows.slice(start, size)


def _edit(store: Store, table: str, rows: pa.Table) -> None:
    if rows.num_rows:
        store.upsert(table, store.schema(table), rows)


def _insert(
    store: Store, table: str, joint: JointSpace, modality: str, rows: pa.Table, encoded: tuple[EncoderRef, ...]
) -> int:
    vectors, _ = vectors_of(store, modality, rows["content_hash"].to_pylist(), encoded)
    z = joint.project(modality, vectors)
    columns = {name: rows[name] for name in _PLAIN}
    columns |= {"vector": vector_column(z), "bits": bits_column(z)}
    columns |= {f"hubness_{query}": pa.array(joint.hubness(z, query)) for query in joint.heads}
    schema = store.schema(table)
    return store.upsert(table, schema, pa.Table.from_arrays([columns[field.name] for field in schema], schema=schema))


def _words(store: Store, items: pa.Table) -> list[str]:
    """What full text finds an item by: its own text, or the texts of its known pairs, and its lexical columns.

    Where there is none, the caption that was generated for it, with ≈ before it.
    """
    keys = items["key"].to_pylist()
    own = items["text"].to_pylist()
    silent = {key for key, text in zip(keys, own, strict=True) if text is None}
    partners: defaultdict[str, list[str]] = defaultdict(list)
    with_text = (eq("right_modality", "text"), eq("left_modality", "text") & ne("right_modality", "text"))
    for where in with_text if silent else ():  # pairs keep the lesser modality on the left
        for batch in store.stream(schemas.PAIRS, ["left", "right"], eq("source", "given") & where):
            for left, right in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                for media, other in ((left, right), (right, left)):  # a text file has no text of its own either
                    if media in silent:
                        partners[other].append(media)
    said: defaultdict[str, list[str]] = defaultdict(list)
    if partners:
        for batch in store.stream(schemas.ITEMS, ["key", "text"], eq("modality", "text")):
            for key, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                for media in partners.get(key, ()):
                    said[media] += [text] if text is not None else []
    made = texts_of(store, sorted(silent - said.keys()))
    for key, content in zip(keys, items["content_hash"].to_pylist(), strict=True):
        if key in made and made[key][1] == content and key not in said:
            said[key] = [f"≈ {made[key][0]}"]
    lexical = items["lexical"].to_pylist()
    return [
        " · ".join(filter(None, [text, *sorted(said[key]), extra]))[:_WORDS]
        for key, text, extra in zip(keys, own, lexical, strict=True)
    ]
