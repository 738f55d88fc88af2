"""From embeddings to a published space: fit the heads, project all items, index, publish."""

from __future__ import annotations

from prefect import flow

from config.params import PipelineParams
from flows.context import cached, folder_exists, here
from tasks.align import fit
from tasks.index import index_space, publish_space
from tasks.mine import mine_pairs
from tasks.project import project_items
from tasks.refs import Aligned, GroupReport, IndexRef, Ingested, Projected, SpaceRef


@flow(name="align spaces", flow_run_name="align {name}", persist_result=False)
def align_spaces(params: PipelineParams, ingested: tuple[Ingested, ...], name: str) -> Aligned:
    """Fit a joint space named `name` on the known pairs of the ingested collections, and publish it."""
    _, workspace = here()
    refresh = params.refresh_cache
    collections = tuple(one.collection for one in ingested)
    groups = GroupReport.joined([one.groups for one in ingested])
    content = groups.digest
    encoded = ingested[0].encoded

    def fitted(mined: str) -> SpaceRef:
        return cached(
            fit, workspace, name, collections, content, encoded, params.align, mined,
            valid=lambda space: folder_exists(space.path), refresh=refresh,
        )  # fmt: skip

    space = fitted("")
    mined = 0
    if params.mine.method == "mutual":
        pairs = mine_pairs(workspace, space, collections, content, encoded, params.mine)
        mined = pairs.mined
        if params.mine.train and pairs.mined:
            space = fitted(pairs.digest)
    projected: Projected = cached(
        project_items, workspace, space, collections, content, encoded,
        valid=lambda done: workspace.store.count(done.table) == done.rows, refresh=refresh,
    )  # fmt: skip
    index: IndexRef = cached(
        index_space, workspace, space, projected, params.index,
        valid=lambda done: done.version <= workspace.store.version(done.table), refresh=refresh,
    )  # fmt: skip
    aligned = Aligned(space=space, index=index, collections=collections, encoded=encoded, groups=groups, mined=mined)
    return publish_space(workspace, aligned)
