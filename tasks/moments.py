"""Project the parts that are kept of a space's items into a table beside the space's own: what is new alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task

from config.params import IndexParams
from storage import schemas
from storage.filters import eq, isin
from storage.marks import remembered
from storage.tables import Store, matrix, vector_column
from storage.workspace import Workspace
from tasks.align import open_space
from tasks.alignment.space import JointSpace
from tasks.index import index_vectors, probes_of
from tasks.parts import delete_contents, having, moments_table, parts_table
from tasks.policies import RETRY, code_version
from tasks.progress import progress
from tasks.refs import EncoderRef, IndexRef, Moments, SpaceRef
from tasks.spent import spending

_CODE = ("tasks/moments.py", "tasks/parts.py", "tasks/alignment/space.py", "tasks/alignment/features.py",
         "tasks/alignment/maps.py", "tasks/retrieval/hubness.py")  # fmt: skip
_INDEX = ("tasks/moments.py", "tasks/index.py", "storage/ann.py", "storage/neighbours.py")
_PARTS, _CONTENTS = 20_000, 1_000  # that are projected at once, about

Vectors = npt.NDArray[np.float32]


@task(name="project moments", task_run_name="project moments into {space.name} {space.space_id}", **RETRY)
@spending("project")
def project_moments(
    workspace: Workspace,
    space: SpaceRef,
    collections: tuple[str, ...],
    encoded: tuple[EncoderRef, ...],
    index: IndexParams,
    refresh: bool = False,  # noqa: FBT001, FBT002 - a task's parameters are its form
) -> Moments:
    """Bring the moments of a space to the parts that are kept of its items, and index them.

    Nothing is encoded. Where no parts are kept there is no table. An item whose modality has several encoders has the
    parts of the first of them; each other one tells what it has nearest in time.
    """
    store, table = workspace.store, moments_table(space.table)
    tables = {name: own for name in space.modalities if (own := _tables(store, name, encoded))}
    if not tables:
        store.drop(table)
        return Moments(table=table)
    done = remembered(
        store,
        f"project {table}",
        (schemas.ITEMS, *(one for own in tables.values() for one in own.values())),
        f"{' '.join(collections)} {store.identity(table)} {code_version(*_CODE)}",
        Moments,
        lambda: moments(store, space, collections, tables, anew=refresh),
        anew=refresh,
    )
    auto = index.model_copy(update={"kind": "auto"})  # what suits the items may not suit fewer parts
    remembered(
        store,
        f"index {table}",
        (table,),
        f"{auto.model_dump_json()} {code_version(*_INDEX)}",
        IndexRef,
        lambda: _indexed(store, space, table, auto, anew=refresh),
        anew=refresh,
    )
    return done


def _tables(store: Store, modality: str, encoded: tuple[EncoderRef, ...]) -> dict[str, str]:
    """The tables of parts of a modality's encoders, by encoder; {} unless each of them has one."""
    tables = {one.encoder: parts_table(one.table) for one in encoded if one.modality == modality}
    return tables if all(store.exists(one) for one in tables.values()) else {}


def _indexed(store: Store, space: SpaceRef, table: str, params: IndexParams, *, anew: bool) -> IndexRef:
    index = index_vectors(store, table, probes_of(store, space), params, anew=anew)
    return IndexRef(table=table, version=store.version(table), rows=store.count(table), index=index)


def moments(
    store: Store,
    space: SpaceRef,
    collections: tuple[str, ...],
    tables: Mapping[str, Mapping[str, str]],
    *,
    anew: bool = False,
) -> Moments:
    """As `project_moments`, from the tables of parts by modality and encoder; `anew` projects every part again."""
    start = time.perf_counter()
    joint, _ = open_space(space.path)
    table = moments_table(space.table)
    store.create(table, schemas.moments(joint.dim, tuple(joint.heads), space.space_id))
    counts = {"projected": 0, "removed": 0}
    for modality in joint.heads:
        own = tables.get(modality, {})
        here = isin("collection", collections) & eq("modality", modality)
        wanted = set(store.strings(schemas.ITEMS, "content_hash", here)) if own else set()
        for one in own.values():
            wanted &= having(store, one)
        known = having(store, table, modality)
        counts["removed"] += delete_contents(store, table, sorted(known - wanted), modality)
        fresh = sorted(wanted if anew else wanted - known)
        if not fresh:
            continue
        with progress(f"project moments into {space.name}", len(fresh)) as advance:
            for some in _groups(store, next(iter(own.values())), fresh):
                counts["projected"] += _insert(store, table, joint, modality, own, some)
                advance(len(some))
    return Moments(table=table, rows=store.count(table), seconds=time.perf_counter() - start, **counts)


def _groups(store: Store, table: str, contents: list[str]) -> Iterator[list[str]]:
    """Contents with about `_PARTS` parts together."""
    sizes: Counter[str] = Counter()
    for batch in store.stream(table, ["content_hash"]):
        for one in pc.value_counts(batch.column(0)).to_pylist():
            sizes[one["values"]] += one["counts"]
    held: list[str] = []
    count = 0
    for content in contents:
        if held and (count + sizes[content] > _PARTS or len(held) == _CONTENTS):
            yield held
            held, count = [], 0
        held.append(content)
        count += sizes[content]
    if held:
        yield held


def _insert(
    store: Store, table: str, joint: JointSpace, modality: str, tables: Mapping[str, str], contents: list[str]
) -> int:
    found = {encoder: _parts(store, one, contents) for encoder, one in tables.items()}
    lead = next(iter(found.values()))
    starts = lead["start"].to_numpy()
    vectors = {encoder: _beside(lead, rows) for encoder, rows in found.items()}
    z = joint.project(modality, vectors)
    columns = {
        "key": pc.binary_join_element_wise(modality, lead["content_hash"], pc.cast(lead["number"], pa.string()), "-"),
        "modality": pa.array([modality] * len(starts), pa.string()),
        "content_hash": lead["content_hash"],
        "number": lead["number"],
        "start": lead["start"],
        "vector": vector_column(z),
    }
    columns |= {f"hubness_{query}": pa.array(joint.hubness(z, query)) for query in joint.heads}
    schema = store.schema(table)
    return store.upsert(table, schema, pa.Table.from_arrays([columns[field.name] for field in schema], schema=schema))


def _parts(store: Store, table: str, contents: list[str]) -> pa.Table:
    """All parts of contents, by content and time."""
    rows = store.read(table, ["content_hash", "number", "start", "vector"], isin("content_hash", contents))
    return rows.sort_by([("content_hash", "ascending"), ("number", "ascending")]).combine_chunks()


def _beside(lead: pa.Table, other: pa.Table) -> Vectors:
    """For each part of `lead` the vector of that part of `other`, of the same content, which starts nearest to it."""
    vectors = matrix(other["vector"].combine_chunks()).astype(np.float32)
    if lead is other:
        return vectors
    places = []
    for content in pc.unique(lead["content_hash"]).to_pylist():
        own, theirs = (_range(one, content) for one in (lead, other))
        times = [one["start"].to_numpy()[part] for one, part in ((lead, own), (other, theirs))]
        places.append(theirs.start + nearest_in_time(*times))
    return np.asarray(vectors[np.concatenate(places)])


def _range(rows: pa.Table, content: str) -> slice:
    first = pc.index(rows["content_hash"], content).as_py()
    return slice(first, first + pc.sum(pc.equal(rows["content_hash"], content)).as_py())


def nearest_in_time(times: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """For each of `times` the place of the nearest of `others` (ascending, one at least); of two the earlier.

    >>> nearest_in_time(np.array([0.0, 1.0, 2.5, 9.0]), np.array([0.0, 2.0, 3.0])).tolist()
    [0, 0, 1, 2]
    """
    after = np.clip(np.searchsorted(others, times), 1, max(len(others) - 1, 1))
    later = np.minimum(after, len(others) - 1)
    nearer = np.abs(others[later] - times) < np.abs(times - others[after - 1])
    return np.where(nearer, later, after - 1).astype(np.int64)
