"""Evaluate a space on the groups it has not seen, and show the figures as artifacts."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from config.params import AssessParams
from flows.context import at_work, cached, in_force
from flows.summaries import score_artifacts
from storage.spaces import read_json
from tasks.refs import Aligned, ScoreRef
from tasks.score import evaluate_space


def _stands(score: ScoreRef) -> bool:
    """Whether metrics.json still holds these figures: another split may have been measured since."""
    path = Path(score.path)
    return path.is_file() and read_json(path) == score.metrics


@flow(name="assess", flow_run_name="assess {aligned.space.name}", persist_result=False)
def assess(params: AssessParams, aligned: Aligned, refresh_cache: bool = False) -> ScoreRef:  # noqa: FBT001, FBT002 - a form
    """Measure hit rates, intervals, chance, the shuffled control and hubness of a fitted space."""
    with at_work(f"assess {aligned.space.name}") as (_, workspace):
        score: ScoreRef = cached(evaluate_space, workspace, aligned, params, valid=_stands, refresh=refresh_cache)
        score_artifacts(score)
        return score


@flow(name="assess published", flow_run_name="assess published {space}", persist_result=False)
def assess_published(params: AssessParams, space: str | None = None) -> ScoreRef:
    """Measure the space that is in force under a name; without a name the one published last."""
    return assess(params, in_force(space))
