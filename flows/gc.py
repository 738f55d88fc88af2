"""Upkeep by itself: compaction, clean-up, expired spaces, old results and the history of old runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
)
from prefect.logging import get_run_logger

from config.params import KeepParams, PipelineParams
from flows.context import at_work
from storage import catalog
from storage.workspace import Workspace
from tasks.encode import tables_of
from tasks.refs import Upkeep
from tasks.upkeep import keep_up

FLOWS = (
    "update",
    "pipeline",
    "ingest",
    "align spaces",
    "extend spaces",
    "extend",
    "assess",
    "assess published",
    "assess answers",
    "gc",
    "plan",
    "finetune",
    "train lsa",
)
_PAGE = 200


@flow(name="gc", flow_run_name="gc", persist_result=False)
def gc(params: KeepParams, dry_run: bool = False) -> Upkeep:  # noqa: FBT001, FBT002 - a flow's parameters are its form
    """Free what the stated retention no longer keeps. A dry run tells what that would be, and changes nothing."""
    with at_work("gc") as (settings, workspace):
        done: Upkeep = keep_up(workspace, params, wanted_tables(workspace, settings.device), dry_run)
        if not dry_run:
            history_older(params.runs_days)
        for kind, freed in done.bytes.items():
            get_run_logger().info("%s: %.1f MB %s", kind, freed / 1e6, "would be freed" if dry_run else "freed")
        return done


def wanted_tables(workspace: Workspace, device: str) -> tuple[str, ...]:
    """Tables that the recorded collections are encoded into."""
    recorded = [PipelineParams.model_validate_json(row["params"]) for row in catalog.collections(workspace.store)]
    return tuple(dict.fromkeys(name for params in recorded for name in tables_of(params, device)))


@task(name="forget old runs", task_run_name="forget runs older than {days} days")
def history_older(days: int) -> int:
    """Delete the history of modalign's own runs that ended more than `days` days ago; give their number."""
    old = FlowRunFilter(end_time=FlowRunFilterEndTime(before_=datetime.now(UTC) - timedelta(days=days)))
    ours = FlowFilter(name=FlowFilterName(any_=list(FLOWS)))
    count = 0
    with get_client(sync_client=True) as client:
        while page := client.read_flow_runs(flow_filter=ours, flow_run_filter=old, limit=_PAGE):
            for run in page:
                client.delete_flow_run(run.id)
            count += len(page)
    return count
