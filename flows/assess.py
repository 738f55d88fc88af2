"""Evaluate a space on the groups it has not seen, and show the figures as artifacts."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from config.params import AssessParams
from flows.context import cached, here
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
    _, workspace = here()
    score: ScoreRef = cached(evaluate_space, workspace, aligned, params, valid=_stands, refresh=refresh_cache)
    score_artifacts(score)
    return score
