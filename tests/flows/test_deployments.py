from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from prefect.artifacts import Artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import PREFECT_API_URL, temporary_settings

from config.errors import UserError
from config.params import AssessParams, UpdateParams
from config.settings import Settings
from flows import deployments, serving
from flows.assess import assess_published
from flows.live import live
from flows.pipeline import pipeline
from flows.update import update
from tasks.progress import progress
from tests.flows.runs import params_for
from tests.flows.test_cli import call
from tests.tiny import draw, write_collection

NAMES = {"update", "assess", "gc", "plan", "pipeline"}
FLOWS = {"update": "update", "assess": "assess published", "gc": "gc", "plan": "plan", "pipeline": "pipeline"}


@pytest.fixture
def plan(workspace_env: Path) -> deployments.Plan:
    """A plan for the workspace of the test."""
    return deployments.plan_of(Settings(), "pool of a test", "15 2 * * *", "Europe/Berlin")


@contextmanager
def server(url: str | None) -> Iterator[None]:
    """Another answer to where the Prefect server is."""
    with temporary_settings(
        {PREFECT_API_URL: url} if url else None, restore_defaults=None if url else {PREFECT_API_URL}
    ):
        yield


def known(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    """A deployment as the server has it."""
    return client.read_deployment_by_name(f"{FLOWS[name]}/{name}")


def await_that(found: Callable[[], Any], seconds: float = 40.0) -> Any:
    """What `found` gives as soon as it gives something."""
    end = time.monotonic() + seconds
    while not (out := found()) and time.monotonic() < end:
        time.sleep(0.5)
    return out


def test_the_packaged_file_holds_no_path_and_only_known_placeholders(plan: deployments.Plan) -> None:
    """config/prefect.yaml names nothing of a machine; each placeholder is filled in, but for those of the events."""
    text = yaml.safe_dump(deployments.template())
    assert not re.search(r"['\" ]/\w", text)
    asked = set(re.findall(r"\{\{ ([\w.$]+) \}\}", text))
    assert {name for name in asked if not name.startswith("event.")} == set(plan.values())
    filled = deployments.as_text(deployments.rendered(plan))
    assert set(re.findall(r"\{\{ ([\w.]+) \}\}", filled)) == {"event.resource.name"}


def test_the_filled_copy_is_valid_and_loads_from_anywhere(plan: deployments.Plan, tmp_path: Path) -> None:
    """Prefect's own model takes the filled copy; each module path gives its flow in a fresh process elsewhere."""
    from prefect.cli.deploy._models import PrefectYamlModel

    tree = yaml.safe_load(deployments.as_text(deployments.rendered(plan)))
    model = PrefectYamlModel.model_validate(tree)
    assert {one.name for one in model.deployments} == NAMES
    entrypoints = {one.name: one.entrypoint for one in model.deployments}
    assert all(re.fullmatch(r"flows\.\w+\.\w+", entrypoint or "") for entrypoint in entrypoints.values())
    for one in model.deployments:
        assert one.description
        assert one.tags == ["modalign", one.name]
        assert one.work_pool is not None
        env = one.work_pool.job_variables["env"]
        assert Path(env["MODALIGN_WORKSPACE"]).is_absolute()
        assert Path(env["PREFECT_RESULTS_LOCAL_STORAGE_PATH"]).parent == Path(env["MODALIGN_WORKSPACE"])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = "import json, sys; from prefect.flows import load_flow_from_entrypoint as load; "
    code += "print(json.dumps({name: load(at).name for name, at in json.loads(sys.argv[1]).items()}))"
    words = [sys.executable, "-c", code, json.dumps(entrypoints)]
    out = subprocess.run(words, cwd=elsewhere, capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == FLOWS


def test_a_run_works_where_our_settings_lie(
    workspace_env: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dry run needs no server and changes nothing; what the environment says of our settings goes along.

    The pull step is absolute: the workspace, or the folder of modalign.toml.
    """
    monkeypatch.setenv("MODALIGN_THREADS", "1")
    monkeypatch.setenv("MODALIGN_TOKEN", "a secret of the server")  # which no run needs
    with server(None):
        assert call("deploy", "--dry-run", "--cron", "15 2 * * *", "--timezone", "Asia/Tokyo", "--pool", "night") == 0
        shown = capsys.readouterr().out
        assert "a secret" not in shown
        tree = yaml.safe_load(shown)
        assert not workspace_env.exists()
        (step,) = tree["pull"]
        assert step == {"prefect.deployments.steps.set_working_directory": {"directory": str(workspace_env)}}
        first = tree["deployments"][0]
        assert first["schedules"] == [{"cron": "15 2 * * *", "timezone": "Asia/Tokyo"}]
        assert first["work_pool"]["name"] == "night"
        assert first["work_pool"]["job_variables"]["env"]["MODALIGN_THREADS"] == "1"
        Path("modalign.toml").write_text("[settings]\n")
        assert call("deploy", "--dry-run", "--json") == 0
        again = json.loads(capsys.readouterr().out)["deploy"]
        (step,) = again["pull"]
        assert step["prefect.deployments.steps.set_working_directory"]["directory"] == str(Path.cwd())


def test_what_cannot_be_deployed_is_one_line(workspace_env: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cron line or zone that is none, both schedules at once, no server, one that does not answer: exit code 2."""
    nowhere = "http://127.0.0.1:9/api"
    mistakes: list[tuple[list[str], str | None, str]] = [
        (["deploy", "--cron", "every night"], nowhere, "'every night'"),
        (["deploy", "--timezone", "Mars"], nowhere, "Mars"),
        (["deploy"], None, "`prefect server start`"),
        (["deploy"], nowhere, f"no Prefect server answers at {nowhere}"),
        (["schedule"], nowhere, "`prefect server start`"),
        (["schedule", "--cron", "0 3 * * *", "--every", "60"], nowhere, "one of them"),
        (["schedule", "--every", "0"], nowhere, "--every 0"),
    ]
    for words, url, part in mistakes:
        with server(url):
            assert call(*words) == 2, words
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert part in lines[0]


def test_deploying_twice_leaves_one_of_each(
    prefect_server: None, workspace_env: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All deployments stand on the server, with schedule, limit, trigger, pool and paths; a second time replaces them.

    A pool of another kind is refused.
    """
    assert call("deploy", "--cron", "1 1 * * *", "--timezone", "UTC") == 0
    assert call("deploy", "--cron", "15 2 * * *", "--timezone", "Europe/Berlin") == 0
    shown = capsys.readouterr().out
    assert "prefect worker start --pool modalign" in shown
    assert (workspace_env / "prefect.yaml").is_file()
    with get_client(sync_client=True) as client:
        assert client.read_work_pool("modalign").type == "process"
        assert {one.name for one in client.read_deployments()} == NAMES
        for name in NAMES:
            one = known(client, name)
            assert one.work_pool_name == "modalign"
            assert one.pull_steps == [
                {"prefect.deployments.steps.set_working_directory": {"directory": str(workspace_env)}}
            ]
            env = one.job_variables["env"]
            assert env["MODALIGN_WORKSPACE"] == str(workspace_env)
            assert env["PREFECT_RESULTS_LOCAL_STORAGE_PATH"] == str(workspace_env / "results")
        nightly = known(client, "update")
        (schedule,) = nightly.schedules
        assert (schedule.schedule.cron, schedule.schedule.timezone, schedule.active) == (
            "15 2 * * *", "Europe/Berlin", True,
        )  # fmt: skip
        assert nightly.global_concurrency_limit is not None
        assert nightly.global_concurrency_limit.limit == 1
        assert nightly.concurrency_options is not None
        assert nightly.concurrency_options.collision_strategy == "CANCEL_NEW"
        (automation,) = client._client.post("/automations/filter", json={}).json()
        assert automation["trigger"]["expect"] == ["modalign.update.finished"]
        (action,) = automation["actions"]
        assert action["deployment_id"] == str(known(client, "assess").id)
        from prefect.client.schemas.actions import WorkPoolCreate

        client.create_work_pool(WorkPoolCreate(name="boats", type="docker"))
        with pytest.raises(UserError, match="docker"):
            deployments.make_pool(client, "boats")


def test_the_event_of_an_update_calls_for_an_assessment(
    prefect_server: None, tiny_encoders: dict[str, tuple[str, ...]], workspace_env: Path
) -> None:
    """After a deployed trigger has seen an update finish, a run of assess waits, for the space that was brought along.

    The update leaves every artifact under its key, and its runs bear the collection's name.
    """
    source = write_collection(workspace_env.parent / "shapes", 40)
    (source / "broken.png").write_text("no picture")
    with (source / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({"file_name": "broken.png", "caption": "broken"}) + "\n")
    params = params_for(source, tiny_encoders)
    pipeline(params)
    plan = deployments.plan_of(Settings(), "", "0 3 * * *", "UTC")
    for one in serving.to_serve(plan):
        one.apply()
    picture, words = draw(70)
    picture.save(source / "0070.png")
    with (source / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({"file_name": "0070.png", "caption": words}) + "\n")
    state = update(UpdateParams(refit=True), return_state=True)
    run_id = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        assess = DeploymentFilter(name=DeploymentFilterName(any_=["assess"]))
        (called,) = await_that(lambda: client.read_flow_runs(deployment_filter=assess))
        assert called.parameters == {"params": {}, "space": "shapes"}
        run = client.read_flow_run(run_id)
        assert {"update", "shapes"} <= set(run.tags)
        below = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run_id]))
        assert all({"update", "shapes"} <= set(one.tags) for one in client.read_flow_runs(flow_run_filter=below))
        own = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id])))
        assert {"progress-update", "update", "promotion-shapes"} <= {one.key for one in own}
    metrics = assess_published(AssessParams(draws=100, controls=3), "shapes").metrics
    found = {key: Artifact.get(key) for key in (
        "progress-update", "update", "ingest-shapes", "quarantine-shapes", "metrics-shapes", "headline-shapes",
        "promotion-shapes", "gallery-shapes")}  # fmt: skip
    artifacts = {key: one for key, one in found.items() if one is not None}
    assert artifacts.keys() == found.keys()
    assert float(artifacts["progress-update"].data) == 100
    rows = json.loads(artifacts["metrics-shapes"].data)
    assert {"direction", "metric", "value", "change"} <= rows[0].keys()
    assert f"rsum {metrics['rsum']:.1f}" in artifacts["metrics-shapes"].description
    (fault,) = json.loads(artifacts["quarantine-shapes"].data)
    assert (fault["what"], fault["reason"]) == ("broken.png", "not_an_image")
    sheet = base64.b64decode(artifacts["gallery-shapes"].data.removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(sheet)).size == (608, 446)
    assert (workspace_env / "reports" / "gallery-shapes.png").read_bytes() == sheet
    before = artifacts["gallery-shapes"].id
    assess_published(AssessParams(draws=100, controls=3), "shapes")
    again = Artifact.get("gallery-shapes")
    assert again is not None
    assert again.id == before  # the same pictures are not stored twice


def test_a_schedule_serves_one_run_at_a_time(
    prefect_server: None, plan: deployments.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A schedule serves update, assess and gc from one process: limit 1, no pool, no two updates, cron or interval.

    Of the updates that nobody ran in time one is left.
    """
    served: list[Any] = []
    monkeypatch.setattr(serving, "serve", lambda *all_of_them, **how: served.append((all_of_them, how)))
    every = serving.to_serve(plan, 60)
    by_cron = {one.name: one for one in serving.to_serve(plan)}
    assert by_cron.keys() == set(serving.SERVED)
    (schedule,) = by_cron["update"].schedules or ()
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("15 2 * * *", "Europe/Berlin")
    (schedule,) = every[0].schedules or ()
    assert schedule.schedule.interval == timedelta(seconds=60)
    assert all(one.paused is False and one.work_pool_name is None for one in every)
    assert every[0].concurrency_limit == 1
    assert every[0].concurrency_options is not None
    assert every[0].concurrency_options.collision_strategy == "CANCEL_NEW"
    id_of_update = every[0].apply()
    with get_client(sync_client=True) as client:
        client._client.post(
            f"/deployments/{id_of_update}/schedule",
            json={
                "start_time": (datetime.now(UTC) - timedelta(minutes=5)).isoformat(),
                "end_time": (datetime.now(UTC) - timedelta(seconds=30)).isoformat(),
            },
        ).raise_for_status()
        of_update = DeploymentFilter(name=DeploymentFilterName(any_=["update"]))
        late = client.read_flow_runs(deployment_filter=of_update)
        assert len(late) > 2
        serving.serve_here(every, plan.settings.workspace)
        (left,) = client.read_flow_runs(deployment_filter=of_update)
    assert left.expected_start_time == max(one.expected_start_time for one in late if one.expected_start_time)
    ((all_of_them, how),) = served
    assert list(all_of_them) == every
    assert how["limit"] == 1


def test_the_progress_of_a_stage_is_seldom_written(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a stage reports, its artifact is written at most every two seconds, and says done at the end."""
    from prefect import flow

    import flows.live

    written: list[tuple[float, str]] = []
    monkeypatch.setattr(flows.live, "update_progress_artifact", lambda _id, share, text: written.append((share, text)))
    clock = iter(range(1_000_000))
    monkeypatch.setattr(flows.live.time, "monotonic", lambda: next(clock) / 100)

    @flow
    def work() -> None:
        with live("test"), live("inside"), progress("count", 1_000) as advance:
            for _ in range(1_000):
                advance(1)

    work()
    assert len(written) < 20
    assert written[0][1].startswith("count: ")
    assert [share for share, _ in written[:-2]] == sorted(share for share, _ in written[:-2])
    assert written[-1] == (100.0, written[-1][1])
    assert written[-1][1].startswith("done in ")
