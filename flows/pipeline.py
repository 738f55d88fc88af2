"""The whole way, as a flow of flows: ingest → align → assess → promote."""

from __future__ import annotations

from prefect import flow

from config.params import PipelineParams
from flows.align_spaces import align_spaces
from flows.assess import assess
from flows.context import at_work
from flows.ingest import ingest
from flows.summaries import decision_artifact
from tasks.promote import promote_space
from tasks.refs import Outcome


@flow(name="pipeline", flow_run_name="pipeline {params.source}", persist_result=False)
def pipeline(params: PipelineParams) -> Outcome:
    """From a folder of media to a searchable joint space and an honest table of how well it ranks.

    A plain function too: `pipeline(PipelineParams(source="photos")).score.metrics["rsum"]`.
    """
    with at_work(f"run {params.source}") as (_, workspace):
        ingested = ingest(params)
        aligned = align_spaces(params, (ingested,), ingested.collection)
        score = assess(params.assess, aligned, params.refresh_cache)
        decision = promote_space(workspace, aligned, params.gate, score.metrics["rsum"])
        decision_artifact(decision)
        return Outcome(ingested=ingested, aligned=aligned, score=score, decision=decision)
