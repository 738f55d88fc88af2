"""Bring a workspace to what its sources hold now, at a cost in proportion to what changed, with no gap in service."""

from __future__ import annotations

import time
from collections.abc import Sequence

from prefect import flow, tags
from prefect.events import emit_event
from prefect.logging import get_run_logger

from config.errors import UserError
from config.loading import load_profile, override
from config.params import PipelineParams, UpdateParams
from flows.align_spaces import align_spaces
from flows.assess import assess
from flows.context import at_work
from flows.extend_spaces import extend_spaces
from flows.gc import history_older
from flows.ingest import ingest
from flows.live import live, tag_run
from flows.runners import workers_of
from flows.summaries import update_artifacts, update_line
from flows.work import usage
from storage import catalog, schemas
from storage.marks import remember
from storage.promotions import history, manifest_of
from storage.workspace import Workspace
from tasks.encode import tables_of
from tasks.fit import extended_id, space_id_of
from tasks.index import index_space
from tasks.moments import project_moments
from tasks.project import project_items
from tasks.promote import promote_space
from tasks.refs import Aligned, EncoderRef, GroupReport, Ingested, Rate, SpaceUpdate, Updated
from tasks.staleness import assess_drift
from tasks.upkeep import keep_up

FINISHED = "modalign.update.finished"


@flow(name="update", flow_run_name="update {params.label}", persist_result=False)
def update(params: UpdateParams) -> Updated:
    """Rescan the recorded sources, encode what is pending, bring the spaces in force along, refit those that are due.

    Searches answer from the published versions meanwhile. A new space replaces one in force only through the gate.
    """
    start = time.perf_counter()
    with at_work(f"update {params.label}") as (settings, workspace), live("update"):
        plans, skipped = planned(workspace, params)
        for reason in skipped:
            get_run_logger().warning("%s", reason)
        spaces = spaces_of(workspace, plans)
        tag_run("update", *plans)
        with tags("update", *plans):
            with workers_of(settings):
                ingested = {
                    name: ingest(one, serving_of(spaces, name), params.verify, pending_only=True)
                    for name, one in plans.items()
                }
            updates = [_bring_along(workspace, space, plans, ingested, refit=params.refit) for space in spaces]
        keep = next(iter(plans.values())).keep
        used = tuple(name for one in plans.values() for name in tables_of(one, settings.device))
        upkeep = keep_up(workspace, keep, used) if params.upkeep and len(plans) == _recorded(workspace) else None
        if upkeep is not None:
            history_older(keep.runs_days)
        done = Updated(
            ingested=tuple(ingested.values()),
            spaces=tuple(updates),
            upkeep=upkeep,
            skipped=tuple(skipped),
            seconds=time.perf_counter() - start,
            usage=usage(),
        )
        update_artifacts(done)
        get_run_logger().info(update_line(done))
        encoding = sum(stage.wall_seconds for one in done.ingested for stage in one.stages) / settings.abreast
        remember(workspace.store, "seconds of an update", "", Rate(per_second=1 / max(done.seconds - encoding, 1)))
    for one in done.spaces:
        emit_event(
            event=FINISHED,
            resource={"prefect.resource.id": f"modalign.space.{one.name}", "prefect.resource.name": one.name},
            payload={"projected": one.projected.projected, "removed": one.projected.removed},
        )
    return done


def planned(workspace: Workspace, params: UpdateParams) -> tuple[dict[str, PipelineParams], list[str]]:
    """What is to be done with each recorded collection: as it was done last, but for what `params` say otherwise.

    The second part tells which collections cannot be rescanned. Raises `UserError` when none is left.
    """
    known = {row["name"]: row for row in catalog.collections(workspace.store)}
    if not known:
        raise UserError(f"the workspace {workspace.root} holds no collection", "run `modalign run SOURCE` first")
    unknown = sorted(set(params.collections) - known.keys())
    if unknown:
        raise UserError(f"there is no collection {unknown[0]!r}", f"known: {', '.join(sorted(known))}")
    plans, skipped = {}, []
    for name in params.collections or sorted(known):
        row = known[name]
        if row["uri"].startswith("frame:"):
            skipped.append(f"collection {name} came from a frame of another process and cannot be rescanned")
            continue
        base = PipelineParams.model_validate_json(row["params"])
        if params.profile is not None:
            base = load_profile(params.profile).model_copy(update={"columns": base.columns})
        base = base.model_copy(update={"source": row["uri"], "collection": name, "refresh_cache": params.refresh_cache})
        plans[name] = override(base, params.overrides)
    if not plans:
        raise UserError(skipped[0], "run the pipeline on the frame again")
    return plans, skipped


def _recorded(workspace: Workspace) -> int:
    return len(catalog.collections(workspace.store))


def spaces_of(workspace: Workspace, plans: dict[str, PipelineParams]) -> list[Aligned]:
    """The spaces in force that hold one of the collections."""
    names = sorted(workspace.store.strings(schemas.PUBLISHED, "name"))
    spaces = [Aligned.model_validate(manifest_of(workspace.store, name)) for name in names]
    return [one for one in spaces if set(one.collections) & plans.keys()]


def serving_of(spaces: Sequence[Aligned], collection: str) -> dict[str, tuple[str, ...]]:
    """Encoders of the spaces in force that hold a collection, by modality."""
    out: dict[str, tuple[str, ...]] = {}
    for space in spaces:
        if collection in space.collections:
            for one in space.encoded:
                out[one.modality] = tuple(dict.fromkeys((*out.get(one.modality, ()), one.encoder)))
    return out


def _refused_already(
    workspace: Workspace, now: Aligned, encoded: tuple[EncoderRef, ...], params: PipelineParams, *, extends: bool
) -> bool:
    """Whether the space that would be fitted is the one that the gate has refused last."""
    if (params.mine.train or params.align.generated) and not extends:
        return False  # what it is fitted on is not told by the known pairs
    entries = history(workspace.store, now.space.name)
    content = now.groups.digest
    would_be = (
        extended_id(now.space, content, encoded)
        if extends
        else space_id_of(now.space.name, content, encoded, params.align)
    )
    return bool(entries) and (entries[-1].event, entries[-1].space_id) == ("refused", would_be)


def _bring_along(
    workspace: Workspace,
    space: Aligned,
    plans: dict[str, PipelineParams],
    ingested: dict[str, Ingested],
    *,
    refit: bool,
) -> SpaceUpdate:
    """Bring one space in force to the new state of its collections; fit another where it is due."""
    lead = next(name for name in space.collections if name in plans)
    params = plans[lead]
    projected = project_items(workspace, space.space, space.collections, space.encoded, params.refresh_cache)
    index = index_space(workspace, space.space, params.index, params.refresh_cache)
    project_moments(workspace, space.space, space.collections, space.encoded, params.index, params.refresh_cache)
    parts = tuple(ingested[name] for name in space.collections if name in ingested)
    whole = len(parts) == len(space.collections)
    groups = GroupReport.joined([one.groups for one in parts]) if whole else space.groups
    now = space.model_copy(update={"index": index, "groups": groups})
    if now != space:
        promote_space(workspace, now, params.gate)
    wanted = _wanted(space, parts, whole=whole)
    stale = assess_drift(workspace, now, wanted, params.refit)
    extends = stale.extends and not refit
    due = refit or (params.refit.policy == "due" and stale.reasons)
    decision = None
    if due and whole and not _refused_already(workspace, now, wanted, params, extends=extends):
        if extends:
            candidate = extend_spaces(params, parts, now, wanted)
        else:
            candidate = align_spaces(params, parts, space.space.name)
        if candidate.space.space_id != space.space.space_id and not (extends and _heads(candidate) == _heads(now)):
            score = assess(params.assess, candidate, params.refresh_cache)
            decision = promote_space(workspace, candidate, params.gate, score.metrics["rsum"])
    return SpaceUpdate(name=space.space.name, projected=projected, aligned=now, staleness=stale, decision=decision)


def _wanted(space: Aligned, parts: tuple[Ingested, ...], *, whole: bool) -> tuple[EncoderRef, ...]:
    """The encoders that a space would have now; of modalities that only absent collections may have, its own."""
    found = Ingested.encoders(parts)
    there = {one.modality for one in found}
    return found if whole else (*found, *(one for one in space.encoded if one.modality not in there))


def _heads(space: Aligned) -> set[EncoderRef]:
    """What an extension may change: the encoders of the modalities that are in a space."""
    return {one for one in space.encoded if one.modality in space.space.modalities}
