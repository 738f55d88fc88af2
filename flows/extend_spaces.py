"""Bind further modalities to a space in force: its heads and vectors stay, bit for bit, beside the new ones."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.logging import get_run_logger

from config.params import PipelineParams
from config.settings import Settings
from flows.align_collections import ingested_before
from flows.assess import assess
from flows.context import at_work, cached, folder_exists, in_force
from flows.summaries import decision_artifact, duplicates_artifact, rounds_artifacts
from storage.spaces import read_json
from storage.workspace import Workspace
from tasks.carry import carry_items
from tasks.duplicates import check_duplicates
from tasks.encode import encoders_of
from tasks.fit import extend, to_bind
from tasks.index import index_space
from tasks.ingested import check_tables, collections_of, refs_of
from tasks.moments import project_moments
from tasks.project import project_items
from tasks.promote import promote_space
from tasks.refs import Aligned, Decision, EncoderRef, GroupReport, Ingested, SpaceRef


@flow(name="extend spaces", flow_run_name="extend {before.space.name}", persist_result=False)
def extend_spaces(
    params: PipelineParams,
    ingested: tuple[Ingested, ...],
    before: Aligned,
    encoded: tuple[EncoderRef, ...],
    strict: bool = False,  # noqa: FBT001, FBT002 - a flow's parameters are its form
) -> Aligned:
    """Bind what the encoders give beyond the space `before`, for the gate to judge."""
    name = before.space.name
    with at_work(f"extend {name}") as (_, workspace):
        refresh = params.refresh_cache
        collections = tuple(one.collection for one in ingested)
        groups = GroupReport.joined([one.groups for one in ingested])
        near = check_duplicates(workspace, name, collections, encoded, params.preprocess, refresh)
        get_run_logger().info("%s", duplicates_artifact(name, near))
        anew = to_bind(before.space, read_json(Path(before.space.path) / "config.json"), encoded)
        space: SpaceRef = cached(
            extend, workspace, before.space, collections, groups.digest, encoded, strict,
            valid=lambda space: folder_exists(space.path), refresh=refresh,
        )  # fmt: skip
        rounds_artifacts(space)
        carry_items(workspace, before.space, space, tuple(one for one in before.space.modalities if one not in anew))
        project_items(workspace, space, collections, encoded, refresh)
        index = index_space(workspace, space, params.index, refresh)
        project_moments(workspace, space, collections, encoded, params.index, refresh)
        return Aligned(
            space=space, index=index, collections=collections, encoded=encoded, groups=groups, mined=before.mined
        )


@flow(name="extend", flow_run_name="extend a space", persist_result=False)
def extend_published(
    params: PipelineParams, space: str | None = None, collections: tuple[str, ...] = ()
) -> tuple[Aligned, Decision]:
    """Bind the encoded modalities that a space in force lacks, of its own and of further collections; the gate judges.

    The encoders of its base are its own, those of the others the ones of the params.
    """
    with at_work("extend") as (settings, workspace):
        before = in_force(space)
        names = tuple(
            dict.fromkeys((*before.collections, *(collections_of(workspace, collections) if collections else ())))
        )
        encoded = _encoders(settings, workspace, params, before)
        ingested = tuple(ingested_before(workspace, name, encoded, params) for name in names)
        aligned = extend_spaces(params, ingested, before, encoded, strict=True)
        score = assess(params.assess, aligned, params.refresh_cache)
        decision = promote_space(workspace, aligned, params.gate, score.metrics["rsum"])
        decision_artifact(decision)
        return aligned, decision


def _encoders(
    settings: Settings, workspace: Workspace, params: PipelineParams, before: Aligned
) -> tuple[EncoderRef, ...]:
    """Those of the space, but for bound modalities those that the params name."""
    wanted = {name: given for name, given in encoders_of(params).items() if name not in before.space.base}
    found = refs_of(wanted, settings.device)
    check_tables(workspace.store, found)
    return (*(one for one in before.encoded if one.modality not in wanted), *found)
