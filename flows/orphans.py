"""What killed processes left in Prefect: runs that still count as running, and local servers without their parent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psutil

from storage.runs import Run, runs
from storage.told import forget_now

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_SERVER = "prefect.server.api.server:create_app"
_EPHEMERAL = "PREFECT__SERVER_EPHEMERAL"  # in the environment of a server that Prefect starts for one process


@dataclass(frozen=True)
class Killed:
    """The runs of one process that is gone; the first of `runs` called the others."""

    runs: tuple[Run, ...]

    @property
    def label(self) -> str:
        """What it was, in words."""
        first = self.runs[0]
        return f"`{first.what}` (process {first.pid}, since {first.since})"


@dataclass(frozen=True)
class Server:
    """A Prefect server that was started for a process that is gone."""

    pid: int
    port: str
    since: str


def killed_runs(root: Path) -> list[Killed]:
    """What the marks in a workspace tell of processes that were killed, oldest first."""
    dead = [run for run in runs(root) if not run.alive]
    return [Killed(tuple(own)) for _, own in groupby(dead, key=lambda run: run.pid)]


def crash_dead(client: SyncPrefectClient, root: Path) -> list[str]:
    """Close in Prefect what killed processes left of a workspace's runs; a line for each process.

    A run that still counts as running holds its place under a concurrency limit.
    """
    return [close(client, one) for one in killed_runs(root)]


def close(client: SyncPrefectClient, killed: Killed) -> str:
    """Set what Prefect still calls running of these runs to Crashed, and take their marks away; say what was done.

    Their task runs and the flows that they called go with them. Raises what the client raises when its server cannot
    be reached: then the marks stay.
    """
    flows, tasks = 0, 0
    for run in killed.runs:
        for flow_run in _with_called(client, UUID(run.run_id)):
            tasks += _crash_tasks(client, flow_run.id, killed.label)
            if flow_run.state is not None and not flow_run.state.is_final():
                client.set_flow_run_state(flow_run.id, _crashed(killed.label), force=True)
                flows += 1
        run.path.unlink(missing_ok=True)
        forget_now(run.path.parent.parent, run.run_id)
    if not flows + tasks:
        return f"{killed.label} was killed; this Prefect server has nothing of it that counts as running"
    return f"{killed.label} was killed; set to Crashed: {flows} flow runs, {tasks} task runs"


def _with_called(client: SyncPrefectClient, run_id: UUID) -> Iterator[Any]:
    """A flow run and those that it called, at any depth; nothing if this server does not know it."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterParentFlowRunId

    found = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])))
    while found:
        yield from found
        parents = FlowRunFilterParentFlowRunId(any_=[one.id for one in found])
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parents))


def _crash_tasks(client: SyncPrefectClient, flow_run_id: UUID, label: str) -> int:
    from prefect.client.schemas.filters import (
        TaskRunFilter,
        TaskRunFilterFlowRunId,
        TaskRunFilterState,
        TaskRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    at_work = [StateType.RUNNING, StateType.PENDING, StateType.SCHEDULED]
    wanted = TaskRunFilter(
        flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run_id]),
        state=TaskRunFilterState(type=TaskRunFilterStateType(any_=at_work)),
    )
    found = client.read_task_runs(task_run_filter=wanted)  # few at once: tasks run one after the other
    for task_run in found:
        client.set_task_run_state(task_run.id, _crashed(label), force=True)
    return len(found)


def _crashed(label: str) -> Any:
    from prefect.states import Crashed

    return Crashed(message=f"{label} was killed; closed by modalign doctor --fix")


def orphaned_servers() -> list[Server]:
    """Local Prefect servers that were started for one process and outlived it. They are not ended here."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if _SERVER in words and process.environ().get(_EPHEMERAL) and not _has_parent(process):
                since = datetime.fromtimestamp(process.create_time(), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
                port = words[words.index("--port") + 1] if "--port" in words[:-1] else "unknown"
                found.append(Server(process.pid, port, since))
        except psutil.Error:  # it ended meanwhile, or is another user's
            continue
    return found


def _has_parent(process: psutil.Process) -> bool:
    """Whether the process that started it is there: one of the same user, running the same Python."""
    parent = process.parent()
    try:
        return parent is not None and parent.exe() == process.exe()
    except psutil.AccessDenied:  # the system's own, which takes in those without a parent
        return False
