"""Index a space: approximate neighbours with measured recall, and full text; then publish its name."""

from __future__ import annotations

import numpy as np
from prefect import task
from prefect.logging import get_run_logger

from config.params import IndexParams
from storage.ann import Array, build_index
from storage.filters import Filter, eq
from storage.fulltext import build_full_text
from storage.spaces import publish
from storage.tables import Store, matrix
from storage.workspace import Workspace
from tasks.policies import RETRY, by_content
from tasks.refs import Aligned, IndexRef, Projected, SpaceRef

_CODE = ("tasks/index.py", "storage/ann.py", "storage/fulltext.py")
_PROBES = 100


@task(name="index space", task_run_name="index {space.name}", **by_content(*_CODE))
def index_space(
    workspace: Workspace,
    space: SpaceRef,
    projected: Projected,  # noqa: ARG001 - stands in the cache key
    params: IndexParams,
) -> IndexRef:
    """Build the index of a space's table; recall@10 is measured on searches from each modality to each other one."""
    store = workspace.store
    index = build_index(
        store,
        space.table,
        _probes(store, space),
        kind=params.kind,
        metric=params.metric,
        target=params.recall_target,
        exact_below=params.exact_below,
    )
    build_full_text(store, space.table)
    if index.recall < index.target:
        text = "recall@10 of the %s index is %.3f, below the target of %.2f; try index.kind exact or IVF_HNSW_SQ"
        get_run_logger().warning(text, index.kind, index.recall, index.target)
    return IndexRef(table=space.table, version=store.version(space.table), index=index)


def _probes(store: Store, space: SpaceRef) -> list[tuple[Array, Filter | None]]:
    """Items of each modality as queries for each other modality."""
    probes: list[tuple[Array, Filter | None]] = []
    for query in space.modalities:
        batch = next(iter(store.stream(space.table, ["vector"], eq("modality", query))), None)
        if batch is None or not batch.num_rows:
            continue
        places = np.random.default_rng(0).choice(batch.num_rows, min(_PROBES, batch.num_rows), replace=False)
        vectors = matrix(batch.column(0))[np.sort(places)]
        probes += [(vectors, eq("modality", gallery)) for gallery in space.modalities if gallery != query]
    return probes


@task(name="publish space", task_run_name="publish {aligned.space.name} {aligned.space.space_id}", **RETRY)
def publish_space(workspace: Workspace, aligned: Aligned) -> Aligned:
    """Point the space's name to this table version: readers see the old one or this one, nothing between."""
    publish(workspace.store, aligned.space.name, aligned.model_dump(mode="json"))
    return aligned
