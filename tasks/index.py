"""Index a space: approximate neighbours with measured recall, and full text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from prefect import task
from prefect.logging import get_run_logger

from config.params import IndexParams
from storage.ann import Array, Index, Kind, build_index, kind_for, refresh_index
from storage.filters import Filter, eq
from storage.fulltext import refresh_full_text
from storage.marks import latest, remembered
from storage.tables import Store, matrix
from storage.workspace import Workspace
from tasks.policies import RETRY, code_version
from tasks.refs import IndexRef, SpaceRef
from tasks.spent import spending

_CODE = ("tasks/index.py", "storage/ann.py", "storage/neighbours.py", "storage/fulltext.py")
_PROBES = 100


@task(name="index space", task_run_name="index {space.name} {space.space_id}", **RETRY)
@spending("index")
def index_space(
    workspace: Workspace,
    space: SpaceRef,
    params: IndexParams,
    refresh: bool = False,  # noqa: FBT001, FBT002 - a task's parameters are its form
) -> IndexRef:
    """Index a space's table, or bring its index to what is new; recall@10 is measured, each time the table has changed.

    The searches it is measured on go from each modality to each other one.
    """
    done = remembered(
        workspace.store,
        f"index {space.table}",
        (space.table,),
        f"{params.model_dump_json()} {code_version(*_CODE)}",
        IndexRef,
        lambda: index_table(workspace.store, space, params, anew=refresh),
        anew=refresh,
    )
    if done.index.recall < done.index.target:
        text = "recall@10 of the %s index is %.3f, below the target of %.2f; try index.kind exact or IVF_FLAT"
        get_run_logger().warning(text, done.index.kind, done.index.recall, done.index.target)
    return done


def index_table(store: Store, space: SpaceRef, params: IndexParams, *, anew: bool = False) -> IndexRef:
    """As `index_space`; `anew` builds the index whatever is there."""
    rows = store.count(space.table)
    index = index_vectors(store, space.table, probes_of(store, space), params, anew=anew)
    refresh_full_text(store, space.table, fold_above=params.fold_above)
    return IndexRef(table=space.table, version=store.version(space.table), rows=rows, index=index)


def index_vectors(
    store: Store, table: str, probes: Sequence[tuple[Array, Filter | None]], params: IndexParams, *, anew: bool = False
) -> Index:
    """Index the vectors of a table, or bring its index to what is new, measured on `probes`."""
    kind = kind_for(store.count(table), params.exact_below) if params.kind == "auto" else params.kind
    known = None if anew else latest(store, f"index {table}", IndexRef)
    index = None
    if known is not None and _fits(known.index, kind, params):
        index = refresh_index(store, table, known.index, probes, fold_above=params.fold_above)
    if index is None:
        index = build_index(
            store, table, probes, kind=kind, metric=params.metric, target=params.recall_target,
            exact_below=params.exact_below,
        )  # fmt: skip
    return index


def _fits(index: Index, kind: Kind, params: IndexParams) -> bool:
    return (index.kind, index.metric, index.target) == (kind, params.metric, params.recall_target)


def probes_of(store: Store, space: SpaceRef) -> list[tuple[Array, Filter | None]]:
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
