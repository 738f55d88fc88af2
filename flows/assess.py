"""Evaluate a space on the groups it has not seen, and show the figures as artifacts."""

from __future__ import annotations

from prefect import flow

from config.params import PipelineParams
from flows.context import cached, folder_exists, here
from flows.summaries import score_artifacts
from tasks.refs import Aligned, ScoreRef
from tasks.score import evaluate_space


@flow(name="assess", flow_run_name="assess {aligned.space.name}", persist_result=False)
def assess(params: PipelineParams, aligned: Aligned) -> ScoreRef:
    """Measure hit rates, intervals, chance, the shuffled control and hubness of a fitted space."""
    _, workspace = here()
    score: ScoreRef = cached(
        evaluate_space,
        workspace,
        aligned.space,
        aligned.index,
        aligned.collections,
        aligned.encoded,
        aligned.groups,
        params.align,
        params.assess,
        valid=lambda done: folder_exists(aligned.space.path),
        refresh=params.refresh_cache,
    )
    score_artifacts(score)
    return score
