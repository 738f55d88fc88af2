"""A schedule on one machine: Prefect's `serve`, in one process, with a server of its own where none runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prefect import serve
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import ConcurrencyLimitConfig, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.schedules import Cron, Interval, Schedule
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_API_PORT, temporary_settings
from prefect.states import Crashed

from config.errors import RunError
from flows.deployments import LEASES, Plan, reachable, rendered, server_url
from flows.orphans import crash_dead

SERVED = ("update", "assess", "gc")
_START_SECONDS = 120.0
_SUBMITTING = timedelta(minutes=10)


def to_serve(plan: Plan, every: float | None = None) -> list[RunnerDeployment]:
    """The deployments that one process serves; update by the plan's cron line, or every so many seconds."""
    out = []
    for one in rendered(plan)["deployments"]:
        if one["name"] not in SERVED:
            continue
        deployment = RunnerDeployment.from_entrypoint(
            entrypoint=one["entrypoint"],
            name=one["name"],
            description=one["description"],
            tags=one["tags"],
            parameters=one["parameters"],
            schedule=_schedule(plan, every) if "schedules" in one else None,
            concurrency_limit=ConcurrencyLimitConfig(**one["concurrency_limit"]),
            triggers=[DeploymentEventTrigger(**trigger) for trigger in one.get("triggers", ())],
            paused=False,
        )
        deployment.work_pool_name = None  # said, so that a worker's pool loses it
        out.append(deployment)
    return out


def _schedule(plan: Plan, every: float | None) -> Schedule:
    return Cron(plan.cron, timezone=plan.timezone) if every is None else Interval(every, timezone=plan.timezone)


def serve_here(deployments: Sequence[RunnerDeployment], workspace: Path) -> None:
    """Serve until stopped, one run at a time; then the schedules pause."""
    with get_client(sync_client=True) as client:
        crash_dead(client, workspace)
        crash_unbegun(client)
        forget_late(client)
    serve(*deployments, limit=1, print_starting_message=False)


def crash_unbegun(client: SyncPrefectClient) -> int:
    """Mark as crashed what was submitted ten minutes ago and has not begun: who submitted it is gone; give the number.

    A run that counts as submitted holds its place, and those after it would be turned away.
    """
    submitted = client.read_flow_runs(
        deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=["modalign"])),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PENDING]))),
        limit=200,
    )
    early = datetime.now(UTC) - _SUBMITTING
    dead = [run for run in submitted if run.state is not None and run.state.timestamp < early]
    for run in dead:
        client.set_flow_run_state(run.id, Crashed(message="It was submitted and has never begun."), force=True)
    return len(dead)


def forget_late(client: SyncPrefectClient) -> int:
    """Of the updates that nobody ran in time, delete all but the newest: one catches up; give their number."""
    late = client.read_flow_runs(
        deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=["update"])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=200,
    )
    mine = [run for run in late if run.auto_scheduled]
    for run in mine[1:]:
        client.delete_flow_run(run.id)
    return len(mine[1:])


@contextmanager
def server_for(log: Path) -> Iterator[str]:
    """The API address of the server that PREFECT_API_URL names, or else of one on this machine alone.

    One that runs already is used; without any, one is started, and ended afterwards. `log` keeps what it says.
    """
    if PREFECT_API_URL.value():
        yield server_url()
        return
    url = f"http://127.0.0.1:{PREFECT_SERVER_API_PORT.value()}/api"
    with temporary_settings({PREFECT_API_URL: url}):
        if reachable(url):
            yield url
            return
        server = _started(log)
        try:
            _await(server, url, log)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def _started(log: Path) -> subprocess.Popen[bytes]:
    port = str(PREFECT_SERVER_API_PORT.value())
    words = [sys.executable, "-P", "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    log.parent.mkdir(parents=True, exist_ok=True)
    env = LEASES | os.environ
    with log.open("ab") as file:
        # a session of its own: Ctrl-C is for the schedule, which still tells the server that it pauses
        return subprocess.Popen(words, stdout=file, stderr=file, env=env, start_new_session=True)  # noqa: S603


def _await(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while not reachable(url):
        if server.poll() is not None or time.monotonic() > end:
            raise RunError(f"Prefect's server did not start at {url}", f"see {log}; PREFECT_SERVER_API_PORT moves it")
        time.sleep(0.5)
