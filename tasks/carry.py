"""Carry items over from the table of a space to that of the space that extends it: no vector is computed anew."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from prefect import task

from storage import schemas
from storage.filters import isin
from storage.tables import Store, matrix
from storage.workspace import Workspace
from tasks.align import open_space
from tasks.policies import RETRY
from tasks.refs import SpaceRef
from tasks.spent import spending


@task(name="carry items", task_run_name="carry items from {before.space_id} to {after.space_id}", **RETRY)
@spending("project")
def carry_items(workspace: Workspace, before: SpaceRef, after: SpaceRef, kept: tuple[str, ...]) -> int:
    """Copy the rows of the modalities whose heads are `kept`, and add their hubness terms for the other ones.

    Gives the number of rows; those that are there already stay.
    """
    return carry(workspace.store, before, after, kept)


def carry(store: Store, before: SpaceRef, after: SpaceRef, kept: tuple[str, ...]) -> int:
    """As `carry_items`."""
    if not store.exists(before.table):
        return 0
    joint, _ = open_space(after.path)
    schema = schemas.space(joint.dim, tuple(joint.heads), after.space_id)
    new = [name for name in joint.heads if name not in kept]
    copied = [name for name in schema.names if name not in {f"hubness_{query}" for query in new}]
    store.create(after.table, schema)
    count = 0
    for batch in store.stream(before.table, copied, isin("modality", kept)):
        rows = pa.Table.from_batches([batch])
        missing = store.missing(after.table, rows["key"].to_pylist())
        rows = rows.filter(pc.is_in(rows["key"], pa.array(missing, pa.string())))
        if not rows.num_rows:
            continue
        z = matrix(rows["vector"].combine_chunks())
        columns = {name: rows[name] for name in copied}
        columns |= {f"hubness_{query}": pa.array(joint.hubness(z, query)) for query in new}
        made = pa.Table.from_arrays([columns[field.name] for field in schema], schema=schema)
        count += store.upsert(after.table, schema, made)
    return count
