from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)

from flows.orphans import orphaned_servers
from storage.runs import runs
from tests.flows.processes import Command, here, sets
from tests.flows.runs import params_for
from tests.flows.test_cli import call
from tests.tiny import write_collection


def states(run_id: str) -> Counter[str]:
    """How many flow runs and task runs under a flow run, itself included, are in which state, by Prefect's word."""
    out: Counter[str] = Counter()
    with get_client(sync_client=True) as client:
        found = [client.read_flow_run(UUID(run_id))]
        while found:
            ids = [one.id for one in found]
            out.update(f"flow {one.state_name}" for one in found)
            tasks = client.read_task_runs(
                task_run_filter=TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=ids)), limit=200
            )
            out.update(f"task {one.state_name}" for one in tasks)
            found = client.read_flow_runs(
                flow_run_filter=FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=ids))
            )
    return out


def doctor(capsys: pytest.CaptureFixture[str], *words: str) -> list[tuple[str, str]]:
    """Level and text of what the doctor says of killed runs and servers; nothing may be wrong."""
    capsys.readouterr()
    assert call("doctor", "--json", *words) == 0
    checks: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["checks"]
    return [(one["level"], one["text"]) for one in checks if one["name"] == "runs"]


def begin(source: Path, root: Path, encoders: dict[str, tuple[str, ...]]) -> Command:
    """A run that is at work in its inner flow, and stopped there."""
    command = Command("run", str(source), *here(root), *sets(params_for(source, encoders)))
    command.wait_for("Task run 'preprocess")
    command.process.send_signal(signal.SIGSTOP)
    return command


@pytest.mark.slow
def test_killed_runs_are_found_and_closed(
    prefect_server: None,
    tiny_encoders: dict[str, tuple[str, ...]],
    workspace_env: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run killed by SIGKILL counts as running in Prefect until `doctor --fix` sets it, its inner flow and their open
    task runs to Crashed; the doctor names it before, and not after. What has ended well stays as it is.
    """
    source = write_collection(workspace_env.parent / "shapes", 30)
    with begin(source, workspace_env, tiny_encoders) as command:
        command.kill()
    marks = runs(workspace_env)
    assert {(run.pid, run.alive) for run in marks} == {(command.pid, False)}
    outer = next(run.run_id for run in marks if run.what.startswith("run "))
    before = states(outer)
    assert before["flow Running"] == 2
    label = f"`run {source}` (process {command.pid}, since {marks[0].since})"
    assert doctor(capsys) == [
        ("note", f"{label} was killed; Prefect may still call it running; modalign doctor --fix closes it")
    ]
    assert states(outer) == before
    ((level, text),) = doctor(capsys, "--fix")
    open_tasks = before["task Running"] + before["task Pending"]
    assert (level, text) == ("good", f"{label} was killed; set to Crashed: 2 flow runs, {open_tasks} task runs")
    after = states(outer)
    assert after["flow Crashed"] == 2
    assert after["task Crashed"] == open_tasks
    assert after["task Completed"] == before["task Completed"] > 0
    assert set(after) <= {"flow Crashed", "task Crashed", "task Completed"}
    assert doctor(capsys) == []
    assert runs(workspace_env) == []


@pytest.mark.slow
def test_a_run_at_work_is_left_alone(
    prefect_server: None,
    tiny_encoders: dict[str, tuple[str, ...]],
    workspace_env: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run whose process is there, though it does not move, is neither named nor closed, and ends well afterwards."""
    source = write_collection(workspace_env.parent / "shapes", 30)
    with begin(source, workspace_env, tiny_encoders) as command:
        (outer,) = [run.run_id for run in runs(workspace_env) if run.what.startswith("run ")]
        assert doctor(capsys, "--fix") == []
        assert states(outer)["flow Running"] == 2
        command.process.send_signal(signal.SIGCONT)
        assert command.end() == 0
    after = states(outer)
    assert after["flow Completed"] == 4  # the pipeline with its ingest, align and assess
    assert set(after) == {"flow Completed", "task Completed"}
    assert runs(workspace_env) == []


def test_a_run_that_this_server_does_not_know(
    prefect_server: None, workspace_env: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mark of a run on another Prefect server: `--fix` says that there is nothing here, and takes the mark away."""
    folder = workspace_env / "runs"
    folder.mkdir(parents=True)
    run_id = "00000000-0000-4000-8000-000000000000"
    mark = {"run_id": run_id, "what": "update photos", "pid": 1, "since": "2026-01-01 00:00:00 UTC"}
    (folder / f"{run_id}.json").write_text(json.dumps(mark))
    assert len(doctor(capsys)) == 1
    assert "nothing of it that counts as running" in doctor(capsys, "--fix")[0][1]
    assert doctor(capsys) == []


def test_a_server_that_cannot_be_reached(workspace_env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Prefect's server away `--fix` says so, exit code 1, and leaves the marks for the next time."""
    folder = workspace_env / "runs"
    folder.mkdir(parents=True)
    mark = {"run_id": "00000000-0000-4000-8000-000000000000", "what": "gc", "pid": 1, "since": "2026-01-01"}
    (folder / "one.json").write_text(json.dumps(mark))
    away = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_CLIENT_MAX_RETRIES": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "flows", "doctor", "--fix", "--json"],
        env=os.environ | away,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (found,) = [one for one in json.loads(done.stdout)["checks"] if one["level"] == "wrong"]
    assert "cannot be closed in Prefect" in found["text"]
    assert "start its server" in found["text"]
    assert len(runs(workspace_env)) == 1


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that Prefect has started a local server for; it says the server's number."""
    code = (
        "from prefect.server.api.server import SubprocessASGIServer\n"
        "server = SubprocessASGIServer()\n"
        "server.start()\n"
        "print(server.server_process.pid, flush=True)\n"
        "input()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PREFECT_HOME": str(tmp_path / "prefect")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.wait()


@pytest.mark.slow
def test_a_server_without_its_process_is_named_not_ended(
    owner: subprocess.Popen[str], workspace_env: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The local server of a living process is none of the doctor's business; after SIGKILL of that process the doctor
    names the server's number and how to end it, and does not end it, with --fix neither.
    """
    assert owner.stdout is not None
    server = psutil.Process(int(owner.stdout.readline()))
    try:
        assert server.pid not in {one.pid for one in orphaned_servers()}
        owner.kill()
        owner.wait()
        assert server.pid in {one.pid for one in orphaned_servers()}
        for words in ((), ("--fix",)):
            assert call("doctor", "--json", *words) == 0
            checks = json.loads(capsys.readouterr().out)["checks"]
            (text,) = [one["text"] for one in checks if one["text"].endswith(f"kill {server.pid}")]
            assert "left its local Prefect server" in text
            assert {one["level"] for one in checks if one["name"] == "server"} == {"note"}
            assert server.is_running()
            assert server.status() != psutil.STATUS_ZOMBIE
    finally:
        server.kill()
        psutil.wait_procs([server], timeout=30)
    assert server.pid not in {one.pid for one in orphaned_servers()}
