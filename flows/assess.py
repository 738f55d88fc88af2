"""Evaluate a space on the groups it has not seen, and show the figures as artifacts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, tags
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from config.params import AssessParams
from flows.context import at_work, cached, in_force
from flows.gallery import gallery_artifact
from flows.live import tag_run
from flows.reporting import assess_report
from flows.summaries import score_artifacts, slices_artifact
from storage.promotions import manifest_of
from storage.spaces import CALIBRATION, read_json
from storage.tables import Store
from tasks.refs import Aligned, ScoreRef
from tasks.score import evaluate_space


def _stands(score: ScoreRef) -> bool:
    """Whether metrics.json still holds these figures: another split may have been measured since."""
    path = Path(score.path)
    return path.with_name(CALIBRATION).is_file() and path.is_file() and read_json(path) == score.metrics


@flow(name="assess", flow_run_name="assess {aligned.space.name}", persist_result=False)
def assess(params: AssessParams, aligned: Aligned, refresh_cache: bool = False) -> ScoreRef:  # noqa: FBT001, FBT002 - a form
    """Measure hit rates, intervals, chance, the shuffled control and hubness of a fitted space."""
    with at_work(f"assess {aligned.space.name}") as (_, workspace):
        before = _before(workspace.store, aligned.space.name)
        score: ScoreRef = cached(evaluate_space, workspace, aligned, params, valid=_stands, refresh=refresh_cache)
        get_run_logger().info(score_artifacts(score, before))
        slices_artifact(score)
        gallery_artifact(workspace, aligned, score.split)
        get_run_logger().info("report: %s", assess_report(workspace, aligned, score).path)
        return score


def _before(store: Store, name: str) -> dict[str, Any] | None:
    """The figures of the space in force under a name as they were measured last; None where there are none."""
    manifest = manifest_of(store, name)
    path = Path(manifest["space"]["path"]) / "metrics.json" if manifest is not None else None
    try:
        return None if path is None else read_json(path)
    except (OSError, ValueError):
        return None


def _name() -> str:
    return f"assess {flow_run.parameters['space'] or 'what was published last'}, in force"


@flow(name="assess published", flow_run_name=_name, persist_result=False)
def assess_published(params: AssessParams, space: str | None = None) -> ScoreRef:
    """Measure the space that is in force under a name; without a name the one published last."""
    aligned = in_force(space)
    tag_run(*aligned.collections)
    with tags(*flow_run.tags, *aligned.collections):
        return assess(params, aligned)
