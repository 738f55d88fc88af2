"""Fit a space on collections that are ingested already: nothing is scanned, an item without a vector is left out."""

from __future__ import annotations

from prefect import flow

from config.params import PipelineParams
from config.settings import Settings
from flows.align_spaces import align_spaces
from flows.context import at_work
from storage import catalog
from storage.workspace import Workspace
from tasks.encode import encoders_of
from tasks.grouping import group_collection
from tasks.ingested import check_tables, collections_of, refs_of
from tasks.promote import promote_space
from tasks.refs import Aligned, Decision, EncoderRef, Ingested


@flow(name="align collections", flow_run_name="align collections", persist_result=False)
def align_collections(params: PipelineParams, names: tuple[str, ...], space: str | None) -> tuple[Aligned, Decision]:
    """Fit a space on the named collections, or on the one ingested last, and let the gate judge it."""
    with at_work("align") as (settings, workspace):
        return _align(settings, workspace, params, names, space)


def _align(
    settings: Settings, workspace: Workspace, params: PipelineParams, names: tuple[str, ...], space: str | None
) -> tuple[Aligned, Decision]:
    chosen = collections_of(workspace, names)
    encoded = refs_of(encoders_of(params), settings.device)
    check_tables(workspace.store, encoded)
    ingested = tuple(ingested_before(workspace, name, encoded, params) for name in chosen)
    aligned = align_spaces(params, ingested, space or "+".join(chosen))
    return aligned, promote_space(workspace, aligned, params.gate)


def ingested_before(
    workspace: Workspace, name: str, encoded: tuple[EncoderRef, ...], params: PipelineParams
) -> Ingested:
    """The reference that an ingest of the collection gave, made anew from the tables."""
    read = params.preprocess
    groups = group_collection(workspace, name, seed=read.split_seed, share=read.heldout_share)
    return Ingested(
        collection=name,
        content=groups.digest,
        encoded=encoded,
        rows=0,
        groups=groups,
        quarantined=catalog.count_quarantined(workspace.store, name),
        stages=(),
        seconds=0.0,
    )
