"""From embeddings to a space that could be published: check for leaks, fit the heads, project all items, index."""

from __future__ import annotations

from prefect import flow
from prefect.logging import get_run_logger

from config.params import PipelineParams
from flows.context import at_work, cached, folder_exists
from flows.summaries import duplicates_artifact, mined_artifact, rounds_artifacts
from tasks.align import generated_mark
from tasks.duplicates import check_duplicates
from tasks.fit import fit
from tasks.index import index_space
from tasks.mine import mine_pairs
from tasks.moments import project_moments
from tasks.project import project_items
from tasks.refs import Aligned, GroupReport, Ingested, SpaceRef


@flow(name="align spaces", flow_run_name="align {name}", persist_result=False)
def align_spaces(params: PipelineParams, ingested: tuple[Ingested, ...], name: str) -> Aligned:
    """Fit a joint space named `name` on the known pairs of the ingested collections, for the gate to judge."""
    with at_work(f"align {name}") as (_, workspace):
        refresh = params.refresh_cache
        collections = tuple(one.collection for one in ingested)
        groups = GroupReport.joined([one.groups for one in ingested])
        content = groups.digest
        encoded = Ingested.encoders(ingested)

        near = check_duplicates(workspace, name, collections, encoded, params.preprocess, refresh)
        get_run_logger().info("%s", duplicates_artifact(name, near))

        made = generated_mark(workspace.store, collections) if params.align.generated else ""

        def fitted(mined: str) -> SpaceRef:
            return cached(
                fit, workspace, name, collections, content, encoded, params.align, mined, made,
                valid=lambda space: folder_exists(space.path), refresh=refresh,
            )  # fmt: skip

        space = fitted("")
        rounds_artifacts(space)
        mined = 0
        if params.mine.method == "mutual":
            pairs = mine_pairs(workspace, space, collections, encoded, params.mine, refresh)
            mined = pairs.mined
            get_run_logger().info("%s", mined_artifact(name, pairs))
            if params.mine.train and pairs.mined:
                space = fitted(pairs.digest)
        project_items(workspace, space, collections, encoded, refresh)
        index = index_space(workspace, space, params.index, refresh)
        project_moments(workspace, space, collections, encoded, params.index, refresh)
        return Aligned(space=space, index=index, collections=collections, encoded=encoded, groups=groups, mined=mined)
