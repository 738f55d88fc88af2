"""Deployments: config/prefect.yaml filled in for this machine and this workspace, and given to a Prefect server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, DeploymentFilterTags
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, get_current_settings
from pydantic import ValidationError

from config.errors import RunError, UserError
from config.settings import CONFIG_FILE, Settings
from flows.environment import LOGGERS
from flows.orphans import crash_dead

FILE = "prefect.yaml"
_START = "prefect server start"

LEASES = {"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem"}
"""A server with this setting still knows after a restart who was at work; without it, a run that a power cut ended
blocks the following ones for ever."""


@dataclass(frozen=True)
class Plan:
    """When and where runs of the deployments take place: all that the placeholders stand for."""

    settings: Settings
    home: Path
    pool: str
    cron: str
    timezone: str

    @property
    def file(self) -> Path:
        """The filled copy."""
        return self.settings.workspace / FILE

    def values(self) -> dict[str, str]:
        """What each placeholder stands for."""
        workspace = self.settings.workspace
        return {
            "workspace": str(workspace),
            "results": str(workspace / "results"),
            "home": str(self.home),
            "pool": self.pool,
            "cron": self.cron,
            "timezone": self.timezone,
            "loggers": LOGGERS,
        }


def plan_of(settings: Settings, pool: str, cron: str, timezone: str | None) -> Plan:
    """Plan for this directory; raises `UserError` for a cron line or a time zone that is none.

    A run works in this directory if our settings lie here (modalign.toml or .env), else in the workspace.
    """
    here = Path.cwd()
    home = here if any((here / name).is_file() for name in (CONFIG_FILE, ".env")) else settings.workspace
    zone = timezone or local_zone()
    try:
        CronSchedule(cron=cron, timezone=zone)
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"{cron!r} in {zone} is no schedule ({said})", 'for instance --cron "0 3 * * *"') from None
    return Plan(settings, home, pool, cron, zone)


def local_zone() -> str:
    """The name of this machine's time zone, so that 3 o'clock means 3 o'clock here."""
    from tzlocal import get_localzone_name

    return str(get_localzone_name() or "UTC")


def template() -> dict[str, Any]:
    """config/prefect.yaml as it is packaged."""
    loaded: dict[str, Any] = yaml.safe_load(files("config").joinpath(FILE).read_text(encoding="utf-8"))
    del loaded["definitions"]  # its parts stand where they are used
    return loaded


def rendered(plan: Plan) -> dict[str, Any]:
    """The deployments with every placeholder of ours filled in; those of Prefect's events stay.

    What the environment says of our settings goes along: a run has no other way to know it.
    """
    out: dict[str, Any] = filled(template(), plan.values())
    said = {name: os.environ[name] for name in _settings_named() if os.environ.get(name)}
    for one in out["deployments"]:
        variables = one["work_pool"]["job_variables"]
        variables["env"] = said | variables["env"]
    return out


def _settings_named() -> list[str]:
    apart = {"workspace", "token", "max_upload"}  # said apart; a secret of the server, which no run needs
    return [f"MODALIGN_{name.upper()}" for name in Settings.model_fields if name not in apart]


def filled(part: Any, values: Mapping[str, str]) -> Any:
    """A copy of a YAML tree with `{{ name }}` replaced where `values` knows the name.

    >>> filled({"a": ["{{ x }}/b", "{{ event.name }}"]}, {"x": "/c"})
    {'a': ['/c/b', '{{ event.name }}']}
    """
    if isinstance(part, dict):
        return {key: filled(one, values) for key, one in part.items()}
    if isinstance(part, list):
        return [filled(one, values) for one in part]
    if isinstance(part, str):
        for name, value in values.items():
            part = part.replace("{{ " + name + " }}", value)
    return part


def as_text(tree: Mapping[str, Any]) -> str:
    """The filled copy as YAML."""
    head = "# Filled in by `modalign deploy` from modalign's own config/prefect.yaml; the next one writes it anew.\n"
    text: str = yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True, width=120)
    return head + text


def server_url() -> str:
    """The API address of the server in use. Raises `UserError`, with how to start one, if none can be reached."""
    url: str | None = PREFECT_API_URL.value()
    if not url:
        raise UserError(
            "PREFECT_API_URL is not set, so there is no server to deploy to",
            f"start one in another terminal with `{_START}`, then here: "
            "export PREFECT_API_URL=http://127.0.0.1:4200/api",
        )
    if not reachable(url):
        raise UserError(
            f"no Prefect server answers at {url}",
            f"start one in another terminal with `{_START}`, or set PREFECT_API_URL to the one that runs",
        )
    return url


def reachable(url: str) -> bool:
    """Whether a Prefect server answers at an API address."""
    import httpx

    try:
        return httpx.get(f"{url.rstrip('/')}/health", timeout=10).json() is True
    except (httpx.HTTPError, ValueError):
        return False


def forgetful(url: str) -> list[str]:
    """What to do about a server that forgets, when it restarts, who was at work; nothing if it does not."""
    import httpx

    (name, wanted), *_ = LEASES.items()
    try:
        known = httpx.get(f"{url.rstrip('/')}/admin/settings", timeout=10).json()
        storage = known["server"]["concurrency"]["lease_storage"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return []
    said = "note: a power cut during an update would leave this server waiting for it for ever; once, before it starts:"
    return [] if storage == wanted else [f"{said} prefect config set {name}={wanted}"]


def make_pool(client: SyncPrefectClient, name: str) -> bool:
    """Make the process work pool if it is missing; whether it was. Raises `UserError` if it is of another kind."""
    from prefect.workers.process import ProcessWorker

    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        body = ProcessWorker.get_default_base_job_template()
        about = "Runs modalign's flows as processes of the machine where its worker is started."
        client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=body, description=about))
        return True
    if pool.type != "process":
        raise UserError(
            f"the work pool {name!r} is of type {pool.type}; modalign's runs are processes of this machine",
            "choose another name with --pool",
        )
    return False


def deploy(plan: Plan) -> list[str]:
    """Write the filled copy, make the pool, deploy all; give what was done, a line each."""
    url = server_url()
    tree = rendered(plan)
    plan.file.parent.mkdir(parents=True, exist_ok=True)
    plan.file.write_text(as_text(tree), encoding="utf-8")
    with get_client(sync_client=True) as client:
        crash_dead(client, plan.settings.workspace)
        made = make_pool(client, plan.pool)
        moved = [name for one in tree["deployments"] if (name := _elsewhere(client, one))]
    _prefect_deploy(plan)
    lines = [f"server {url}", f"work pool {plan.pool} ({'made' if made else 'was there'})"]
    lines += [f"{name} worked for another workspace and now works for this one" for name in moved]
    lines += forgetful(url)
    return lines + [f"deployed {one['name']}: {when(one)}" for one in tree["deployments"]]


def when(one: Mapping[str, Any]) -> str:
    """When a deployment runs, in words."""
    if schedules := one.get("schedules"):
        return f"at `{schedules[0]['cron']}`, {schedules[0]['timezone']} time"
    return "after each update" if one.get("triggers") else "when started by hand"


def _elsewhere(client: SyncPrefectClient, one: Mapping[str, Any]) -> str | None:
    """The deployment's name, if the server knows it for another workspace."""
    ours = DeploymentFilter(name=DeploymentFilterName(any_=[one["name"]]), tags=DeploymentFilterTags(all_=["modalign"]))
    for known in client.read_deployments(deployment_filter=ours):
        theirs = (known.job_variables or {}).get("env", {}).get("MODALIGN_WORKSPACE")
        if theirs not in (None, one["work_pool"]["job_variables"]["env"]["MODALIGN_WORKSPACE"]):
            return str(one["name"])
    return None


def _prefect_deploy(plan: Plan) -> None:
    """`prefect deploy --all` on the filled copy, from a directory that shadows none of our names."""
    words = [sys.executable, "-P", "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(plan.file)]
    known = get_current_settings().to_environment_variables(exclude_unset=True, include_secrets=True)
    done = subprocess.run(  # noqa: S603 - our own interpreter and file
        words, cwd=plan.file.parent, env=os.environ | known, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = " ".join((done.stderr.strip() or done.stdout.strip()).split()[-60:])
        raise RunError(f"Prefect refused the deployments: {said}", f"they stand in {plan.file}")
