"""Caption whole collections: every item without a text gets one, made from the captions of those most like it."""

from __future__ import annotations

import time

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from config.errors import UserError
from config.params import CaptionParams, GateParams, PipelineParams
from flows.context import at_work, in_force
from flows.live import live, tag_run
from flows.summaries import captions_artifact
from storage import catalog, generated
from storage.workspace import Workspace
from tasks.caption import method_of
from tasks.caption_items import caption_shard, plan_captions
from tasks.index import index_space
from tasks.project import project_items
from tasks.promote import promote_space
from tasks.refs import Aligned, Captioned


def _name() -> str:
    params: CaptionParams = flow_run.parameters["params"]
    return f"caption {', '.join(params.collections) or params.space or 'all'}"


@flow(name="caption collection", flow_run_name=_name, persist_result=False)
def caption_collection(params: CaptionParams, dry_run: bool = False) -> Captioned:  # noqa: FBT001, FBT002
    """Caption every item without a text, as text items of source generated; full text finds the items by them.

    What is captioned already under the same space and method is left alone. A `dry_run` only counts.
    """
    start = time.perf_counter()
    with at_work("caption") as (settings, workspace), live("caption"):
        aligned = in_force(params.space)
        method = method_of(aligned.space.space_id, params.generator)
        names = collections_in(aligned, params.collections)
        tag_run("caption", *names)
        plans = [
            plan_captions(workspace, name, aligned.index, method, params.shard_items, params.refresh) for name in names
        ]
        reports = [
            caption_shard(
                workspace, plan.collection, aligned.space, aligned.index, method, shard, settings.device,
                params.generator, params.refresh,
            )
            for plan in ([] if dry_run else plans)
            for shard in plan.shards
        ]  # fmt: skip
        if not dry_run:
            show_words(workspace, aligned)
        done = Captioned(
            space=aligned.space.name,
            method=method,
            pending={plan.collection: plan.pending for plan in plans},
            reports=tuple(reports),
            seconds=time.perf_counter() - start,
        )
        get_run_logger().info("%s", captions_artifact(done))
        return done


@flow(name="forget captions", flow_run_name="forget captions", persist_result=False)
def forget_captions(params: CaptionParams) -> Captioned:
    """Delete the captions that were generated for the collections of a space."""
    start = time.perf_counter()
    with at_work("forget captions") as (_, workspace):
        aligned = in_force(params.space)
        dropped = {name: generated.drop(workspace.store, name) for name in collections_in(aligned, params.collections)}
        show_words(workspace, aligned)
        return Captioned(space=aligned.space.name, method="", dropped=dropped, seconds=time.perf_counter() - start)


def collections_in(aligned: Aligned, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The collections of a space that are meant. Raises `UserError` for one that is not in it."""
    if unknown := sorted(set(wanted) - set(aligned.collections)):
        known = ", ".join(aligned.collections)
        raise UserError(f"the space {aligned.space.name} holds no collection {unknown[0]!r}", f"it holds {known}")
    return wanted or aligned.collections


def show_words(workspace: Workspace, aligned: Aligned) -> None:
    """Bring the words of the space's items to what is known now, and publish that."""
    project_items(workspace, aligned.space, aligned.collections, aligned.encoded)
    recorded = {row["name"]: row["params"] for row in catalog.collections(workspace.store)}
    params = PipelineParams.model_validate_json(recorded[aligned.collections[0]])
    now = aligned.model_copy(update={"index": index_space(workspace, aligned.space, params.index)})
    if now != aligned:
        promote_space(workspace, now, GateParams())
